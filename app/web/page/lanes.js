// The lanes over time: a track each, with playhead, hovering, scrubbing and zoom.
// Lanes are drawn when data, view or source change; the playhead is an element of its own, so scrubbing draws nothing.

import { drawAxis } from "./axis.js";
import { byId, make, oncePerFrame, setText } from "./dom.js";
import { drawLane, LANE_PX } from "./lane-drawing.js";
import { textOn } from "./page-settings.js";
import { mostly } from "./segments.js";
import { Tooltip } from "./tooltip.js";
import { clock, counted, preciseClock } from "./words.js";

/** @typedef {import("./records.js").Records} Records */

const FIRST_LANES = 8; // more are shown when asked for
const LEAST_SPAN_S = 0.4;
const ZOOM = 1.6;
const REDRAW_MS = 120; // while records come

export class Lanes {
  /**
   * @param {{onSeek: (time: number) => void, onTrack: (trackId: number) => void}} events
   */
  constructor(events) {
    this.events = events;
    this.root = byId("lanes");
    this.playhead = byId("playhead");
    this.tooltip = new Tooltip(byId("tooltip"));
    /** @type {Records | null} */
    this.records = null;
    /** @type {string[]} */
    this.colours = [];
    this.source = 0;
    this.end = 0;
    this.time = 0;
    this.showAll = false;
    /** @type {number | null} */
    this.chosen = null;
    /** @type {import("./lane-drawing.js").Span} */
    this.view = { start: 0, end: 1 };
    /** @type {Map<number, {row: HTMLElement, name: HTMLElement, canvas: HTMLCanvasElement, visible: boolean, stale: boolean}>} */
    this.rows = new Map();
    this.draw = oncePerFrame(() => this.#draw());
    this.lastRefresh = 0;
    this.timer = 0;
    this.sight = new IntersectionObserver((entries) => this.#seen(entries), { rootMargin: "200px" });
    new ResizeObserver(() => this.#invalidate()).observe(this.root);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#invalidate());
    this.#listen();
    byId("all-lanes").onclick = () => {
      this.showAll = true;
      this.refresh();
    };
  }

  /** @param {Records} records @param {string[]} colours */
  show(records, colours) {
    this.records = records;
    this.colours = colours;
    this.source = 0;
    this.end = 0;
    this.showAll = false;
    this.view = { start: 0, end: 1 };
    for (const { row } of this.rows.values()) row.remove();
    this.rows.clear();
    this.sight.disconnect();
    this.refresh();
  }

  /** More records came: show them soon, but not for every few. */
  more() {
    if (this.timer) return;
    const due = this.lastRefresh + REDRAW_MS - performance.now();
    this.timer = setTimeout(() => this.refresh(), Math.max(0, due));
  }

  refresh() {
    clearTimeout(this.timer);
    this.timer = 0;
    this.lastRefresh = performance.now();
    const { records } = this;
    if (!records) return;
    this.setEnd(records.end);
    const longest = [...records.tracks.values()].sort((one, other) => other.length - one.length);
    const shown = this.showAll ? longest : longest.slice(0, FIRST_LANES);
    for (const { id } of shown) if (!this.rows.has(id)) this.#addRow(id);
    for (const [id, { row, canvas }] of this.rows) {
      if (shown.some((track) => track.id === id)) continue;
      this.sight.unobserve(canvas);
      row.remove();
      this.rows.delete(id);
    }
    for (const track of shown) this.#name(track);
    const more = longest.length - shown.length;
    byId("all-lanes").hidden = more <= 0;
    setText(byId("all-lanes"), `Show ${counted(more, "more face")}`);
    byId("no-lanes").hidden = longest.length > 0;
    this.#invalidate();
  }

  /** @param {number} end the length of the whole, s; it only grows */
  setEnd(end) {
    if (end <= this.end) return;
    const whole = this.view.start === 0 && this.view.end >= this.end;
    this.end = end;
    if (whole) this.setView(0, end);
  }

  /** @param {number} source */
  setSource(source) {
    this.source = source;
    this.refresh();
  }

  /** @param {number | null} trackId */
  choose(trackId) {
    this.chosen = trackId;
    for (const [id, { row }] of this.rows) row.classList.toggle("chosen", id === trackId && this.rows.size > 1);
  }

  /** @param {number} time s */
  setTime(time) {
    this.time = time;
    const { start, end } = this.view;
    const span = end - start;
    const zoomed = span < this.end - 1e-6;
    // A page on, when the playhead leaves the view.
    if (zoomed && (time < start || time > end)) this.setView(time - span * 0.1, time + span * 0.9);
    this.#placePlayhead();
  }

  /** @param {number} start @param {number} end */
  setView(start, end) {
    const whole = Math.max(this.end, LEAST_SPAN_S);
    const span = Math.min(Math.max(end - start, LEAST_SPAN_S), whole);
    const from = Math.min(Math.max(start, 0), whole - span);
    this.view = { start: from, end: from + span };
    byId("zoom-out").disabled = byId("zoom-fit").disabled = span >= whole;
    byId("zoom-in").disabled = span <= LEAST_SPAN_S;
    this.#placePlayhead();
    this.#invalidate();
  }

  /** @param {number} factor below 1: closer @param {number} [around] s */
  zoom(factor, around = this.time) {
    const { start, end } = this.view;
    const share = Math.min(Math.max((around - start) / (end - start), 0), 1);
    const span = (end - start) * factor;
    this.setView(around - share * span, around + (1 - share) * span);
  }

  #listen() {
    const { root } = this;
    byId("zoom-in").onclick = () => this.zoom(1 / ZOOM);
    byId("zoom-out").onclick = () => this.zoom(ZOOM);
    byId("zoom-fit").onclick = () => this.setView(0, this.end);
    root.addEventListener("pointerdown", (/** @type {PointerEvent} */ event) => {
      if (event.button) return;
      root.setPointerCapture(event.pointerId);
      const lane = this.#laneAt(event);
      if (lane !== null) this.events.onTrack(lane);
      this.events.onSeek(this.#timeAt(event));
    });
    root.addEventListener("pointermove", (/** @type {PointerEvent} */ event) => {
      if (root.hasPointerCapture(event.pointerId)) this.events.onSeek(this.#timeAt(event));
      else this.#hover(event);
    });
    for (const end of ["pointerleave", "pointerdown"]) root.addEventListener(end, () => this.tooltip.hide());
    const wheel = (/** @type {WheelEvent} */ event) => {
      const sideways = event.shiftKey ? event.deltaY : event.deltaX;
      if (event.ctrlKey) this.zoom(Math.exp(event.deltaY * 0.004), this.#timeAt(event));
      else if (sideways) {
        const move = (sideways / root.clientWidth) * (this.view.end - this.view.start);
        this.setView(this.view.start + move, this.view.end + move);
      } else return;
      event.preventDefault();
    };
    root.addEventListener("wheel", wheel, { passive: false });
  }

  /** @param {MouseEvent} event */
  #timeAt(event) {
    const { left, width } = this.root.getBoundingClientRect();
    const share = Math.min(Math.max((event.clientX - left) / width, 0), 1);
    return this.view.start + share * (this.view.end - this.view.start);
  }

  /** @param {MouseEvent} event @returns {number | null} the track under the pointer */
  #laneAt(event) {
    for (const [id, { row }] of this.rows) {
      const { top, bottom } = row.getBoundingClientRect();
      if (event.clientY >= top && event.clientY <= bottom) return id;
    }
    return null;
  }

  /** @param {MouseEvent} event */
  #hover(event) {
    const lane = this.#laneAt(event);
    const { records } = this;
    if (lane === null || !records) return this.tooltip.hide();
    const position = records.frameAt(this.#timeAt(event));
    const face = records.faceOf(lane, position);
    if (face < 0) return this.tooltip.hide();
    this.tooltip.show(records, position, face, this.source, this.colours, event);
  }

  /** @param {number} id */
  #addRow(id) {
    const name = make("div", { class: "lane-name" });
    const canvas = /** @type {HTMLCanvasElement} */ (make("canvas", { class: "lane-canvas" }));
    canvas.style.height = `${LANE_PX}px`;
    const row = make("div", { class: "lane", "data-track": id }, name, canvas);
    const later = [...this.rows.keys()].filter((other) => other > id).sort((one, other) => one - other)[0];
    this.root.insertBefore(row, later === undefined ? this.playhead : /** @type {any} */ (this.rows.get(later)).row);
    this.rows.set(id, { row, name, canvas, visible: true, stale: true });
    this.sight.observe(canvas);
  }

  /** @param {import("./records.js").Track} track */
  #name(track) {
    const { records, rows, source } = this;
    const row = rows.get(track.id);
    if (!row || !records) return;
    const from = records.times.data[track.frames.data[0]];
    const to = records.endOf(track.frames.data[track.length - 1]);
    const words = this.end < 60 ? preciseClock : clock;
    const label = records.labels[mostly(records, track, source)];
    setText(row.name, `Face ${track.id} · mostly ${label} · ${words(from)} to ${words(to)}`);
  }

  /** @param {IntersectionObserverEntry[]} entries */
  #seen(entries) {
    for (const { target, isIntersecting } of entries) {
      for (const row of this.rows.values()) if (row.canvas === target) row.visible = isIntersecting;
    }
    this.draw();
  }

