// Draws one track over time: stacked probabilities, where the members disagree, and the segments' labels.
// Values are means over a pixel column, so a lane costs as many points as it is wide, however long the video is, and
// only what is visible is read.

import { countUpTo } from "./columns.js";
import { segmentsOf } from "./segments.js";

/** @typedef {import("./records.js").Records} Records */
/** @typedef {import("./records.js").Track} Track */
/** @typedef {{start: number, end: number}} Span s */
/** @typedef {{colours: string[], texts: string[], ink: string, ground: string}} Paint */

export const MARKS_PX = 5; // disagreement, on top
export const STACK_PX = 56;
export const STRIP_PX = 20; // segments, below
const GAP_PX = 3;
export const LANE_PX = MARKS_PX + STACK_PX + GAP_PX + STRIP_PX;
const FONT = "600 11px Inter, system-ui, sans-serif";
const TEXT_MARGIN_PX = 6;

/**
 * Means of a track's values in each pixel column.
 * @param {Records} records
 * @param {Track} track
 * @param {number} source
 * @param {Span} view
 * @param {number} width columns
 * @returns {{sums: Float32Array, present: Uint8Array, apart: Float32Array}} sums: (width, labels) means; present: 1
 *   where the face is there; apart: share of frames in which the members' first labels differ
 */
export function columnsOf(records, track, source, view, width) {
  const labels = records.labels.length;
  const sums = new Float32Array(width * labels);
  const present = new Uint8Array(width);
  const apart = new Float32Array(width);
  const times = records.times.data;
  const frames = track.frames.data;
  const faces = track.faces.data;
  const step = (view.end - view.start) / width;
  // The first frame that may be seen: the last one that began before the view does.
  let at = Math.max(0, firstVisible(records, track, view.start));
  for (let x = 0; x < width; x += 1) {
    const [from, to] = [view.start + x * step, view.start + (x + 1) * step];
    while (at < track.length && records.endOf(frames[at]) <= from) at += 1;
    let count = 0;
    for (let next = at; next < track.length && times[frames[next]] < to; next += 1) {
      for (let k = 0; k < labels; k += 1) sums[x * labels + k] += records.score(faces[next], source, k);
      if (records.disagree(faces[next])) apart[x] += 1;
      count += 1;
    }
    if (!count) continue;
    for (let k = 0; k < labels; k += 1) sums[x * labels + k] /= count;
    apart[x] /= count;
    present[x] = 1;
  }
  return { sums, present, apart };
}

/** @param {Records} records @param {Track} track @param {number} start */
function firstVisible(records, track, start) {
  const position = countUpTo(records.times.data, records.length, start) - 1;
  return countUpTo(track.frames.data, track.length, position - 1);
}

/**
 * Draw a lane.
 * @param {CanvasRenderingContext2D} context in CSS pixels
 * @param {Records} records
 * @param {Track} track
 * @param {number} source
 * @param {Span} view
 * @param {number} width
 * @param {Paint} paint
 */
export function drawLane(context, records, track, source, view, width, paint) {
  context.clearRect(0, 0, width, LANE_PX);
  context.fillStyle = paint.ground;
  context.fillRect(0, MARKS_PX, width, STACK_PX);
  const columns = columnsOf(records, track, source, view, width);
  drawStack(context, columns, records.labels.length, width, paint.colours);
  drawMarks(context, columns, width, paint.ink);
  drawSegments(context, records, track, source, view, width, paint);
}

/**
 * Bands, painted from the topmost down, each to the lane's bottom: so no seam shows between two.
 * @param {CanvasRenderingContext2D} context
 * @param {{sums: Float32Array, present: Uint8Array}} columns
 * @param {number} labels
 * @param {number} width
 * @param {string[]} colours
 */
function drawStack(context, { sums, present }, labels, width, colours) {
  const bottom = MARKS_PX + STACK_PX;
  const heights = new Float32Array(width).fill(1);
  for (let k = labels - 1; k >= 0; k -= 1) {
    context.fillStyle = colours[k];
    context.beginPath();
    for (let x = 0; x < width; x += 1) {
      if (!present[x]) continue;
      const top = bottom - Math.min(heights[x], 1) * STACK_PX;
      if (!x || !present[x - 1]) {
        context.moveTo(x, bottom);
        context.lineTo(x, top);
      }
      context.lineTo(x + 0.5, top);
      if (x + 1 === width || !present[x + 1]) {
        context.lineTo(x + 1, top);
        context.lineTo(x + 1, bottom);
      }
      heights[x] -= sums[x * labels + k];
    }
    context.fill();
  }
}

/**
 * Marks above the columns in which members disagree, darker where they do more often.
 * @param {CanvasRenderingContext2D} context
 * @param {{apart: Float32Array}} columns
 * @param {number} width
 * @param {string} ink
 */
function drawMarks(context, { apart }, width, ink) {
  context.fillStyle = ink;
  for (let x = 0; x < width; ) {
    const share = apart[x];
    let end = x + 1;
    while (end < width && apart[end] === share) end += 1;
    if (share) {
      context.globalAlpha = 0.3 + 0.6 * share;
      context.fillRect(x, 0, end - x, MARKS_PX - 2);
    }
    x = end;
  }
  context.globalAlpha = 1;
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {Records} records
 * @param {Track} track
 * @param {number} source
 * @param {Span} view
 * @param {number} width
 * @param {Paint} paint
 */
function drawSegments(context, records, track, source, view, width, paint) {
  const scale = width / (view.end - view.start);
  const top = MARKS_PX + STACK_PX + GAP_PX;
  context.font = FONT;
  context.textBaseline = "middle";
  let drawnTo = -1;
  for (const { start, end, label } of segmentsOf(records, track, source)) {
    if (end <= view.start) continue;
    if (start >= view.end) break;
    const left = Math.max(0, (start - view.start) * scale);
    const right = Math.min(width, (end - view.start) * scale);
    if (right <= drawnTo) continue; // in a pixel that has its colour already
    drawnTo = Math.max(Math.ceil(left + 1), Math.floor(right));
    const wide = Math.max(right - left - (right - left > 4 ? 1 : 0), 1);
    context.fillStyle = paint.colours[label];
    context.fillRect(left, top, wide, STRIP_PX);
    const text = records.labels[label];
    if (wide > 24 && context.measureText(text).width + 2 * TEXT_MARGIN_PX <= wide) {
      context.fillStyle = paint.texts[label];
      context.fillText(text, left + TEXT_MARGIN_PX, top + STRIP_PX / 2 + 0.5);
    }
  }
}
