// Actions on a job: rename, cancel, delete.

import { cancelJob, deleteJob, Problem } from "./api.js";
import { announce, byId } from "./dom.js";
import { hasEnded } from "./follow.js";
import { editNaming } from "./naming.js";
import { forget } from "./session.js";
import { tellDeleted } from "./tabs.js";

export class JobActions {
  /**
   * @param {object} events
   * @param {(job: any) => void} events.onJob the job as it is then
   * @param {() => void} events.onGone it is deleted
   * @param {(problem: Problem) => void} events.onProblem
   */
  constructor(events) {
    this.events = events;
    /** @type {any} */
    this.job = null;
    byId("name-job").onclick = () => this.#change(editNaming);
    byId("cancel-job").onclick = () => this.#change(({ id }) => cancelJob(id));
    byId("delete-job").onclick = () => this.#delete();
  }

  /** @param {any} job */
  show(job) {
    this.job = job;
    byId("job-actions").hidden = false;
    byId("cancel-job").hidden = hasEnded(job);
  }

  hide() {
    this.job = null;
    byId("job-actions").hidden = true;
  }

  /** @param {(job: any) => Promise<any>} change */
  async #change(change) {
    try {
      const job = await change(this.job);
      if (job && job.id === this.job?.id) this.events.onJob(job);
    } catch (error) {
      if (error instanceof Problem) this.events.onProblem(error);
    }
  }

  async #delete() {
    const { id } = this.job;
    if (!confirm("Delete this job, with its results and its video?")) return;
    try {
      await deleteJob(id);
      forget(id);
      tellDeleted(id);
      announce("Deleted.");
      this.events.onGone();
    } catch (error) {
      if (error instanceof Problem) this.events.onProblem(error);
    }
  }
}
