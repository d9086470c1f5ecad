// Boxes and labels on the faces of one frame, on a canvas over the picture.

import { textOn } from "./page-settings.js";
import { percent } from "./words.js";

/** @typedef {import("./records.js").Records} Records */

const LINE_PX = 2;
const CHOSEN_LINE_PX = 3.5;
const HALO_PX = 1.5; // dark, on both sides of the line, so that it shows on any picture
const FONT_PX = 13;
const TAG_HEIGHT_PX = 22;
const TAG_PADDING_PX = 7;

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
   * @param {number | null} chosen the track whose values are shown
   */
  draw(records, position, source, size, colours, chosen) {
    this.redraw = () => this.draw(records, position, source, size, colours, chosen);
    const [width, height] = this.#fit();
    if (position < 0 || !size.width || !size.height) return;
    const [first, end] = records.facesOf(position);
    for (let face = first; face < end; face += 1) {
      const label = records.best(face, source);
      const value = records.score(face, source, label);
      const [x, y, w, h] = records.boxes.data.subarray(face * 4, face * 4 + 4);
      const box = [(x * width) / size.width, (y * height) / size.height, (w * width) / size.width, (h * height) / size.height];
      const several = end - first > 1;
      const text = `${several ? `${records.trackIds.data[face]} ` : ""}${records.labels[label]} ${percent(value)}`;
      const line = records.trackIds.data[face] === chosen ? CHOSEN_LINE_PX : LINE_PX;
      this.#box(box, colours[label], text, line, width);
    }
  }

  /**
   * Which track's face is at a place on the canvas, the smallest first; null where none is.
   * @param {Records} records
   * @param {number} position
   * @param {{width: number, height: number}} size
   * @param {number} left share of the width
   * @param {number} top share of the height
   */
  trackAt(records, position, size, left, top) {
    if (position < 0) return null;
    const [first, end] = records.facesOf(position);
    let found = null;
    let least = Infinity;
    for (let face = first; face < end; face += 1) {
      const [x, y, w, h] = records.boxes.data.subarray(face * 4, face * 4 + 4);
      const [px, py] = [left * size.width, top * size.height];
      if (px >= x && px <= x + w && py >= y && py <= y + h && w * h < least) {
        least = w * h;
        found = records.trackIds.data[face];
      }
    }
    return found;
  }

  /** Clear, at the screen's own resolution.  @returns {[number, number]} size in CSS pixels */
  #fit() {
    const { clientWidth: width, clientHeight: height } = this.canvas;
    const density = window.devicePixelRatio || 1;
    const [w, h] = [Math.round(width * density), Math.round(height * density)];
    if (this.canvas.width !== w || this.canvas.height !== h) Object.assign(this.canvas, { width: w, height: h });
    this.context.setTransform(density, 0, 0, density, 0, 0);
    this.context.clearRect(0, 0, width, height);
    return [width, height];
  }

  /**
   * @param {number[]} box x, y, width, height in CSS pixels
   * @param {string} colour
   * @param {string} text
   * @param {number} line its width, px
   * @param {number} canvasWidth
   */
  #box([x, y, width, height], colour, text, line, canvasWidth) {
    const { context } = this;
    context.lineWidth = line + 2 * HALO_PX;
    context.strokeStyle = "#00000073";
    context.strokeRect(x, y, width, height);
    context.lineWidth = line;
    context.strokeStyle = colour;
    context.strokeRect(x, y, width, height);
    context.font = `600 ${FONT_PX}px Inter, system-ui, sans-serif`;
    const wide = context.measureText(text).width + 2 * TAG_PADDING_PX;
    const left = Math.max(0, Math.min(x - line / 2, canvasWidth - wide));
    const above = y - TAG_HEIGHT_PX - line / 2;
    const top = above >= 0 ? above : y + height + line / 2;
    context.fillStyle = colour;
    context.fillRect(left, top, wide, TAG_HEIGHT_PX);
    context.fillStyle = textOn(colour);
    context.textBaseline = "middle";
    context.fillText(text, left + TAG_PADDING_PX, top + TAG_HEIGHT_PX / 2 + 1);
  }
}
