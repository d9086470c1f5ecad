// Pointer, wheel and zoom buttons on the lanes: seek, select, zoom, pan, show values.

import { byId } from "./dom.js";
import { Pointers } from "./pointers.js";
import { Tooltip } from "./tooltip.js";

/** @typedef {import("./lanes.js").Lanes} Lanes */

const ZOOM = 1.6; // factor of a button press
const WHEEL_ZOOM = 0.004; // exponent per pixel of the wheel

export class LaneGestures {
  /** @param {Lanes} lanes */
  constructor(lanes) {
    this.lanes = lanes;
    this.tooltip = new Tooltip(byId("tooltip"));
    const { root } = lanes;
    byId("zoom-in").onclick = () => lanes.zoom(1 / ZOOM);
    byId("zoom-out").onclick = () => lanes.zoom(ZOOM);
    byId("zoom-fit").onclick = () => lanes.setView(0, lanes.end);
    new Pointers(root, {
      onPoint: (event, first) => this.#point(event, first),
      onHover: (event) => this.#hover(event),
      onPinch: (before, now) => this.#pinch(before, now),
    });
    for (const type of ["pointerleave", "pointerdown"]) root.addEventListener(type, () => this.tooltip.hide());
    root.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
  }

  /** @param {PointerEvent} event @param {boolean} first */
  #point(event, first) {
    const lane = first ? laneAt(event) : null;
    if (lane !== null) this.lanes.events.onTrack(lane);
    this.lanes.events.onSeek(this.#timeAt(event.clientX));
  }

  /** What was below the two fingers stays below them. @param {number[]} before @param {number[]} now */
  #pinch(before, now) {
    const [left, right] = before.map((x) => this.#timeAt(x));
    const scale = (right - left) / (now[1] - now[0]);
    const area = this.lanes.area();
    const from = left - (now[0] - area.left) * scale;
    this.lanes.setView(from, from + area.width * scale);
  }

  /** @param {WheelEvent} event */
  #wheel(event) {
    const { lanes } = this;
    const sideways = event.shiftKey ? event.deltaY : event.deltaX;
    if (event.ctrlKey) lanes.zoom(Math.exp(event.deltaY * WHEEL_ZOOM), this.#timeAt(event.clientX));
    else if (sideways) {
      const { start, end } = lanes.view;
      const move = (sideways / lanes.area().width) * (end - start);
      lanes.setView(start + move, end + move);
    } else return;
    event.preventDefault();
  }

  /** @param {PointerEvent} event */
  #hover(event) {
    const lane = laneAt(event);
    const { records, people, source, colours } = this.lanes;
    const person = people?.of(lane) ?? null;
    if (!person || !records || event.clientX < this.lanes.area().left) return this.tooltip.hide();
    const position = records.frameAt(this.#timeAt(event.clientX));
    const face = records.faceOf(person, position);
    if (face < 0) return this.tooltip.hide();
    this.tooltip.show(records, position, face, source, colours, event, person.name);
  }

  /** @param {number} x of the window */
  #timeAt(x) {
    const { left, width } = this.lanes.area();
    const { start, end } = this.lanes.view;
    return start + Math.min(Math.max((x - left) / width, 0), 1) * (end - start);
  }
}

/** @param {MouseEvent} event @returns {number | null} the person under the pointer */
function laneAt(event) {
  const row = /** @type {HTMLElement | null} */ (document.elementFromPoint(event.clientX, event.clientY)?.closest(".lane"));
  return row ? Number(row.dataset.track) : null;
}
