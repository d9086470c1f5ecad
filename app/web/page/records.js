// A job's frame records as typed arrays: frames, their faces, and the faces of each track.

import { Column, countUpTo } from "./columns.js";

// Tolerance for the times that players report; frames are further apart.
const TIME_TOLERANCE_S = 0.002;
const LINGER_S = 0.25; // players continue a little after the last frame
const FIRST_INTERVAL_S = 1 / 25;
const SCORE_STEPS = 50_000; // the service's precision, so a score fits into two bytes without loss

/** One face over time. */
export class Track {
  /** @param {number} id */
  constructor(id) {
    this.id = id;
    this.frames = new Column(Uint32Array); // positions among the job's records, ascending
    this.faces = new Column(Uint32Array); // index of each face's values
  }

  get length() {
    return this.frames.length;
  }
}

/** All records so far.  Sources: 0 is the ensemble, 1.. are its members. */
export class Records {
  /** @param {string[]} labels in score order */
  constructor(labels) {
    this.labels = labels;
    /** @type {string[]} */
    this.members = [];
    this.times = new Column(Float64Array); // s
    this.indices = new Column(Uint32Array); // in the source
    this.firstFace = new Column(Uint32Array);
    this.boxes = new Column(Float32Array); // x, y, width, height: source pixels
    this.scores = new Column(Uint16Array); // in steps; per face: the labels of each source in turn
    this.trackIds = new Column(Uint32Array);
    this.faceCount = 0;
    this.framesWithFaces = 0;
    /** @type {Map<number, number>} by track: the person that the service found it to be */
    this.personIds = new Map();
    this.firsts = new Uint32Array(labels.length); // number of faces on which each label ranks first
    /** @type {Map<number, {width: number, height: number}>} by position: of pictures whose size is not the job's */
    this.sizes = new Map();
    /** @type {Map<number, Track>} */
    this.tracks = new Map();
    this.version = 0;
  }

  get length() {
    return this.times.length;
  }

  /** Values of one face. */
  get stride() {
    return this.labels.length * (1 + this.members.length);
  }

  /**
   * Add records, in order.
   * @param {any[]} frames as the API gives them, with `members`
   */
  append(frames) {
    for (const frame of frames) {
      const position = this.length;
      this.times.push(frame.timestamp_s);
      this.indices.push(frame.frame_index);
      this.firstFace.push(this.faceCount);
      if (frame.width) this.sizes.set(position, { width: frame.width, height: frame.height });
      if (frame.faces.length) this.framesWithFaces += 1;
      for (const face of frame.faces) this.#addFace(position, face);
    }
    this.version += 1;
  }

  /** @param {number} position @param {any} face */
  #addFace(position, face) {
    if (!this.faceCount && face.members) this.members = Object.keys(face.members);
    let track = this.tracks.get(face.track_id);
    if (!track) this.tracks.set(face.track_id, (track = new Track(face.track_id)));
    track.frames.push(position);
    track.faces.push(this.faceCount);
    this.trackIds.push(face.track_id);
    for (const value of face.bbox) this.boxes.push(value);
    this.scores.reserve(this.stride);
    this.#addScores(face.scores);
    for (const member of this.members) this.#addScores(face.members[member]);
    if (Number.isInteger(face.person_id)) this.personIds.set(face.track_id, face.person_id);
    this.firsts[this.best(this.faceCount, 0)] += 1;
    this.faceCount += 1;
  }

  /** @param {Record<string, number>} scores by label */
  #addScores(scores) {
    for (const label of this.labels) this.scores.push(Math.round(scores[label] * SCORE_STEPS));
  }

  /**
   * The frame shown at a time: the last one that has begun, also with a variable rate.
   * @param {number} time s
   * @returns {number} its position, or -1 before the first and where nothing is labelled yet
   */
  frameAt(time) {
    if (time > this.end + LINGER_S) return -1;
    return countUpTo(this.times.data, this.length, time + TIME_TOLERANCE_S) - 1;
  }

  /**
   * End of a frame: the start of the next one, or after the last interval.
   * @param {number} position
   */
  endOf(position) {
    const times = this.times.data;
    if (position + 1 < this.length) return times[position + 1];
    const interval = position > 0 ? times[position] - times[position - 1] : FIRST_INTERVAL_S;
    return times[position] + interval;
  }

  /** End of the last frame so far, s. */
  get end() {
    return this.length ? this.endOf(this.length - 1) : 0;
  }

  /**
   * Range of a frame's faces: start, and end (exclusive).
   * @param {number} position
   * @returns {[number, number]}
   */
  facesOf(position) {
    const first = this.firstFace.data[position];
    return [first, position + 1 < this.length ? this.firstFace.data[position + 1] : this.faceCount];
  }

  /**
   * Index of a face's values in `scores`.
   * @param {number} face
   * @param {number} source
   */
  offset(face, source) {
    return face * this.stride + source * this.labels.length;
  }

  /**
   * A label's value, 0 to 1.
   * @param {number} face
   * @param {number} source
   * @param {number} label
   */
  score(face, source, label) {
    return this.scores.data[this.offset(face, source) + label] / SCORE_STEPS;
  }

  /**
   * The label with the highest value.
   * @param {number} face
   * @param {number} source
   */
  best(face, source) {
    const { data } = this.scores;
    const offset = this.offset(face, source);
    let best = 0;
    for (let k = 1; k < this.labels.length; k += 1) if (data[offset + k] > data[offset + best]) best = k;
    return best;
  }

  /**
   * Whether the members' first labels differ.
   * @param {number} face
   */
  disagree(face) {
    const first = this.members.length ? this.best(face, 1) : 0;
    for (let source = 2; source <= this.members.length; source += 1) if (this.best(face, source) !== first) return true;
    return false;
  }

  /**
   * The face of a track, or of a person, in a frame, or -1.
   * @param {{frames: Column<any>, faces: Column<any>, length: number} | null} track
   * @param {number} position
   */
  faceOf(track, position) {
    if (!track || position < 0) return -1;
    const at = countUpTo(track.frames.data, track.length, position) - 1;
    return at >= 0 && track.frames.data[at] === position ? track.faces.data[at] : -1;
  }
}
