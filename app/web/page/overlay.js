// Boxes and labels on the faces of one frame, on a canvas over the picture.

import { fit } from "./canvas.js";
import { textOn } from "./page-settings.js";
import { unsureBelow } from "./segments.js";
import { percent } from "./words.js";

/** @typedef {import("./records.js").Records} Records */

const LINE_PX = 2;
const CHOSEN_LINE_PX = 3.5;
const HALO_PX = 1.5; // dark outline on both sides, visible on any picture
const FONT_PX = 13;
const TAG_HEIGHT_PX = 22;
const TAG_PADDING_PX = 7;
const MOST_HIDDEN = 0.03; // maximum share of a tag over faces or other tags; otherwise it is omitted
const DASH_PX = [7, 5]; // of boxes whose label is unsure

/**
 * The rectangle of a picture fitted into the stage.
 * @param {{width: number, height: number}} size in its own pixels
 * @param {number} width CSS pixels of the stage
 * @param {number} height
 * @returns {[number, number, number]} scale, left, top
 */
export function place(size, width, height) {
  const scale = Math.min(width / size.width, height / size.height);
  return [scale, (width - size.width * scale) / 2, (height - size.height * scale) / 2];
}

export class Overlay {
  /** @param {HTMLCanvasElement} canvas */
  constructor(canvas) {
    this.canvas = canvas;
    this.context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
    /** @type {() => void} */
    this.redraw = () => {};
    new ResizeObserver(() => this.redraw()).observe(canvas);
  }

  clear() {
    this.redraw = () => {};
    this.#fit();
  }

  /**
   * Draw the faces of a frame.
   * @param {Records} records
   * @param {number} position of the frame, -1 for none
   * @param {number} source
   * @param {{width: number, height: number}} size of the picture in source pixels
   * @param {string[]} colours
   * @param {(trackId: number) => {name: string, chosen: boolean} | null} who null: not to be shown
   */
  draw(records, position, source, size, colours, who) {
    this.redraw = () => this.draw(records, position, source, size, colours, who);
    const [width, height] = this.#fit();
    if (position < 0 || !size.width || !size.height) return;
    const [scale, left, top] = place(records.sizes.get(position) ?? size, width, height);
    const [first, end] = records.facesOf(position);
    const faces = [];
    for (let face = first; face < end; face += 1) {
      const person = who(records.trackIds.data[face]);
      if (!person) continue;
      const label = records.best(face, source);
      const value = records.score(face, source, label);
      const unsure = value < unsureBelow(records);
      const [x, y, w, h] = records.boxes.data.subarray(face * 4, face * 4 + 4);
      const box = [left + x * scale, top + y * scale, w * scale, h * scale];
      if (!overlap(box, [0, 0, width, height])) continue;
      const words = `${records.labels[label]}${unsure ? "?" : ""} ${percent(value)}`;
      const text = end - first > 1 ? `${person.name.replace(/^Face (?=\d+$)/, "")} ${words}` : words;
      faces.push({ box, text, unsure, chosen: person.chosen, colour: colours[label] });
    }
    for (const { box, colour, unsure, chosen } of faces) this.#box(box, colour, unsure, chosen ? CHOSEN_LINE_PX : LINE_PX);
    this.#tags(faces, width, height);
  }

  /**
   * A tag per face, unless it would cover faces or other tags; the selected face always has one.
   * @param {{box: number[], text: string, colour: string, chosen: boolean}[]} faces
   * @param {number} width of the canvas, CSS pixels
   * @param {number} height
   */
  #tags(faces, width, height) {
    const { context } = this;
    context.font = `600 ${FONT_PX}px Inter, system-ui, sans-serif`;
    const taken = faces.map(({ box }) => box);
    const order = [...faces].sort((one, other) => Number(other.chosen) - Number(one.chosen) || other.box[2] - one.box[2]);
    for (const { box, text, colour, chosen } of order) {
      const [x, y, w, h] = box;
      const wide = context.measureText(text).width + 2 * TAG_PADDING_PX;
      const edge = (chosen ? CHOSEN_LINE_PX : LINE_PX) / 2;
      const free = (/** @type {number} */ left, /** @type {number} */ top) => [Math.max(0, Math.min(left, width - wide)), top, wide, TAG_HEIGHT_PX];
      const places = [
        free(x - edge, y - TAG_HEIGHT_PX - edge),
        free(x - edge, y + h + edge),
        ...(x + w + wide <= width ? [free(x + w + edge, y)] : []),
        ...(x - wide >= 0 ? [free(x - wide - edge, y)] : []),
      ].filter(([, top]) => top >= 0 && top + TAG_HEIGHT_PX <= height);
      const hidden = places.map((place) => taken.reduce((sum, other) => sum + overlap(place, other), 0) / (wide * TAG_HEIGHT_PX));
      const least = Math.min(...hidden);
      if (!places.length || (least > MOST_HIDDEN && !chosen)) continue;
      const place = places[hidden.indexOf(least)];
      taken.push(place);
      context.fillStyle = colour;
      context.fillRect(place[0], place[1], place[2], place[3]);
      context.fillStyle = textOn(colour);
      context.textBaseline = "middle";
      context.fillText(text, place[0] + TAG_PADDING_PX, place[1] + TAG_HEIGHT_PX / 2 + 1);
    }
  }

  /**
   * The track of the smallest face at a point of the canvas, or null.
   * @param {Records} records
   * @param {number} position
   * @param {{width: number, height: number}} size
   * @param {number} px from the left, CSS pixels
   * @param {number} py from the top
   */
  trackAt(records, position, size, px, py) {
    if (position < 0) return null;
    const { clientWidth, clientHeight } = this.canvas;
    const [scale, left, top] = place(records.sizes.get(position) ?? size, clientWidth, clientHeight);
    const [sx, sy] = [(px - left) / scale, (py - top) / scale];
    const [first, end] = records.facesOf(position);
    let found = null;
    let least = Infinity;
    for (let face = first; face < end; face += 1) {
      const [x, y, w, h] = records.boxes.data.subarray(face * 4, face * 4 + 4);
      if (sx >= x && sx <= x + w && sy >= y && sy <= y + h && w * h < least) {
        least = w * h;
        found = records.trackIds.data[face];
      }
    }
    return found;
  }

  /** Clear, at the screen's own resolution.  @returns {[number, number]} size in CSS pixels */
  #fit() {
    const height = this.canvas.clientHeight;
    const width = fit(this.canvas, height);
    this.context.clearRect(0, 0, width, height);
    return [width, height];
  }

  /**
   * @param {number[]} box x, y, width, height in CSS pixels
   * @param {string} colour
   * @param {boolean} dashed
   * @param {number} line its width, px
   */
  #box([x, y, width, height], colour, dashed, line) {
    const { context } = this;
    context.lineWidth = line + 2 * HALO_PX;
    context.strokeStyle = "#00000073";
    context.strokeRect(x, y, width, height);
    context.lineWidth = line;
    context.strokeStyle = colour;
    if (dashed) context.setLineDash(DASH_PX);
    context.strokeRect(x, y, width, height);
    context.setLineDash([]);
  }
}

/**
 * The area that two rectangles share.
 * @param {number[]} one x, y, width, height
 * @param {number[]} other
 */
function overlap([x, y, w, h], [a, b, c, d]) {
  return Math.max(0, Math.min(x + w, a + c) - Math.max(x, a)) * Math.max(0, Math.min(y + h, b + d) - Math.max(y, b));
}
