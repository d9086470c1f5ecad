// Comparison with another job on the same clock: its picture if the video differs, its values, its people's lanes.

import { getJob, getJson, Problem } from "./api.js";
import { fit } from "./canvas.js";
import { byId, make, setText, swatch } from "./dom.js";
import { follow } from "./follow.js";
import { COMPACT, drawLane } from "./lane-drawing.js";
import { Overlay } from "./overlay.js";
import { coloursOf, textOn } from "./page-settings.js";
import { People } from "./people.js";
import { VideoPlayer } from "./player.js";
import { Records } from "./records.js";
import { made } from "./renditions.js";
import { setSummary } from "./segments.js";
import { filesOf } from "./session.js";
import { summarise } from "./summary.js";
import { counted, moment, nameOf, percent } from "./words.js";

/** @typedef {import("./people.js").Person} Person */

const OFFERED = 100; // maximum of offered jobs
const MOST_LANES = 3;
const DRIFT_S = 0.15; // maximum drift of two players before one is moved

export class Compare {
  /** @param {{onChosen: (jobId: string) => void, onProblem: (problem: Problem) => void, onProgress: () => void}} events jobId: "" for none */
  constructor(events) {
    this.events = events;
    this.overlay = new Overlay(byId("other-overlay"));
    this.close();
    byId("compare-with").onchange = () => events.onChosen(byId("compare-with").value);
    byId("compare-end").onclick = () => events.onChosen("");
    byId("compare-with").onfocus = () => this.#offer();
  }

  close() {
    this.following?.abort();
    /** @type {AbortController | null} */
    this.following = null;
    this.player?.dispose();
    /** @type {VideoPlayer | null} */
    this.player = null;
    /** @type {any} */
    this.job = null;
    /** @type {any} */
    this.own = null;
    /** @type {Records | null} */
    this.records = null;
    /** @type {People | null} */
    this.people = null;
    this.drawn = "";
    byId("compare").hidden = true;
    byId("other-lanes").replaceChildren();
    byId("other-screen").replaceChildren();
  }

  /** @param {any} job the one that is shown */
  show(job) {
    if (this.own?.id !== job.id) byId("compare-with").replaceChildren(new Option("Compare with …", ""));
    this.own = job;
    byId("compare-with-box").hidden = !job.progress.frames_done;
  }

