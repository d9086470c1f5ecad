// Draws one track over time: stacked probabilities, disagreement of the members, and the segments' labels.
// Values are means over pixel columns, so the cost depends on a lane's width, not on the video's length; only the
// visible part is read.

import { countUpTo } from "./columns.js";
import { segmentsOf } from "./segments.js";

/** @typedef {import("./records.js").Records} Records */
/** @typedef {import("./segments.js").Faces} Track a track, or all tracks of a person */
/** @typedef {{start: number, end: number}} Span s */
/** @typedef {{colours: string[], texts: string[], ink: string, ground: string}} Paint */

/**
 * Heights of a lane's parts, CSS pixels.  marks: disagreement, on top; stack; gap; strip: segments, below.
 * @typedef {{marks: number, stack: number, gap: number, strip: number, height: number}} Shape
 */

/** @param {number} marks @param {number} stack @param {number} gap @param {number} strip @returns {Shape} */
const shape = (marks, stack, gap, strip) => ({ marks, stack, gap, strip, height: marks + stack + gap + strip });
export const FULL = shape(5, 56, 3, 20);
export const COMPACT = shape(3, 12, 1, 6);
export const MINIMAP = shape(0, 20, 0, 0);
const TEXT_PX = 14; // minimum height of a strip with text
const UNSURE_ALPHA = 0.35;
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
function columnsOf(records, track, source, view, width) {
  const labels = records.labels.length;
  const sums = new Float32Array(width * labels);
  const present = new Uint8Array(width);
  const apart = new Float32Array(width);
  const times = records.times.data;
  const frames = track.frames.data;
  const faces = track.faces.data;
  const step = (view.end - view.start) / width;
  // The first visible frame: the last one that begins before the view.
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
 * @param {Shape} shape
 */
export function drawLane(context, records, track, source, view, width, paint, shape) {
  context.clearRect(0, 0, width, shape.height);
  context.fillStyle = paint.ground;
  context.fillRect(0, shape.marks, width, shape.stack);
  const columns = columnsOf(records, track, source, view, width);
  drawStack(context, columns, records.labels.length, width, paint.colours, shape);
  if (shape.marks) drawMarks(context, columns, width, paint.ink, shape);
  if (shape.strip) drawSegments(context, records, track, source, view, width, paint, shape);
}

/**
 * Bands, painted from top to bottom, each down to the lane's bottom, so that no seam is visible.
 * @param {CanvasRenderingContext2D} context
 * @param {{sums: Float32Array, present: Uint8Array}} columns
 * @param {number} labels
 * @param {number} width
 * @param {string[]} colours
 * @param {Shape} shape
 */
function drawStack(context, { sums, present }, labels, width, colours, shape) {
  const bottom = shape.marks + shape.stack;
  const heights = new Float32Array(width).fill(1);
  for (let k = labels - 1; k >= 0; k -= 1) {
    context.fillStyle = colours[k];
    context.beginPath();
    for (let x = 0; x < width; x += 1) {
      if (!present[x]) continue;
      const top = bottom - Math.min(heights[x], 1) * shape.stack;
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
 * Marks above columns in which members disagree; darker: more often.
 * @param {CanvasRenderingContext2D} context
 * @param {{apart: Float32Array}} columns
 * @param {number} width
 * @param {string} ink
 * @param {Shape} shape
 */
function drawMarks(context, { apart }, width, ink, shape) {
  context.fillStyle = ink;
  for (let x = 0; x < width; ) {
    const share = apart[x];
    let end = x + 1;
    while (end < width && apart[end] === share) end += 1;
    if (share) {
      context.globalAlpha = 0.3 + 0.6 * share;
      context.fillRect(x, 0, end - x, shape.marks - (shape.marks > 3 ? 2 : 1));
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
 * @param {Shape} shape
 */
function drawSegments(context, records, track, source, view, width, paint, shape) {
  const scale = width / (view.end - view.start);
  const top = shape.marks + shape.stack + shape.gap;
  context.font = FONT;
  context.textBaseline = "middle";
  let drawnTo = -1;
  for (const { start, end, label, unsure } of segmentsOf(records, track, source)) {
    if (end <= view.start) continue;
    if (start >= view.end) break;
    const left = Math.max(0, (start - view.start) * scale);
    const right = Math.min(width, (end - view.start) * scale);
    if (right <= drawnTo) continue; // its pixel is already painted
    drawnTo = Math.max(Math.ceil(left + 1), Math.floor(right));
    const wide = Math.max(right - left - (right - left > 4 ? 1 : 0), 1);
    context.fillStyle = paint.colours[label];
    // Unsure segments are pale, with a line in their colour below.
    context.globalAlpha = unsure ? UNSURE_ALPHA : 1;
    context.fillRect(left, top, wide, shape.strip);
    context.globalAlpha = 1;
    if (unsure) context.fillRect(left, top + shape.strip - 2, wide, 2);
    const text = unsure ? `${records.labels[label]}?` : records.labels[label];
    if (shape.strip >= TEXT_PX && wide > 24 && context.measureText(text).width + 2 * TEXT_MARGIN_PX <= wide) {
      context.fillStyle = unsure ? paint.ink : paint.texts[label];
      context.fillText(text, left + TEXT_MARGIN_PX, top + shape.strip / 2 + 0.5);
    }
  }
}
