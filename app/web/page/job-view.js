// The view of a job: combines its parts (header, picture, values, lanes, exports) and keeps them at one moment.

import { getJob, Problem } from "./api.js";
import { Compare } from "./compare.js";
import { announce, byId } from "./dom.js";
import { follow, hasEnded } from "./follow.js";
import { JobActions } from "./job-actions.js";
import { JobHead } from "./job-head.js";
import { jumpFrom } from "./jumps.js";
import { handleKey } from "./keys.js";
import { LabelList } from "./label-list.js";
import { Lanes } from "./lanes.js";
import { copyMoment, linkTo } from "./links.js";
import { loadMembers } from "./members.js";
import { coloursOf } from "./page-settings.js";
import { Records } from "./records.js";
import { setSummary } from "./segments.js";
import { ShownPeople } from "./shown-people.js";
import { SourceSwitch } from "./source-switch.js";
import { Stage } from "./stage.js";
import { summarise } from "./summary.js";
import { TakeAway } from "./takeaway.js";
import { tellTime } from "./time-slider.js";
import { setActivity } from "./title.js";
import { Values } from "./values.js";

/** @typedef {import("./links.js").Moment} Moment */

export class JobView {
  /** @param {{onGone: () => void}} events */
  constructor({ onGone }) {
    const onTrack = (/** @type {number} */ trackId) => this.#choose(trackId);
    const onProblem = (/** @type {Problem} */ problem) => this.#problem(problem);
    const onJob = (/** @type {any} */ job) => this.#show(job);
    this.stage = new Stage({ onTime: () => this.#time(), onTrack, onFiles: () => this.head.show(this.job), onProblem });
    this.lanes = new Lanes({ onSeek: (time) => this.#seek(time), onTrack, onView: () => this.#compare() });
    const onChosen = (/** @type {string} */ other) => void (location.hash = linkTo(this.jobId, other)); // so that it can be passed on
    this.compare = new Compare({ onChosen, onProblem, onProgress: () => this.#compare() });
    this.values = new Values({ onTrack });
    this.labels = new LabelList({ onLabel: () => this.#filter() });
    this.shown = new ShownPeople({ onChange: () => this.#filter(), onKept: onJob, onProblem });
    this.sources = new SourceSwitch({ onSource: (source) => this.#setSource(source) });
    this.takeAway = new TakeAway(onProblem);
    this.head = new JobHead();
    this.actions = new JobActions({ onJob, onGone, onProblem });
    /** Callbacks of `follow`. */
    this.listener = { onJob, onFrames: (/** @type {any[]} */ frames) => this.#append(frames), onRestart: () => this.#restart(), onProblem };
    this.jobId = "";
    /** @type {any} */
    this.job = null;
    /** @type {Records | null} */
    this.records = null;
    /** @type {Records | null} those whose summary is here, or on its way */
    this.summarised = null;
    /** @type {Moment | null} where a link leads, until that is here */
    this.moment = null;
    /** @type {AbortController | null} */
    this.following = null;
    this.#listen();
  }

  #listen() {
    const jump = (/** @type {number} */ direction) => this.#jump(direction);
    byId("jump-back").onclick = () => jump(-1);
    byId("jump-on").onclick = () => jump(1);
    byId("copy-moment").onclick = () => {
      const track = this.shown.picked ? this.shown.person?.id ?? null : null;
      copyMoment(this.jobId, { time: this.stage.time, track });
    };
    document.addEventListener("visibilitychange", () => this.#stillThere());
    document.addEventListener("keydown", (event) => {
      if (this.job && !byId("job-view").hidden) handleKey(event, this.stage, this.lanes, jump);
    });
  }

  /**
   * @param {string} jobId
   * @param {Moment | null} moment
   * @param {string} other a job that is shown beside; "": none
   */
  async open(jobId, moment, other) {
    if (jobId === this.jobId && this.records) {
      this.moment = moment;
      this.#goToMoment();
      return this.compare.beside(other);
    }
    this.close();
    this.moment = moment;
    const following = (this.following = new AbortController());
    this.jobId = jobId;
    this.head.clear();
    for (const id of ["job-body", "now", "timeline"]) byId(id).hidden = true;
    try {
      const [job] = await Promise.all([getJob(jobId, following.signal), loadMembers()]);
      this.stage.open(job);
      this.#show(job);
      this.compare.beside(other);
      await follow(jobId, this.listener, following.signal);
    } catch (error) {
      if (error instanceof Problem) this.#problem(error);
      else if (!following.signal.aborted) throw error;
    }
  }

  close() {
    this.following?.abort();
    this.following = null;
    this.job = null;
    this.jobId = "";
    this.records = null;
    this.shown.clear();
    this.sources.source = 0;
    setActivity("job", "");
    this.actions.hide();
    this.stage.close();
    this.compare.close();
    this.lanes.records = null;
  }

  /** A job is gone, as another tab says. @param {string} jobId */
  deleted(jobId) {
    if (jobId !== this.jobId) return;
    this.following?.abort();
    this.stage.pause();
    this.head.deleted();
    this.actions.hide();
    byId("job-body").hidden = true;
  }

  /** Check that the job still exists when the tab becomes visible. */
  async #stillThere() {
    const { jobId } = this;
    if (document.hidden || !this.job) return;
    try {
      const job = await getJob(jobId);
      if (jobId === this.jobId && this.job) this.#show(job);
    } catch (error) {
      if (error instanceof Problem && (error.status === 404 || error.status === 410)) this.deleted(jobId);
    }
  }

  /** @param {any} job */
  #show(job) {
    this.job = job;
    this.head.show(job);
    this.actions.show(job);
    byId("job-body").hidden = job.state === "failed" && !job.progress.frames_done;
    this.lanes.ended = this.values.ended = hasEnded(job);
    if (job.labels && !this.records) this.#begin(job.labels);
    else this.shown.take(job.persons);
    if (hasEnded(job)) this.#summarise(job);
    this.stage.update(job);
    this.takeAway.show(job);
    this.compare.show(job);
  }

  /** @param {string[]} labels */
  async #begin(labels) {
    const records = (this.records = new Records(labels));
    this.shown.show(this.job, records);
    setSummary(records, null, this.job.options.unsure_below);
    byId("timeline").dataset.segments = "raw";
    const colours = await coloursOf(labels);
    const { people } = this.shown;
    if (this.records !== records || !people) return;
    const { source } = this.sources;
    byId("now").hidden = byId("timeline").hidden = false;
    this.stage.who = (track) => this.shown.who(track);
    this.stage.show(records, colours, source);
    this.values.show(records, people, colours);
    this.labels.show(labels, colours);
    this.lanes.show(records, people, colours, source);
    this.sources.show(records.members);
    this.#update();
    if (hasEnded(this.job)) this.#summarise(this.job);
  }

  /** Segments as the service smooths them, once they do not change any more. @param {any} job */
  async #summarise(job) {
    const { records } = this;
    if (!records || this.summarised === records || !job.progress.frames_done) return;
    this.summarised = records;
    if (!(await summarise(records, job)) || records !== this.records) return;
    byId("timeline").dataset.segments = "smoothed";
    this.shown.regroup();
  }

  /** @param {any[]} frames */
  #append(frames) {
    const { records } = this;
    if (!records) return;
    const known = records.members.length;
    records.append(frames);
    if (records.members.length !== known) this.sources.show(records.members);
    this.shown.people?.update();
    this.shown.follow(records.frameAt(this.stage.time));
    this.lanes.more();
    this.stage.more();
    this.#goToMoment();
    this.#update();
  }

  #restart() {
    if (this.job?.labels) this.#begin(this.job.labels);
    this.summarised = null;
    announce("The worker stopped. Another begins again.");
  }

  #filter() {
    this.lanes.filter(this.labels.label, this.shown.solo?.id ?? null);
    this.stage.draw();
    this.#update();
  }

  /** @param {number} source */
  #setSource(source) {
    this.stage.source = source;
    this.lanes.setSource(source);
    this.stage.draw();
    this.#update();
  }

  /** @param {number} trackId */
  #choose(trackId) {
    this.shown.choose(trackId);
    this.stage.draw();
    this.#update();
  }

  /** @param {number} direction 1: to the next moment of the chosen kind, -1: to the one before */
  #jump(direction) {
    const { person } = this.shown;
    if (!this.records || !person) return;
    const time = jumpFrom(this.records, person, this.sources.source, this.labels.label, this.stage.time, direction);
    if (time === null) return;
    this.shown.picked = true;
    this.stage.pause();
    this.#seek(time);
  }

  /** Seek to a link's moment, once it is labelled. */
  #goToMoment() {
    const { moment, records } = this;
    if (!moment || !records?.length) return;
    const all = hasEnded(this.job) && records.length >= this.job.progress.frames_done;
    if (records.end <= moment.time && !all) return; // not labelled yet
    this.moment = null;
    if (moment.track !== null && this.shown.people?.of(moment.track)) this.#choose(moment.track);
    this.#seek(moment.time);
  }

  /** @param {number} time */
  #seek(time) {
    const { records, stage } = this;
    const position = records?.frameAt(time) ?? -1;
    if (records && position >= 0 && time < records.end) stage.seekFrame(position);
    else stage.seek(time);
  }

  /** The current time or the picture has changed. */
  #time() {
    const { time } = this.stage;
    this.lanes.setTime(time);
    this.shown.follow(this.records?.frameAt(time) ?? -1);
    this.#update();
  }

  /** Show the values of this moment. */
  #update() {
    const { records, stage } = this;
    const { people, person } = this.shown;
    const { source } = this.sources;
    const position = records?.frameAt(stage.time) ?? -1;
    this.lanes.setEnd(stage.duration);
    this.lanes.choose(person?.id ?? null);
    this.values.update(position, person, source);
    if (records && people) {
      this.shown.bar.show(records, people, person, source);
      this.labels.update(records, people, person, source);
    }
    tellTime(stage, records, person, position, source);
    this.#compare();
  }

  /** Show this moment of the compared job. */
  #compare() {
    const { records, stage } = this;
    if (!records || !this.compare.records) return;
    const face = records.faceOf(this.shown.person, records.frameAt(stage.time));
    this.compare.update({ time: stage.time, playing: stage.playing, records, face, view: this.lanes.view });
  }

  /** @param {Problem} problem */
  #problem(problem) {
    this.head.problem(problem);
    if (problem.status === 404 || problem.status === 410) byId("job-body").hidden = true;
  }
}