  /** The offered jobs, those of the same video first. */
  async #offer() {
    const select = byId("compare-with");
    const { own } = this;
    const { jobs } = await getJson(`v1/jobs?limit=${OFFERED}`).catch(() => ({ jobs: [] }));
    const others = jobs.filter((/** @type {any} */ job) => job.id !== own.id && job.progress.frames_done);
    const same = (/** @type {any} */ job) => job.input.sha256 === own.input.sha256;
    const option = (/** @type {any} */ job) => new Option(`${nameOf(job)} · ${difference(own, job)}`, job.id);
    const group = (/** @type {string} */ label, /** @type {any[]} */ some) => (some.length ? [make("optgroup", { label }, ...some.map(option))] : []);
    const former = select.value;
    const groups = [...group("The same video", others.filter(same)), ...group("Other videos", others.filter((/** @type {any} */ job) => !same(job)))];
    select.replaceChildren(new Option(groups.length ? "Compare with …" : "No other job so far", ""), ...groups);
    select.value = former;
  }

  /** Have this job beside, or none. @param {string} jobId "": none */
  beside(jobId) {
    if ((this.job?.id ?? "") === jobId) return;
    if (jobId) return void this.open(jobId);
    const { own } = this;
    this.close();
    this.own = own;
    byId("compare-with").value = "";
  }

  /** @param {string} jobId */
  async open(jobId) {
    const { own } = this;
    this.close();
    this.own = own;
    const following = (this.following = new AbortController());
    try {
      const job = (this.job = await getJob(jobId, following.signal));
      byId("compare").hidden = false;
      setText(byId("other-name"), nameOf(job));
      setText(byId("other-facts"), difference(own, job));
      byId("other-link").setAttribute("href", `#job=${job.id}`);
      if (!job.labels) return;
      const records = (this.records = new Records(job.labels));
      this.people = new People(records, job.persons);
      this.colours = await coloursOf(job.labels);
      setSummary(records, null, job.options.unsure_below);
      this.#picture(job, own);
      const append = (/** @type {any[]} */ frames) => {
        records.append(frames);
        this.people?.update();
        this.events.onProgress();
      };
      const onProblem = (/** @type {Problem} */ problem) => this.events.onProblem(problem);
      await follow(jobId, { onJob: () => {}, onFrames: append, onRestart: () => this.open(jobId), onProblem }, following.signal);
      if (following.signal.aborted) return;
      if (await summarise(records, job)) this.people.setNotes(job.persons);
      this.drawn = "";
      this.events.onProgress();
    } catch (error) {
      if (error instanceof Problem) this.events.onProblem(error);
      else if (!following.signal.aborted) throw error;
    }
  }

  /** The picture of another video: the same one is on the screen already. @param {any} job @param {any} own */
  async #picture(job, own) {
    const same = job.input.sha256 === own.input.sha256;
    byId("other-media").hidden = same;
    byId("other-media").style.setProperty("--ratio", String((job.input.width || 16) / (job.input.height || 9)));
    if (same) return;
    const files = filesOf(job.id);
    const { following } = this;
    /** @type {Blob | string | undefined} */
    let video = files?.length === 1 ? files[0] : undefined;
    if (!video && job.options.keep_input) video = await made(job.id, "preview", () => {}).catch(() => undefined);
    if (following?.signal.aborted || !video) return;
    const quiet = () => {};
    this.player = new VideoPlayer(video, { onTime: quiet, onState: quiet, onFail: quiet, onPicture: (time) => this.#boxes(time) });
    this.player.setMuted(true);
    byId("other-screen").replaceChildren(this.player.element);
  }

  /** @param {number} time */
  #boxes(time) {
    const { records, people } = this;
    if (!records || !people) return;
    const who = (/** @type {number} */ track) => ({ name: people.of(track)?.name ?? "", chosen: false });
    this.overlay.draw(records, records.frameAt(time), 0, this.job.input, this.colours ?? [], who);
  }

  /**
   * Show this moment.
   * @param {object} now
   * @param {number} now.time s
   * @param {boolean} now.playing
   * @param {Records} now.records of the job that is shown
   * @param {number} now.face of it, -1 for none
   * @param {import("./lane-drawing.js").Span} now.view
   */
  update({ time, playing, records, face, view }) {
    const other = this.records;
    if (!other || !this.people) return;
    if (this.player) this.#follow(this.player, time, playing);
    const position = other.frameAt(time);
    const same = this.job.input.sha256 === this.own.input.sha256;
    const match = same && face >= 0 ? nearest(records, face, other, position) : this.people.longestIn(position, ({ hidden }) => !hidden);
    this.#values(records, face, other, match);
    this.#lanes(other, view);
    const share = (time - view.start) / (view.end - view.start);
    const head = byId("other-playhead");
    head.hidden = share < 0 || share > 1;
    head.style.left = `${share * 100}%`;
  }

  /** Keep the other player where this one is. @param {VideoPlayer} player @param {number} time @param {boolean} playing */
  #follow(player, time, playing) {
    if (Math.abs(player.element.currentTime - time) > (playing ? DRIFT_S : 0.01)) player.seek(time);
    if (playing && player.paused && time < player.duration) player.play();
    if (!playing && !player.paused) player.pause();
  }

  /** @param {Records} records @param {number} face @param {Records} other @param {number} match */
  #values(records, face, other, match) {
    const body = byId("compare-table").tBodies[0];
    if (body.rows.length !== records.labels.length) {
      const rows = records.labels.map((label, k) => {
        const name = make("th", { scope: "row" }, swatch((this.colours ?? [])[k]), label);
        return make("tr", {}, name, make("td"), make("td"), make("td"));
      });
      body.replaceChildren(...rows);
    }
    records.labels.forEach((label, k) => {
      const index = other.labels.indexOf(label);
      const own = face < 0 ? null : records.score(face, 0, k);
      const its = match < 0 || index < 0 ? null : other.score(match, 0, index);
      const apart = own === null || its === null ? "" : `${its >= own ? "+" : "−"}${Math.round(100 * Math.abs(its - own))}`;
      [own, its].forEach((value, column) => {
        setText(body.rows[k].cells[column + 1], value === null ? "–" : percent(value));
      });
      setText(body.rows[k].cells[3], apart);
    });
    const known = match < 0 ? null : this.people?.of(other.trackIds.data[match]);
    setText(byId("other-face"), known ? known.name : "no face");
  }

  /** @param {Records} records @param {import("./lane-drawing.js").Span} view */
  #lanes(records, view) {
    const box = byId("other-lanes");
    const people = (this.people?.all ?? []).filter(({ hidden }) => !hidden).slice(0, MOST_LANES);
    const wanted = [records.version, view.start, view.end, box.clientWidth, people.map(({ name }) => name)].join();
    if (wanted === this.drawn) return;
    this.drawn = wanted;
    const rows = people.map((person) => {
      const canvas = /** @type {HTMLCanvasElement} */ (make("canvas", { class: "other-lane" }));
      canvas.style.height = `${COMPACT.height}px`;
      return { person, canvas, row: make("div", {}, make("p", { class: "lane-name", text: person.name }), canvas) };
    });
    box.replaceChildren(...rows.map(({ row }) => row));
    const style = getComputedStyle(box);
    const colours = this.colours ?? [];
    const paint = { colours, texts: colours.map(textOn), ink: style.getPropertyValue("--ink"), ground: style.getPropertyValue("--lane") };
    for (const { person, canvas } of rows) {
      const width = fit(canvas, COMPACT.height);
      drawLane(/** @type {any} */ (canvas.getContext("2d")), records, person, 0, view, width, paint, COMPACT);
    }
  }
}

/**
 * The other job's face at the same place, or -1.
 * @param {Records} records
 * @param {number} face
 * @param {Records} other
 * @param {number} position
 */
function nearest(records, face, other, position) {
  if (position < 0) return -1;
  const middle = (/** @type {Records} */ of, /** @type {number} */ at) => {
    const [x, y, w, h] = of.boxes.data.subarray(at * 4, at * 4 + 4);
    return [x + w / 2, y + h / 2, w];
  };
  const [x, y, wide] = middle(records, face);
  const [first, end] = other.facesOf(position);
  let [found, least] = [-1, wide]; // a face farther than its own width is another one
  for (let at = first; at < end; at += 1) {
    const [ox, oy] = middle(other, at);
    const distance = Math.hypot(ox - x, oy - y);
    if (distance < least) [found, least] = [at, distance];
  }
  return found;
}

/** In what another job differs, in words. @param {any} own @param {any} job */
function difference(own, job) {
  const parts = [];
  const model = (/** @type {any} */ of) => `${of.model.name}${of.model.version ? ` ${of.model.version}` : ""}`;
  if (model(own) !== model(job)) parts.push(`model ${model(job)}`);
  for (const [name, value] of Object.entries(job.options)) {
    if (JSON.stringify(value) !== JSON.stringify(own.options[name])) parts.push(`${name} ${value ?? "default"}`);
  }
  if (job.input.sha256 !== own.input.sha256) parts.push(counted(job.progress.frames_done, "frame"));
  return [...parts, moment(job.created_at)].join(", ");
}
