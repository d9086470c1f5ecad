// The list of earlier jobs, which follows unfinished ones.

import { cancelJob, deleteJob, getJson, Problem } from "./api.js";
import { announce, byId, make, setText, swatch } from "./dom.js";
import { hasEnded } from "./follow.js";
import { coloursOf } from "./page-settings.js";
import { Search } from "./search.js";
import { forget } from "./session.js";
import { tellDeleted } from "./tabs.js";
import { showThumbnail } from "./thumbnails.js";
import { clock, counted, explain, metadataOf, moment, nameOf, percent, progressLine, stateName } from "./words.js";

const PAGE = 20;
const LOOK_MS = 1500; // while a job is unfinished
const RETRY_MS = 5000; // after a failed request
const LEAST_SHARE = 0.005; // minimum share drawn in a row's picture
const NAMED = 2; // labels named in text

/** @typedef {{row: HTMLElement, update: (job: any) => void, job: any}} Row */

export class History {
  /** @param {(problem: Problem | null) => void} onProblem null: what was wrong is over */
  constructor(onProblem) {
    this.onProblem = onProblem;
    this.list = byId("jobs");
    /** @type {Map<string, Row>} */
    this.rows = new Map();
    /** @type {Map<string, Promise<any>>} */
    this.summaries = new Map();
    this.limit = PAGE;
    this.visible = false;
    this.timer = 0;
    this.asking = false;
    this.again = false; // requested during a refresh
    this.away = false; // the last request failed
    byId("more-jobs").onclick = () => {
      this.limit += PAGE;
      this.refresh();
    };
    this.search = new Search(() => {
      this.limit = PAGE;
      this.refresh();
    });
    document.addEventListener("visibilitychange", () => document.hidden || !this.visible || this.refresh());
  }

  show() {
    this.visible = true;
    this.refresh();
  }

  hide() {
    this.visible = false;
    clearTimeout(this.timer);
  }

  /** Load the newest jobs, and poll while one is unfinished. */
  async refresh() {
    clearTimeout(this.timer);
    if (this.asking) {
      this.again = true;
      return;
    }
    this.asking = true;
    this.again = false;
    try {
      const wanted = this.search.parameters();
      const searching = wanted.size > 0;
      wanted.set("limit", String(Math.min(this.limit, 1000)));
      let { jobs, next } = await getJson(`v1/jobs?${wanted}`);
      while (next && !jobs.length) ({ jobs, next } = await getJson(next.slice(next.indexOf("v1/jobs")))); // skip pages without matches
      if (this.away) this.onProblem(null);
      this.away = false;
      if (!this.visible) return;
      this.#render(jobs);
      byId("earlier").hidden = jobs.length === 0 && !searching;
      byId("none-found").hidden = jobs.length > 0 || !searching;
      byId("more-jobs").hidden = next === null;
      if (jobs.some((/** @type {any} */ job) => !hasEnded(job))) this.#later(LOOK_MS);
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      this.away = true;
      this.onProblem(error);
      if (error.status !== 401) this.#later(RETRY_MS);
    } finally {
      this.asking = false;
      if (this.again) this.#later(0);
    }
  }

