// Segments of a person: those of the service's summary once it exists, raw runs before.  Raw runs grow with the records,
// so the cost is proportional to new records, not to people.

/** @typedef {import("./records.js").Records} Records */
/** @typedef {{id: number, length: number, frames: import("./columns.js").Column<any>, faces: import("./columns.js").Column<any>}} Faces */
/** @typedef {{start: number, end: number, label: number, mean: number, unsure: boolean}} Segment times in s; mean: of that label's value */
/** @typedef {{source: number, done: number, sum: number, count: number, segments: Segment[]}} Runs */

/** @type {WeakMap<object, Runs>} */
const known = new WeakMap();
/** @type {WeakMap<Records, {unsureBelow: number, tracks: Map<number, Segment[]>}>} */
const given = new WeakMap();

/**
 * Use the segments of the service's summary.
 * @param {Records} records
 * @param {any} summary null: there is none
 * @param {number} unsureBelow
 */
export function setSummary(records, summary, unsureBelow) {
  const index = (/** @type {string} */ label) => records.labels.indexOf(label);
  const read = (/** @type {any} */ segment) => ({
    ...{ start: segment.start_s, end: segment.end_s, label: index(segment.label), mean: segment.mean_score },
    unsure: segment.unsure,
  });
  const tracks = new Map((summary?.tracks ?? []).map((/** @type {any} */ track) => [track.track_id, track.segments.map(read)]));
  given.set(records, { unsureBelow, tracks });
}

/** @param {Records} records */
export const unsureBelow = (records) => given.get(records)?.unsureBelow ?? 0;

/**
 * A person's segments, in order.
 * @param {Records} records
 * @param {Faces & {tracks?: {id: number}[]}} person
 * @param {number} source
 * @returns {Segment[]}
 */
export function segmentsOf(records, person, source) {
  const smooth = source === 0 ? given.get(records)?.tracks : undefined;
  const ids = (person.tracks ?? [person]).map(({ id }) => id);
  if (!smooth || !ids.every((id) => smooth.has(id))) return runs(records, person, source).segments;
  if (ids.length === 1) return /** @type {Segment[]} */ (smooth.get(ids[0]));
  return ids.flatMap((id) => /** @type {Segment[]} */ (smooth.get(id))).sort((one, other) => one.start - other.start);
}

/** @param {Records} records @param {Faces} person @param {number} source @returns {Runs} */
function runs(records, person, source) {
  let found = known.get(person);
  if (!found || found.source !== source || found.done > person.length) {
    found = { source, done: 0, sum: 0, count: 0, segments: [] };
    known.set(person, found);
  }
  const frames = person.frames.data;
  const faces = person.faces.data;
  for (; found.done < person.length; found.done += 1) {
    const at = found.done;
    const label = records.best(faces[at], source);
    const open = found.segments[found.segments.length - 1];
    const goesOn = open && open.label === label && frames[at] === frames[at - 1] + 1;
    if (!goesOn) {
      [found.sum, found.count] = [0, 0];
      found.segments.push({ start: records.times.data[frames[at]], end: 0, label, mean: 0, unsure: false });
    }
    const segment = found.segments[found.segments.length - 1];
    found.sum += records.score(faces[at], source, label);
    found.count += 1;
    segment.end = records.endOf(frames[at]);
    segment.mean = found.sum / found.count;
    segment.unsure = segment.mean < unsureBelow(records);
  }
  return found;
}

/**
 * Duration of each label, s.
 * @param {Records} records
 * @param {Faces & {tracks?: {id: number}[]}} person
 * @param {number} source
 */
export function secondsOf(records, person, source) {
  const seconds = new Float64Array(records.labels.length);
  for (const { label, start, end } of segmentsOf(records, person, source)) seconds[label] += end - start;
  return seconds;
}

/**
 * The label with the longest duration.
 * @param {Records} records
 * @param {Faces} person
 * @param {number} source
 */
export function mostly(records, person, source) {
  const seconds = secondsOf(records, person, source);
  return seconds.indexOf(Math.max(...seconds));
}
