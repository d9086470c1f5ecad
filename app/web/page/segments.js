// Runs of frames of a track in which the same label comes first.

/** @typedef {import("./records.js").Records} Records */
/** @typedef {import("./records.js").Track} Track */
/** @typedef {{start: number, end: number, label: number, mean: number}} Segment times in s; mean: of that label's value */

/** @type {WeakMap<Track, {version: number, source: number, segments: Segment[]}>} */
const known = new WeakMap();

/**
 * A track's segments, in order; computed anew only when there are more records.
 * @param {Records} records
 * @param {Track} track
 * @param {number} source
 * @returns {Segment[]}
 */
export function segmentsOf(records, track, source) {
  const cached = known.get(track);
  if (cached && cached.version === records.version && cached.source === source) return cached.segments;
  const segments = find(records, track, source);
  known.set(track, { version: records.version, source, segments });
  return segments;
}

/** @param {Records} records @param {Track} track @param {number} source @returns {Segment[]} */
function find(records, track, source) {
  const segments = [];
  const frames = track.frames.data;
  const faces = track.faces.data;
  for (let first = 0; first < track.length; ) {
    const label = records.best(faces[first], source);
    let sum = 0;
    let next = first;
    while (
      next < track.length &&
      (next === first || frames[next] === frames[next - 1] + 1) &&
      records.best(faces[next], source) === label
    ) {
      sum += records.score(faces[next], source, label);
      next += 1;
    }
    segments.push({
      start: records.times.data[frames[first]],
      end: records.endOf(frames[next - 1]),
      label,
      mean: sum / (next - first),
    });
    first = next;
  }
  return segments;
}

/**
 * The label that comes first in most frames of a track.
 * @param {Records} records
 * @param {Track} track
 * @param {number} source
 */
export function mostly(records, track, source) {
  const seconds = new Float64Array(records.labels.length);
  for (const { label, start, end } of segmentsOf(records, track, source)) seconds[label] += end - start;
  return seconds.indexOf(Math.max(...seconds));
}
