// The people of a job: each has one or more tracks, grouped by the service (`person_id`) or by the user.
// A person has the interface of a track, so lanes, values and segments need no special case.

import { call } from "./api.js";
import { Column } from "./columns.js";

/** @typedef {import("./records.js").Records} Records */
/** @typedef {import("./records.js").Track} Track */
/** @typedef {{name: string | null, tracks: number[], hidden: boolean}} Note what the reader said of a person */

export class Person {
  /** @param {Track[]} tracks @param {string} name @param {boolean} hidden */
  constructor(tracks, name, hidden) {
    this.tracks = tracks;
    this.id = Math.min(...tracks.map(({ id }) => id));
    this.name = name;
    this.hidden = hidden;
    this.frames = tracks[0].frames;
    this.faces = tracks[0].faces;
    if (tracks.length > 1) this.#merge();
  }

  get length() {
    return this.frames.length;
  }

  /** Frames in order, one face each; if two tracks are in a frame, the first one's. */
  #merge() {
    const places = this.tracks.map(() => 0);
    this.frames = new Column(Uint32Array);
    this.faces = new Column(Uint32Array);
    for (;;) {
      let best = -1;
      let least = Infinity;
      this.tracks.forEach((track, t) => {
        const position = places[t] < track.length ? track.frames.data[places[t]] : Infinity;
        if (position < least) [best, least] = [t, position];
      });
      if (best < 0) return;
      this.frames.push(least);
      this.faces.push(this.tracks[best].faces.data[places[best]]);
      this.tracks.forEach((track, t) => {
        if (places[t] < track.length && track.frames.data[places[t]] === least) places[t] += 1;
      });
    }
  }
}

export class People {
  /** @param {Records} records @param {Note[]} notes */
  constructor(records, notes) {
    this.records = records;
    this.notes = notes;
    /** @type {Person[]} longest first */
    this.all = [];
    /** @type {Map<number, Person>} */
    this.byTrack = new Map();
    this.version = -1;
  }

  /** @param {Note[]} notes */
  setNotes(notes) {
    this.notes = notes;
    this.version = -1;
    this.update();
  }

  /** Regroup after new records. */
  update() {
    const { records } = this;
    if (this.version === records.version) return;
    this.version = records.version;
    /** @type {Map<string, number[]>} */
    const groups = new Map();
    const noted = new Map(this.notes.flatMap(({ tracks }, n) => tracks.map((track) => [track, `note ${n}`])));
    for (const id of records.tracks.keys()) {
      const person = records.personIds.get(id);
      const group = noted.get(id) ?? (person === undefined ? `track ${id}` : `person ${person}`);
      groups.set(group, [...(groups.get(group) ?? []), id]);
    }
    const former = new Map(this.all.map((person) => [person.tracks.map(({ id }) => id).join(), person]));
    this.all = [...groups].map(([group, ids]) => this.#person(group, ids, former));
    this.all.sort((one, other) => other.length - one.length || one.id - other.id);
    this.byTrack = new Map(this.all.flatMap((person) => person.tracks.map(({ id }) => [id, person])));
  }

  /** @param {string} group @param {number[]} ids @param {Map<string, Person>} former */
  #person(group, ids, former) {
    const note = group.startsWith("note ") ? this.notes[Number(group.slice(5))] : null;
    const found = this.records.personIds.get(ids[0]);
    const plain = found === undefined ? `Face ${Math.min(...ids)}` : `Person ${found}`;
    const [name, hidden] = [note?.name || plain, note?.hidden ?? false];
    const known = former.get(ids.join());
    if (known && known.tracks.length === 1) return Object.assign(known, { name, hidden }); // its columns grow by themselves
    return new Person(ids.map((id) => /** @type {Track} */ (this.records.tracks.get(id))), name, hidden);
  }

  /** @param {number | null} trackId */
  of(trackId) {
    return trackId === null ? null : this.byTrack.get(trackId) ?? null;
  }

  /**
   * The face of the person in a frame who is visible longest, or -1.
   * @param {number} position
   * @param {(person: Person) => boolean} among
   */
  longestIn(position, among) {
    const { records } = this;
    const [first, end] = position < 0 ? [0, 0] : records.facesOf(position);
    let [found, most] = [-1, 0];
    for (let face = first; face < end; face += 1) {
      const person = this.of(records.trackIds.data[face]);
      if (person && person.length > most && among(person)) [found, most] = [face, person.length];
    }
    return found;
  }

  /** The notes with one person's changed. @param {Person} person @param {Partial<Note>} change @returns {Note[]} */
  noted(person, change) {
    const ids = person.tracks.map(({ id }) => id);
    const other = this.notes.map((note) => ({ ...note, tracks: note.tracks.filter((id) => !ids.includes(id)) }));
    const before = this.notes.find(({ tracks }) => tracks.some((id) => ids.includes(id)));
    const note = { name: before?.name ?? null, hidden: before?.hidden ?? false, tracks: ids, ...change };
    const plain = !note.name && !note.hidden && note.tracks.length === 1;
    return [...other.filter(({ tracks }) => tracks.length), ...(plain ? [] : [note])];
  }

  /** The notes with two persons as one. @param {Person} person @param {Person} same @returns {Note[]} */
  merged(person, same) {
    const ids = [person, same].flatMap(({ tracks }) => tracks.map(({ id }) => id));
    const noteOf = (/** @type {Person} */ of) => this.notes.find(({ tracks }) => tracks.includes(of.id));
    const rest = this.notes.filter(({ tracks }) => !tracks.some((id) => ids.includes(id)));
    const name = noteOf(same)?.name ?? noteOf(person)?.name ?? null;
    return [...rest, { name, hidden: false, tracks: ids }];
  }

  /** The notes with each track of a person by itself. @param {Person} person @returns {Note[]} */
  split(person) {
    const ids = person.tracks.map(({ id }) => id);
    const rest = this.notes.filter(({ tracks }) => !tracks.some((id) => ids.includes(id)));
    const alone = ids.map((id) => ({ name: `Face ${id}`, hidden: false, tracks: [id] }));
    // A track of a person found by the service is separated by a note of its own only.
    return this.records.personIds.has(ids[0]) ? [...rest, ...alone] : rest;
  }
}

/**
 * Store the user's notes with the job.
 * @param {string} jobId
 * @param {Note[]} notes
 * @returns {Promise<any>} the job
 */
export async function keepNotes(jobId, notes) {
  const body = JSON.stringify({ persons: notes });
  return (await call(`v1/jobs/${jobId}`, { method: "PATCH", headers: { "Content-Type": "application/json" }, body })).json();
}
