// One job: its head, the picture, the values, the lanes, and what can be taken away.

import { cancelJob, deleteJob, getJob, Problem } from "./api.js";
import { announce, byId, make, swatch } from "./dom.js";
import { follow } from "./follow.js";
import { JobHead } from "./job-head.js";
import { handleKey } from "./keys.js";
import { Lanes } from "./lanes.js";
import { loadMembers, memberName, memberNote } from "./members.js";
import { coloursOf } from "./page-settings.js";
import { Records } from "./records.js";
import { forget } from "./session.js";
import { Stage } from "./stage.js";
import { TakeAway } from "./takeaway.js";
import { Values } from "./values.js";
import { percent, preciseClock } from "./words.js";

/** @typedef {import("./records.js").Records} RecordsOfJob */

export class JobView {
  /** @param {{onGone: () => void}} events */
  constructor(events) {
    this.events = events;
    const onTrack = (/** @type {number} */ trackId) => this.#choose(trackId);
    const onProblem = (/** @type {Problem} */ problem) => this.#problem(problem);
    const onFiles = () => this.head.show(this.job);
    this.stage = new Stage({ onTime: (time) => this.#time(time), onTrack, onFiles, onProblem });
    this.lanes = new Lanes({ onSeek: (time) => this.#seek(time), onTrack });
    this.values = new Values({ onTrack });
    this.takeAway = new TakeAway(onProblem);
    this.head = new JobHead();
    /** @type {any} */
    this.job = null;
    /** @type {RecordsOfJob | null} */
    this.records = null;
    this.source = 0;
    /** @type {number | null} */
    this.chosen = null;
    this.picked = false; // the track by the reader, not by us
    /** @type {AbortController | null} */
    this.following = null;
    byId("cancel-job").onclick = () => this.#cancel();
    byId("delete-job").onclick = () => this.#delete();
    document.addEventListener("keydown", (event) => {
      if (this.job && !byId("job-view").hidden) handleKey(event, this.stage, this.lanes);
    });
  }

  /** @param {string} jobId */
  async open(jobId) {
    this.close();
    const following = (this.following = new AbortController());
    this.#clear();
    this.head.clear(jobId);
    try {
      const [job] = await Promise.all([getJob(jobId, following.signal), loadMembers()]);
      this.stage.open(job);
      this.#show(job);
      const listener = {
        onJob: (/** @type {any} */ now) => this.#show(now),
        onFrames: (/** @type {any[]} */ frames) => this.#append(frames),
        onRestart: () => this.#restart(),
        onProblem: (/** @type {Problem} */ problem) => this.#problem(problem),
      };
      await follow(jobId, listener, following.signal);
    } catch (error) {
      if (error instanceof Problem) this.#problem(error);
      else if (!following.signal.aborted) throw error;
    }
  }

  close() {
    this.following?.abort();
    this.following = null;
    this.job = null;
    this.records = null;
    this.stage.close();
    this.lanes.records = null;
  }

  #clear() {
    this.source = 0;
    this.chosen = null;
    this.picked = false;
    for (const id of ["job-body", "now", "timeline"]) byId(id).hidden = true;
  }

  /** @param {any} job */
  #show(job) {
    this.job = job;
    this.head.show(job);
    byId("job-body").hidden = job.state === "failed" && !job.progress.frames_done;
    if (job.labels && !this.records) this.#begin(job.labels);
    this.stage.update(job);
    this.takeAway.show(job);
  }

  /** @param {string[]} labels */
  async #begin(labels) {
    const records = (this.records = new Records(labels));
    const colours = await coloursOf(labels);
    if (this.records !== records) return;
    byId("now").hidden = byId("timeline").hidden = false;
    this.stage.show(records, colours);
    this.values.show(records, colours);
    this.lanes.show(records, colours);
    byId("legend").replaceChildren(...labels.map((label, k) => make("li", {}, swatch(colours[k]), label)));
    this.#sources();
    this.#update();
  }

  /** @param {any[]} frames */
  #append(frames) {
    const { records } = this;
    if (!records) return;
    const known = records.members.length;
    records.append(frames);
    if (records.members.length !== known) this.#sources();
    if (!this.picked) this.chosen = longest(records, records.frameAt(this.stage.time)) ?? this.chosen;
    this.lanes.more();
    this.stage.more();
    this.#update();
  }

