// Which people of a job are shown or selected, and the user's changes, which are stored with the job.

import { Problem } from "./api.js";
import { keepNotes, People } from "./people.js";
import { PersonBar } from "./person-bar.js";

/** @typedef {import("./people.js").Person} Person */
/** @typedef {import("./people.js").Note} Note */

export class ShownPeople {
  /**
   * @param {object} events
   * @param {() => void} events.onChange others are shown, or under other names
   * @param {(job: any) => void} events.onKept the job with what was changed
   * @param {(problem: Problem) => void} events.onProblem
   */
  constructor(events) {
    this.events = events;
    this.bar = new PersonBar({ onNotes: (notes) => this.#keep(notes), onSolo: (person) => this.#setSolo(person) });
    /** @type {Promise<any>} the last change, on its way to the service */
    this.keeping = Promise.resolve();
    this.clear();
  }

  /** Switch to another job. */
  clear() {
    this.jobId = "";
    /** @type {People | null} */
    this.people = null;
    /** @type {number | null} a track of the person whose values are shown */
    this.chosen = null;
    this.picked = false; // whether the user selected the track
    this.edited = false; // whether the user changed people: jobs that were requested before may arrive later
    /** @type {Person | null} the only one that is shown */
    this.solo = null;
  }

  /** @param {any} job @param {import("./records.js").Records} records of it, from their first on */
  show(job, records) {
    this.jobId = job.id;
    this.people = new People(records, job.persons);
    this.bar.setSolo(false);
  }

  /** The selected person. */
  get person() {
    return this.people?.of(this.chosen) ?? null;
  }

  /** @param {Person} person */
  #isShown(person) {
    return !person.hidden && (!this.solo || this.solo.tracks.includes(person.tracks[0]));
  }

  /** Whose box is drawn, and how; null: none. @param {number} trackId */
  who(trackId) {
    const person = this.people?.of(trackId);
    return person && this.#isShown(person) ? { name: person.name, chosen: person === this.person } : null;
  }

  /** The reader wants this one's values. @param {number} trackId */
  choose(trackId) {
    this.chosen = trackId;
    this.picked = true;
  }

  /** Unless the reader chose: the values of whoever is in view longest, of those in a frame. @param {number} position of it */
  follow(position) {
    const { people } = this;
    if (!people || this.picked) return;
    const face = people.longestIn(position, (person) => this.#isShown(person));
    if (face >= 0) this.chosen = people.records.trackIds.data[face];
  }

  /** Show a job's people, unless the user has changed them since it was opened. @param {Note[]} notes */
  take(notes) {
    if (this.people && !this.edited && JSON.stringify(notes) !== JSON.stringify(this.people.notes)) this.regroup(notes);
  }

  /** Group anew. @param {Note[]} [notes] */
  regroup(notes = this.people?.notes ?? []) {
    const { people } = this;
    if (!people) return;
    people.setNotes(notes);
    if (this.solo) this.solo = people.of(this.solo.id);
    if (this.person?.hidden) this.#chooseNext();
    this.events.onChange();
  }

  /** Select another person if the selected one is hidden. */
  #chooseNext() {
    this.chosen = this.people?.all.find(({ hidden }) => !hidden)?.id ?? null;
    if (this.solo) this.bar.setSolo(false);
  }

  /** @param {Person | null} person */
  #setSolo(person) {
    this.solo = person;
    if (this.people) this.events.onChange();
  }

  /** @param {Note[]} notes */
  async #keep(notes) {
    const { jobId } = this;
    this.edited = true;
    const former = this.people?.notes ?? [];
    this.regroup(notes);
    // Sequentially, so that the last change wins.
    const keeping = (this.keeping = this.keeping.then(() => keepNotes(jobId, notes)).catch((error) => error));
    const kept = await keeping;
    if (keeping !== this.keeping || jobId !== this.jobId) return;
    this.regroup(kept instanceof Error ? former : kept.persons);
    if (!(kept instanceof Error)) this.events.onKept(kept);
    else if (kept instanceof Problem) this.events.onProblem(kept);
  }
}