  #invalidate() {
    for (const row of this.rows.values()) row.stale = true;
    this.draw();
  }

  #draw() {
    const { records } = this;
    if (!records || !this.root.clientWidth) return;
    const style = getComputedStyle(this.root);
    const paint = {
      colours: this.colours,
      texts: this.colours.map(textOn),
      ink: style.getPropertyValue("--ink"),
      ground: style.getPropertyValue("--lane"),
    };
    for (const [id, row] of this.rows) {
      const track = records.tracks.get(id);
      if (!row.visible || !row.stale || !track) continue;
      row.stale = false;
      const width = fit(row.canvas, LANE_PX);
      const context = /** @type {CanvasRenderingContext2D} */ (row.canvas.getContext("2d"));
      drawLane(context, records, track, this.source, this.view, width, paint);
    }
    drawAxis(byId("axis"), this.view, this.root.clientWidth);
    this.#placePlayhead();
  }

  #placePlayhead() {
    const { start, end } = this.view;
    const share = (this.time - start) / (end - start);
    this.playhead.hidden = !this.rows.size || share < 0 || share > 1;
    this.playhead.style.transform = `translateX(${share * this.root.clientWidth}px)`;
  }
}

/**
 * Give a canvas the screen's own resolution.
 * @param {HTMLCanvasElement} canvas
 * @param {number} height CSS pixels
 * @returns {number} its width in CSS pixels, whole
 */
function fit(canvas, height) {
  const density = window.devicePixelRatio || 1;
  const width = Math.max(1, Math.floor(canvas.clientWidth));
  const [w, h] = [Math.round(width * density), Math.round(height * density)];
  if (canvas.width !== w || canvas.height !== h) Object.assign(canvas, { width: w, height: h });
  canvas.getContext("2d")?.setTransform(density, 0, 0, density, 0, 0);
  return width;
}
