// One job: its head, the picture, the values, the people over time, and what can be taken away.

import { cancelJob, deleteJob, getJob, getJson, Problem } from "./api.js";
import { Compare } from "./compare.js";
import { announce, byId, make, setText } from "./dom.js";
import { follow, hasEnded } from "./follow.js";
import { JobHead } from "./job-head.js";
import { moments, nextOf } from "./jumps.js";
import { handleKey } from "./keys.js";
import { LabelList } from "./label-list.js";
import { Lanes } from "./lanes.js";
import { loadMembers, memberName, memberNote } from "./members.js";
import { coloursOf } from "./page-settings.js";
import { keepNotes, People } from "./people.js";
import { PersonBar } from "./person-bar.js";
import { Records } from "./records.js";
import { editNaming } from "./naming.js";
import { setSummary } from "./segments.js";
import { forget } from "./session.js";
import { Stage } from "./stage.js";
import { tellDeleted } from "./tabs.js";
import { TakeAway } from "./takeaway.js";
import { setActivity } from "./title.js";
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
    this.lanes = new Lanes({ onSeek: (time) => this.#seek(time), onTrack, onView: () => this.#compare() });
    this.compare = new Compare({ onChosen: (jobId) => this.#with(jobId), onProblem, onProgress: () => this.#compare() });
    this.values = new Values({ onTrack });
    this.labels = new LabelList({ onLabel: () => this.#filter() });
    this.personBar = new PersonBar({ onNotes: (notes) => this.#keep(notes), onSolo: (person) => this.#solo(person) });
    this.takeAway = new TakeAway(onProblem);
    this.head = new JobHead();
    this.jobId = "";
    /** @type {any} */
    this.job = null;
    /** @type {RecordsOfJob | null} */
    this.records = null;
    /** @type {RecordsOfJob | null} those whose summary is here, or on its way */
    this.summarised = null;
    /** @type {import("./people.js").People | null} */
    this.people = null;
    this.source = 0;
    /** @type {number | null} a track of the person whose values are shown */
    this.chosen = null;
    /** @type {import("./people.js").Person | null} the only one that is shown */
    this.solo = null;
    /** @type {{time: number, track: number | null} | null} where a link leads, until that is here */
    this.moment = null;
    /** @type {Promise<any>} what is said of people, on its way to the service */
    this.keeping = Promise.resolve();
    this.picked = false; // the track by the reader, not by us
    /** @type {AbortController | null} */
    this.following = null;
    byId("cancel-job").onclick = () => this.#cancel();
    byId("delete-job").onclick = () => this.#delete();
    byId("name-job").onclick = () => this.#rename();
    document.addEventListener("visibilitychange", () => this.#stillThere());
    byId("jump-back").onclick = () => this.#jump(-1);
    byId("jump-on").onclick = () => this.#jump(1);
    byId("copy-moment").onclick = () => this.#copyMoment();
    document.addEventListener("keydown", (event) => {
      if (this.job && !byId("job-view").hidden) handleKey(event, this.stage, this.lanes, (direction) => this.#jump(direction));
    });
  }

  /**
   * @param {string} jobId
   * @param {{time: number, track: number | null} | null} [moment]
   * @param {string} [other] a job that is shown beside; "": none
   */
  async open(jobId, moment = null, other = "") {
    if (jobId === this.jobId && this.records) {
      this.moment = moment;
      this.#goToMoment();
      return this.#beside(other);
    }
    this.close();
    this.moment = moment;
    const following = (this.following = new AbortController());
    this.#clear();
    this.jobId = jobId;
    this.head.clear();
    try {
      const [job] = await Promise.all([getJob(jobId, following.signal), loadMembers()]);
      this.stage.open(job);
      this.#show(job);
      this.#beside(other);
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
    this.jobId = "";
    this.records = null;
    this.people = null;
    setActivity("job", "");
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
    byId("job-body").hidden = true;
  }

  /** Whether the job is still there, when one comes back to this tab. */
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

  #clear() {
    this.source = 0;
    this.chosen = null;
    this.picked = false;
    this.solo = null;
    for (const id of ["job-body", "now", "timeline"]) byId(id).hidden = true;
  }

  /** @param {any} job */
  #show(job) {
    this.job = job;
    this.head.show(job);
    byId("job-body").hidden = job.state === "failed" && !job.progress.frames_done;
    this.lanes.ended = this.values.ended = hasEnded(job);
    if (job.labels && !this.records) this.#begin(job.labels);
    else if (this.people && JSON.stringify(job.persons) !== JSON.stringify(this.people.notes)) this.#regroup(job.persons);
    if (hasEnded(job)) this.#summarise(job);
    this.stage.update(job);
    this.takeAway.show(job);
    this.compare.show(job);
  }

  /** @param {string[]} labels */
  async #begin(labels) {
    const records = (this.records = new Records(labels));
    const people = (this.people = new People(records, this.job.persons));
    setSummary(records, null, this.job.options.unsure_below);
    byId("timeline").dataset.segments = "raw";
    const colours = await coloursOf(labels);
    if (this.records !== records) return;
    byId("now").hidden = byId("timeline").hidden = false;
    this.stage.who = (track) => this.#who(track);
    this.stage.show(records, colours);
    this.values.show(records, people, colours);
    this.labels.show(labels, colours);
    this.personBar.setSolo(false);
    this.lanes.show(records, people, colours);
    this.#sources();
    this.#update();
    if (hasEnded(this.job)) this.#summarise(this.job);
  }

  /** Segments as the service smooths them, once they do not change any more. @param {any} job */
  async #summarise(job) {
    const { records } = this;
    if (!records || this.summarised === records || !job.progress.frames_done) return;
    this.summarised = records;
    const summary = await getJson(`v1/jobs/${job.id}/summary`).catch(() => null); // raw ones do, too
    if (records !== this.records || !summary) return;
    setSummary(records, summary, job.options.unsure_below);
    byId("timeline").dataset.segments = "smoothed";
    // Who is who is known at the end only, records that came before do not say it.
    for (const { person_id: person, appearances } of summary.people ?? []) {
      for (const { track_id: track } of appearances) records.personIds.set(track, person);
    }
    if (summary.people) this.#regroup(this.people?.notes ?? []);
    this.lanes.refresh();
    this.#update();
  }

  /** Whose box is drawn, and how. @param {number} trackId */
  #who(trackId) {
    const person = this.people?.of(trackId);
    if (!person || person.hidden || (this.solo && !this.solo.tracks.includes(person.tracks[0]))) return null;
    return { name: person.name, chosen: person === this.#person };
  }

  /** The person whose values are shown. */
  get #person() {
    return this.people?.of(this.chosen) ?? null;
  }

  /** @param {import("./people.js").Note[]} notes */
  #regroup(notes) {
    this.people?.setNotes(notes);
    if (this.solo) this.solo = this.people?.of(this.solo.id) ?? null;
    if (this.#person?.hidden) this.#nextShown();
    this.#filter();
  }

  /** Another person than one that is hidden. */
  #nextShown() {
    this.chosen = this.people?.all.find(({ hidden }) => !hidden)?.id ?? null;
    if (this.solo) this.personBar.setSolo(false);
  }

  /** @param {import("./people.js").Note[]} notes */
  async #keep(notes) {
    const { id } = this.job;
    const former = this.people?.notes ?? [];
    this.#regroup(notes);
    // One after the other, so that the last one stays.
    const keeping = (this.keeping = this.keeping.then(() => keepNotes(id, notes)).catch((error) => error));
    const kept = await keeping;
    if (keeping !== this.keeping || id !== this.jobId) return;
    if (!(kept instanceof Error)) return this.#show(kept);
    this.#regroup(former);
    if (kept instanceof Problem) this.#problem(kept);
  }

  /** @param {import("./people.js").Person | null} person */
  #solo(person) {
    this.solo = person;
    if (this.people) this.#filter();
  }

  #filter() {
    this.lanes.filter(this.labels.label, this.solo?.id ?? null);
    this.stage.draw();
    this.#update();
  }

  /** @param {number} direction 1: to the next moment of the chosen kind, -1: to the one before */
  #jump(direction) {
    const { records } = this;
    const person = this.#person;
    if (!records || !person) return;
    const kind = byId("jump-kind");
    const times = moments(records, person, this.source, kind.value, this.labels.label);
    const time = nextOf(times, this.stage.time, direction);
    const what = kind.selectedOptions[0].textContent;
    if (time === null) return announce(`No ${direction > 0 ? "further" : "earlier"} ${what} of ${person.name}.`);
    this.picked = true;
    this.stage.pause();
    this.#seek(time);
  }

  /** @param {string} other */
  #beside(other) {
    if ((this.compare.job?.id ?? "") === other) return;
    if (other) this.compare.open(other);
    else {
      const { own } = this.compare;
      this.compare.close();
      this.compare.own = own;
    }
  }

  /** Have another job beside this one: the address says so, so that it can be passed on. @param {string} other */
  #with(other) {
    location.hash = `job=${this.jobId}${other ? `&with=${other}` : ""}`;
  }

  /** Show this moment of the job that is beside. */
  #compare() {
    const { records, stage } = this;
    if (!records || !this.compare.records) return;
    const face = records.faceOf(this.#person, records.frameAt(stage.time));
    this.compare.update({ time: stage.time, playing: stage.playing, records, face, view: this.lanes.view });
  }

  /** Go where a link leads, once that is labelled. */
  #goToMoment() {
    const { moment, records } = this;
    if (!moment || !records?.length) return;
    const all = hasEnded(this.job) && records.length >= this.job.progress.frames_done;
    if (records.end <= moment.time && !all) return; // it is still to come
    this.moment = null;
    if (moment.track !== null && this.people?.of(moment.track)) this.#choose(moment.track);
    this.#seek(moment.time);
  }

  async #copyMoment() {
    const { time } = this.stage;
    const face = this.picked && this.#person ? `&face=${this.#person.id}` : "";
    const link = new URL(`#job=${this.job.id}&t=${time.toFixed(2)}${face}`, document.baseURI).href;
    const button = byId("copy-moment");
    const label = button.querySelector(".copy-words");
    try {
      await navigator.clipboard.writeText(link);
      setText(label, "Link copied");
    } catch {
      prompt("The link to this moment:", link); // no access to the clipboard
    }
    setTimeout(() => setText(label, "Link"), 2000);
  }

  /** @param {any[]} frames */
  #append(frames) {
    const { records } = this;
    if (!records) return;
    const known = records.members.length;
    records.append(frames);
    if (records.members.length !== known) this.#sources();
    if (!this.picked) this.chosen = this.#longest(records.frameAt(this.stage.time)) ?? this.chosen;
    this.people?.update();
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
    if (records && !this.picked) this.chosen = this.#longest(records.frameAt(time)) ?? this.chosen;
    this.#update();
  }

  /** Show the values of this moment. */
  #update() {
    const { records, people, stage } = this;
    const position = records?.frameAt(stage.time) ?? -1;
    const person = this.#person;
    this.lanes.setEnd(stage.duration);
    this.lanes.choose(person?.id ?? null);
    this.values.update(position, person, this.source);
    if (records && people) {
      this.personBar.show(records, people, person, this.source);
      this.labels.update(records, people, person, this.source);
    }
    const slider = byId("lanes");
    slider.setAttribute("aria-valuemax", stage.duration.toFixed(2));
    slider.setAttribute("aria-valuenow", stage.time.toFixed(2));
    slider.setAttribute("aria-valuetext", this.#spoken(position));
    this.#compare();
  }

  /** @param {number} position */
  #spoken(position) {
    const { records } = this;
    const person = this.#person;
    const time = preciseClock(this.stage.time);
    const face = records?.faceOf(person, position) ?? -1;
    if (!records || !person || face < 0) return `${time}, no face`;
    const label = records.best(face, this.source);
    const value = records.score(face, this.source, label);
    return `${time}, ${person.name}: ${records.labels[label]} ${percent(value)}`;
  }

  /**
   * Of the people in a frame who are shown, a track of the one who is seen longest; null where there is none.
   * @param {number} position
   */
  #longest(position) {
    const { records, people } = this;
    if (!records || position < 0) return null;
    const [first, end] = records.facesOf(position);
    let found = null;
    let most = 0;
    for (const id of records.trackIds.data.subarray(first, end)) {
      const person = people?.of(id);
      const length = person?.length ?? records.tracks.get(id)?.length ?? 0;
      if (length > most && (!person || this.#who(id))) [found, most] = [id, length];
    }
    return found;
  }

  /** @param {Problem} problem */
  #problem(problem) {
    this.head.problem(problem);
    if (problem.status === 404 || problem.status === 410) byId("job-body").hidden = true;
  }

  async #rename() {
    try {
      const job = await editNaming(this.job);
      if (job && job.id === this.jobId) this.#show(job);
    } catch (error) {
      if (error instanceof Problem) this.#problem(error);
    }
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
      tellDeleted(id);
      announce("Deleted.");
      this.events.onGone();
    } catch (error) {
      if (error instanceof Problem) this.#problem(error);
    }
  }
}
