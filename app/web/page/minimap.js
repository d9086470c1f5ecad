// The minimap below zoomed lanes: drag the visible part to pan.

import { fit } from "./canvas.js";
import { byId } from "./dom.js";
import { drawLane, MINIMAP } from "./lane-drawing.js";

/** @typedef {import("./lane-drawing.js").Span} Span */

export class Minimap {
  /** @param {{onView: (start: number) => void}} events */
  constructor(events) {
    this.root = byId("minimap");
    this.canvas = /** @type {HTMLCanvasElement} */ (byId("minimap-canvas"));
    this.part = byId("minimap-part");
    this.drawn = "";
    this.end = 0;
    let grip = 0; // offset of the pointer in the part, s
    const at = (/** @type {PointerEvent} */ event) => {
      const { left, width } = this.root.getBoundingClientRect();
      return ((event.clientX - left) / width) * this.end;
    };
    this.root.addEventListener("pointerdown", (/** @type {PointerEvent} */ event) => {
      if (event.button) return;
      this.root.setPointerCapture(event.pointerId);
      const { start, end } = this.view;
      const time = at(event);
      grip = time >= start && time <= end ? time - start : (end - start) / 2;
      events.onView(time - grip);
    });
    this.root.addEventListener("pointermove", (/** @type {PointerEvent} */ event) => {
      if (this.root.hasPointerCapture(event.pointerId)) events.onView(at(event) - grip);
    });
    /** @type {Span} */
    this.view = { start: 0, end: 1 };
  }

  /** @param {Span} view @param {number} end s */
  setView(view, end) {
    this.view = view;
    this.end = end;
    const part = view.end - view.start < end - 1e-6;
    this.root.hidden = !part;
    if (!part) return;
    this.part.style.left = `${(view.start / end) * 100}%`;
    this.part.style.width = `${((view.end - view.start) / end) * 100}%`;
  }

  /**
   * Draw a person over the whole length, if it has changed.
   * @param {import("./records.js").Records} records
   * @param {import("./people.js").Person | null} person
   * @param {number} source
   * @param {import("./lane-drawing.js").Paint} paint
   */
  draw(records, person, source, paint) {
    if (this.root.hidden || !person) return;
    const wanted = [records.version, person.id, person.length, source, this.canvas.clientWidth, paint.ink, this.end].join();
    if (wanted === this.drawn) return;
    this.drawn = wanted;
    const width = fit(this.canvas, MINIMAP.height);
    const context = /** @type {CanvasRenderingContext2D} */ (this.canvas.getContext("2d"));
    drawLane(context, records, person, source, { start: 0, end: this.end }, width, paint, MINIMAP);
  }
}