  /** @param {number} ms */
  #later(ms) {
    clearTimeout(this.timer);
    if (this.visible && !document.hidden) this.timer = setTimeout(() => this.refresh(), ms);
  }

  /** @param {any[]} jobs */
  #render(jobs) {
    const ids = new Set(jobs.map((job) => job.id));
    for (const [id, { row }] of this.rows) {
      if (ids.has(id)) continue;
      row.remove();
      this.rows.delete(id);
    }
    jobs.forEach((job, place) => {
      const known = this.rows.get(job.id);
      const row = known ?? this.#row(job);
      if (!known) this.rows.set(job.id, row);
      if (this.list.children[place] !== row.row) this.list.insertBefore(row.row, this.list.children[place] ?? null);
      row.update(job);
    });
  }

  /** @param {any} job @returns {Row} */
  #row(job) {
    const title = make("a", { class: "job-title", href: `#job=${job.id}`, text: nameOf(job) });
    const state = make("span", { class: "state" });
    const line = make("p", { class: "job-row-line" });
    const labels = make("div", { class: "job-row-labels" });
    const picture = /** @type {HTMLImageElement} */ (make("img", { class: "thumbnail", alt: "", width: 48, height: 48, hidden: true }));
    const tags = make("ul", { class: "tags", "aria-label": "Metadata" });
    const bar = /** @type {HTMLProgressElement} */ (make("progress", { max: 1, "aria-label": "Labelled so far" }));
    const cancel = this.#button("Cancel", job, () => cancelJob(job.id));
    const remove = this.#button("Delete", job, async () => {
      if (!confirm("Delete this job, with its results and its video?")) return;
      await deleteJob(job.id);
      forget(job.id);
      tellDeleted(job.id);
    });
    const text = make("div", { class: "job-row-text" }, make("h3", {}, title, state), line, tags, bar);
    const row = make("li", { class: "job-row", "data-id": job.id }, make("div", { class: "job-row-main" }, make("div", { class: "thumbnail-box" }, picture), text), labels, make("div", { class: "job-row-actions" }, cancel, remove));
    /** @type {Row} */
    const made = { row, job: null, update: () => {} };
    made.update = (now) => {
      const changed = made.job?.state !== now.state;
      made.job = now;
      setText(title, nameOf(now));
      const told = JSON.stringify(now.metadata);
      if (tags.dataset.told !== told) {
        tags.dataset.told = told;
        const entries = metadataOf(now);
        const only = (/** @type {[string, string]} */ entry) => make("button", { type: "button", title: "Only such jobs", text: entry.join(": "), on: { click: () => this.search.only(entry) } });
        tags.replaceChildren(...entries.map((entry) => make("li", {}, only(entry))));
        tags.hidden = !entries.length;
      }
      setText(state, stateName(now.state));
      row.dataset.state = now.state;
      setText(line, rowLine(now));
      bar.hidden = now.state !== "running";
      if (now.progress.frames_total) bar.value = now.progress.frames_done / now.progress.frames_total;
      cancel.hidden = hasEnded(now);
      if (!changed || !hasEnded(now)) return;
      this.#labels(now, labels);
      showThumbnail(now, picture);
    };
    return made;
  }

  /** @param {string} name @param {any} job @param {() => Promise<any>} work */
  #button(name, job, work) {
    const hint = make("span", { class: "visually-hidden", text: ` ${nameOf(job)}` });
    const button = make("button", { type: "button", class: "quiet" }, name, hint);
    button.addEventListener("click", async () => {
      try {
        await work();
        announce(name === "Cancel" ? "Cancelling." : "Deleted.");
      } catch (error) {
        if (error instanceof Problem) this.onProblem(error);
      }
      this.refresh();
    });
    return button;
  }

  /**
   * The most frequent labels, as a picture and as text.
   * @param {any} job
   * @param {HTMLElement} box
   */
  async #labels(job, box) {
    if (!job.labels || !job.progress.frames_done) return;
    try {
      const colours = await coloursOf(job.labels);
      const found = job.label_shares ?? (await this.#sharesOf(job.id)); // null: from a worker of an earlier release
      if (!Object.keys(found).length) return box.replaceChildren(make("p", { class: "muted", text: "No faces" }));
      const shares = job.labels
        .map((/** @type {string} */ label, /** @type {number} */ k) => ({ label, share: found[label] ?? 0, colour: colours[k] }))
        .filter((/** @type {any} */ part) => part.share >= LEAST_SHARE)
        .sort((/** @type {any} */ one, /** @type {any} */ other) => other.share - one.share);
      const picture = make("div", { class: "shares", "aria-hidden": "true" });
      for (const { share, colour } of shares) {
        const part = picture.appendChild(make("span"));
        part.style.flexGrow = String(share);
        part.style.backgroundColor = colour;
      }
      const words = make("p", { class: "share-words" });
      for (const { label, share, colour } of shares.slice(0, NAMED)) {
        words.append(make("span", {}, swatch(colour), `${label} ${percent(share)}`));
      }
      box.replaceChildren(picture, words);
    } catch {
      this.summaries.delete(job.id); // the row is useful without it
    }
  }

  /** @param {string} jobId @returns {Promise<Record<string, number>>} */
  async #sharesOf(jobId) {
    let summary = this.summaries.get(jobId);
    if (!summary) this.summaries.set(jobId, (summary = getJson(`v1/jobs/${jobId}/summary`)));
    const { video } = await summary;
    const shares = Object.entries(video.labels).map(([label, of]) => [label, /** @type {any} */ (of).share]);
    return Object.fromEntries(video.frames ? shares : []);
  }
}

/** @param {any} job */
function rowLine(job) {
  if (!hasEnded(job)) return progressLine(job);
  if (job.error) return `${explain(job.error.code)} (${job.error.code})`;
  const parts = [moment(job.created_at)];
  if (job.input.duration_s && job.input.kind === "video") parts.push(clock(job.input.duration_s));
  parts.push(counted(job.progress.frames_done, "frame"));
  return parts.join(" · ");
}
