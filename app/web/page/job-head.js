// The header of a job: name, state, progress, problems.

import { announce, byId, make, setText } from "./dom.js";
import { hasEnded } from "./follow.js";
import { setActivity, setSubject } from "./title.js";
import { counted, explain, metadataOf, moment, nameOf, percent, progressLine, roughly, stateName } from "./words.js";

const SAID_EVERY = 0.2; // step of progress announced to screen readers

export class JobHead {
  constructor() {
    this.state = "";
    this.said = 0; // the last announced step
    this.passing = false; // whether the shown problem ends when the service responds
  }

  clear() {
    this.state = "";
    this.said = 0;
    this.passing = false;
    for (const id of ["job-problem", "job-progress", "job-warnings"]) byId(id).hidden = true;
    byId("job-view").dataset.state = "";
    setText(byId("job-name"), "Video");
    setSubject("Mien");
    setActivity("job", "");
    byId("job-tags").replaceChildren();
    setText(byId("job-line"), "Opening …");
    setText(byId("job-facts"), "");
  }

  /** @param {any} job */
  show(job) {
    setText(byId("job-name"), nameOf(job));
    setSubject(`${nameOf(job)} · Mien`);
    const tags = metadataOf(job).map(([key, value]) => make("li", { text: `${key}: ${value}` }));
    byId("job-tags").replaceChildren(...tags);
    byId("job-view").dataset.state = job.state;
    setText(byId("job-line"), job.state === "succeeded" ? doneLine(job) : progressLine(job));
    setText(byId("job-facts"), facts(job));
    setText(byId("job-warnings"), job.warnings.join(" "));
    byId("job-warnings").hidden = !job.warnings.length;
    this.#progress(job);
    if (this.passing) byId("job-problem").hidden = true;
    this.passing = false;
    if (job.error) this.#error(explain(job.error.code, job.error.detail), job.error.code);
    if (this.state && this.state !== job.state) announce(`${stateName(job.state)}.`);
    this.state = job.state;
  }

  /** @param {import("./api.js").Problem} problem */
  problem(problem) {
    this.passing = problem.code === "offline" || problem.status >= 500;
    this.#error(problem.words, problem.code);
    if (!this.state) setText(byId("job-line"), "");
    if (problem.status === 404 || problem.status === 410) byId("job-progress").hidden = true;
  }

  /** The job was deleted elsewhere: disable everything. */
  deleted() {
    this.passing = false;
    for (const id of ["job-progress", "job-warnings"]) byId(id).hidden = true;
    byId("job-view").dataset.state = "deleted";
    setText(byId("job-line"), "Deleted");
    setActivity("job", "");
    this.#error("This job was deleted, in another tab or by a program.", "not_found");
  }

  /** @param {any} job */
  #progress(job) {
    const bar = byId("job-progress");
    const { frames_done: done, frames_total: total } = job.progress;
    bar.hidden = hasEnded(job);
    const share = total && done ? percent(Math.min(done / total, 1)) : "";
    setActivity("job", hasEnded(job) ? "" : `${stateName(job.state)} ${share}`.trim());
    if (job.state !== "running" || !total || !done) return bar.removeAttribute("value");
    bar.value = Math.min(done / total, 1);
    const due = Math.floor(bar.value / SAID_EVERY);
    if (due > this.said) announce(`${percent(due * SAID_EVERY)} labelled.`);
    this.said = Math.max(due, this.said);
  }

  /** @param {string} words @param {string} code */
  #error(words, code) {
    byId("job-problem").hidden = false;
    setText(byId("job-problem-words"), words);
    setText(byId("job-problem-code"), code);
  }
}

/** @param {any} job */
function doneLine(job) {
  const seconds = (Date.parse(job.finished_at) - Date.parse(job.started_at)) / 1000;
  return `Done · ${counted(job.progress.frames_done, "frame")} in ${roughly(seconds)}`;
}

/** @param {any} job */
function facts(job) {
  const { width, height, fps } = job.input;
  const parts = [moment(job.created_at)];
  if (width && height) parts.push(`${width} × ${height}`);
  if (fps && job.input.kind === "video") parts.push(`${Math.round(fps * 100) / 100} frames a second`);
  if (job.detector) parts.push(`detector ${job.detector}`);
  if (job.model.version) parts.push(`model ${job.model.name} ${job.model.version}`);
  if (job.options.prior !== null) parts.push(`prior ${job.options.prior}`);
  return parts.join(" · ");
}