  #restart() {
    if (this.job?.labels) this.#begin(this.job.labels);
    announce("The worker stopped. Another begins again.");
  }

  /** The switch between the ensemble and its members. */
  #sources() {
    const members = this.records?.members ?? [];
    const names = members.length > 1 ? ["Together", ...members.map(memberName)] : [];
    byId("sources").hidden = names.length === 0;
    const choices = names.map((name, source) => {
      const input = make("input", { type: "radio", name: "source", value: source, checked: source === this.source });
      input.addEventListener("change", () => this.#setSource(source));
      const note = source ? memberNote(members[source - 1]) : "all models, weighted";
      return make("label", { title: note }, input, make("span", { text: name }));
    });
    byId("source-choices").replaceChildren(...choices);
  }

  /** @param {number} source */
  #setSource(source) {
    this.source = source;
    this.stage.source = source;
    this.lanes.setSource(source);
    this.stage.draw();
    this.#update();
  }

  /** @param {number} trackId */
  #choose(trackId) {
    this.chosen = trackId;
    this.picked = true;
    this.stage.draw();
    this.#update();
  }

  /** @param {number} time */
  #seek(time) {
    const { records, stage } = this;
    const position = records?.frameAt(time) ?? -1;
    if (records && position >= 0 && time < records.end) stage.seekFrame(position);
    else stage.seek(time);
  }

  /** @param {number} time */
  #time(time) {
    const { records } = this;
    this.lanes.setTime(time);
    if (records && !this.picked) this.chosen = longest(records, records.frameAt(time)) ?? this.chosen;
    this.#update();
  }

  /** Show the values of this moment. */
  #update() {
    const { records, stage } = this;
    const position = records?.frameAt(stage.time) ?? -1;
    stage.chosen = this.chosen;
    this.lanes.setEnd(stage.duration);
    this.lanes.choose(this.chosen);
    this.values.update(position, this.chosen, this.source);
    const slider = byId("lanes");
    slider.setAttribute("aria-valuemax", stage.duration.toFixed(2));
    slider.setAttribute("aria-valuenow", stage.time.toFixed(2));
    slider.setAttribute("aria-valuetext", this.#spoken(position));
  }

  /** @param {number} position */
  #spoken(position) {
    const { records, chosen } = this;
    const time = preciseClock(this.stage.time);
    const face = records && chosen !== null ? records.faceOf(chosen, position) : -1;
    if (!records || face < 0) return `${time}, no face`;
    const label = records.best(face, this.source);
    const value = records.score(face, this.source, label);
    return `${time}, face ${chosen}: ${records.labels[label]} ${percent(value)}`;
  }

  /** @param {Problem} problem */
  #problem(problem) {
    this.head.problem(problem);
    if (problem.status === 404 || problem.status === 410) byId("job-body").hidden = true;
  }

  async #cancel() {
    try {
      this.#show(await cancelJob(this.job.id));
    } catch (error) {
      if (error instanceof Problem) this.#problem(error);
    }
  }

  async #delete() {
    const { id } = this.job;
    if (!confirm("Delete this job, with its results and its video?")) return;
    try {
      await deleteJob(id);
      forget(id);
      announce("Deleted.");
      this.events.onGone();
    } catch (error) {
      if (error instanceof Problem) this.#problem(error);
    }
  }
}

/**
 * Of the faces of a frame, the one that is seen longest; null where there is none.
 * @param {RecordsOfJob} records
 * @param {number} position
 */
function longest(records, position) {
  if (position < 0) return null;
  const [first, end] = records.facesOf(position);
  let found = null;
  let most = 0;
  for (const id of records.trackIds.data.subarray(first, end)) {
    const length = records.tracks.get(id)?.length ?? 0;
    if (length > most) [found, most] = [id, length];
  }
  return found;
}
