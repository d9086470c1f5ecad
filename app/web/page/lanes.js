// The lanes over time, one per person, with playhead and view.
// Lanes are drawn when data, view or source change; the playhead is a separate element, so scrubbing draws nothing.

import { drawAxis } from "./axis.js";
import { fit } from "./canvas.js";
import { byId, make, oncePerFrame, setText } from "./dom.js";
import { COMPACT, drawLane, FULL } from "./lane-drawing.js";
import { LaneGestures } from "./lane-gestures.js";
import { Minimap } from "./minimap.js";
import { textOn } from "./page-settings.js";
import { mostly, secondsOf } from "./segments.js";
import { clock, counted, preciseClock } from "./words.js";

/** @typedef {import("./records.js").Records} Records */
/** @typedef {import("./people.js").Person} Person */

const MOST_FULL = 3; // maximum of people for large lanes; more have small ones
const FIRST_LANES = 12; // initially shown lanes
const LEAST_SPAN_S = 0.4;
const REDRAW_MS = 120; // while records arrive
const DRAWING_MS = 12; // drawing budget per animation frame
const SHOWS_S = 0.4; // minimum duration of a searched label

export class Lanes {
  /**
   * @param {{onSeek: (time: number) => void, onTrack: (trackId: number) => void, onView: () => void}} events
   */
  constructor(events) {
    this.events = events;
    this.root = byId("lanes");
    this.playhead = byId("playhead");
    this.minimap = new Minimap({ onView: (start) => this.setView(start, start + this.view.end - this.view.start) });
    /** @type {Records | null} */
    this.records = null;
    /** @type {import("./people.js").People | null} */
    this.people = null;
    /** @type {string[]} */
    this.colours = [];
    this.source = 0;
    this.end = 0;
    this.time = 0;
    this.showAll = false;
    this.label = -1; // filter: only people with this label
    /** @type {number | null} the only person that is shown */
    this.solo = null;
    this.ended = false; // no further records
    /** @type {number | null} */
    this.chosen = null;
    this.shape = FULL;
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
    new LaneGestures(this);
    byId("all-lanes").onclick = () => {
      this.showAll = !this.showAll;
      this.refresh();
    };
  }

  /** @param {Records} records @param {import("./people.js").People} people @param {string[]} colours @param {number} source */
  show(records, people, colours, source) {
    this.records = records;
    this.people = people;
    this.colours = colours;
    this.source = source;
    this.end = 0;
    this.showAll = false;
    this.label = -1;
    this.solo = null;
    this.view = { start: 0, end: 1 };
    for (const { row } of this.rows.values()) row.remove();
    this.rows.clear();
    this.sight.disconnect();
    this.refresh();
  }

  /** Schedule a redraw for new records, with a rate limit. */
  more() {
    if (this.timer) return;
    const due = this.lastRefresh + REDRAW_MS - performance.now();
    this.timer = setTimeout(() => this.refresh(), Math.max(0, due));
  }

  refresh() {
    clearTimeout(this.timer);
    this.timer = 0;
    this.lastRefresh = performance.now();
    const { records, people } = this;
    if (!records || !people) return;
    people.update();
    this.setEnd(records.end);
    const wanted = this.#wanted(records, people);
    const shown = this.showAll ? wanted : wanted.slice(0, FIRST_LANES);
    this.#reshape(shown.length > MOST_FULL ? COMPACT : FULL);
    const ids = new Set(shown.map(({ id }) => id));
    for (const [id, { row, canvas }] of this.rows) {
      if (ids.has(id)) continue;
      this.sight.unobserve(canvas);
      row.remove();
      this.rows.delete(id);
    }
    shown.forEach((person, place) => {
      const row = this.rows.get(person.id) ?? this.#addRow(person);
      if (this.root.children[place] !== row.row) this.root.insertBefore(row.row, this.root.children[place] ?? this.playhead);
      this.#name(person, row.name);
    });
    const more = wanted.length - FIRST_LANES;
    byId("all-lanes").hidden = more <= 0;
    setText(byId("all-lanes"), this.showAll ? "Show fewer" : `Show ${counted(more, "more face")}, seen for less long`);
    byId("no-lanes").hidden = wanted.length > 0;
    const none = this.ended ? "No faces in this video." : "No faces so far.";
    setText(byId("no-lanes"), people.all.length ? "Nobody here shows that for long." : none);
    this.choose(this.chosen);
    this.#invalidate();
  }

  /** Who is to be shown, longest first. @param {Records} records @param {import("./people.js").People} people */
  #wanted(records, people) {
    const present = people.all.filter((person) => !person.hidden && (this.solo === null || person.id === this.solo));
    if (this.label < 0) return present;
    const seconds = new Map(present.map((person) => [person, secondsOf(records, person, this.source)[this.label]]));
    const of = (/** @type {Person} */ person) => seconds.get(person) ?? 0;
    return present.filter((person) => of(person) >= SHOWS_S).sort((one, other) => of(other) - of(one));
  }

  /** @param {import("./lane-drawing.js").Shape} shape */
  #reshape(shape) {
    if (this.shape === shape) return;
    this.shape = shape;
    for (const { canvas } of this.rows.values()) canvas.style.height = `${shape.height}px`;
    byId("timeline").classList.toggle("compact", shape === COMPACT);
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

  /** @param {number} label -1: of any @param {number | null} solo */
  filter(label, solo) {
    this.label = label;
    this.solo = solo;
    this.refresh();
  }

  /** @param {number | null} personId */
  choose(personId) {
    const former = this.chosen === null ? undefined : this.rows.get(this.chosen);
    const now = personId === null ? undefined : this.rows.get(personId);
    if (former !== now) former?.row.classList.remove("chosen");
    now?.row.classList.toggle("chosen", this.rows.size > 1);
    if (this.chosen !== personId) {
      this.chosen = personId;
      if (!this.minimap.root.hidden) this.draw();
    }
  }

  /** @param {number} time s */
  setTime(time) {
    this.time = time;
    const { start, end } = this.view;
    const span = end - start;
    const zoomed = span < this.end - 1e-6;
    // Scroll by a page when the playhead leaves the view.
    if (zoomed && (time < start || time > end)) this.setView(time - span * 0.1, time + span * 0.9);
    this.#placePlayhead();
  }

  /** @param {number} start @param {number} end */
  setView(start, end) {
    const whole = Math.max(this.end, LEAST_SPAN_S);
    const span = Math.min(Math.max(end - start, LEAST_SPAN_S), whole);
    const from = Math.min(Math.max(start, 0), whole - span);
    this.view = { start: from, end: from + span };
    this.minimap.setView(this.view, whole);
    byId("zoom-out").disabled = byId("zoom-fit").disabled = span >= whole;
    byId("zoom-in").disabled = span <= LEAST_SPAN_S;
    this.#placePlayhead();
    this.#invalidate();
    this.events.onView();
  }

  /** @param {number} factor below 1: closer @param {number} [around] s */
  zoom(factor, around = this.time) {
    const { start, end } = this.view;
    const share = Math.min(Math.max((around - start) / (end - start), 0), 1);
    const span = (end - start) * factor;
    this.setView(around - share * span, around + (1 - share) * span);
  }

  /** The drawn area, to the right of names. */
  area() {
    const first = this.rows.values().next().value;
    return (first?.canvas ?? this.root).getBoundingClientRect();
  }

  /** @param {Person} person */
  #addRow({ id }) {
    const name = make("div", { class: "lane-name" });
    const canvas = /** @type {HTMLCanvasElement} */ (make("canvas", { class: "lane-canvas" }));
    canvas.style.height = `${this.shape.height}px`;
    const row = make("div", { class: "lane", "data-track": id }, name, canvas);
    const made = { row, name, canvas, visible: true, stale: true };
    this.rows.set(id, made);
    this.sight.observe(canvas);
    return made;
  }

  /** @param {Person} person @param {HTMLElement} element */
  #name(person, element) {
    const records = /** @type {Records} */ (this.records);
    const from = records.times.data[person.frames.data[0]];
    const to = records.endOf(person.frames.data[person.length - 1]);
    const words = this.end < 60 ? preciseClock : clock;
    const label = records.labels[mostly(records, person, this.source)];
    const text = `${person.name} · mostly ${label} · ${words(from)} to ${words(to)}`;
    setText(element, this.shape === COMPACT ? person.name : text);
    element.title = text;
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
    const { records, people } = this;
    if (!records || !people || !this.root.clientWidth) return;
    const style = getComputedStyle(this.root);
    const paint = {
      colours: this.colours,
      texts: this.colours.map(textOn),
      ink: style.getPropertyValue("--ink"),
      ground: style.getPropertyValue("--lane"),
    };
    const until = performance.now() + DRAWING_MS;
    let late = false;
    for (const [id, row] of this.rows) {
      const person = people.of(id);
      if (!row.visible || !row.stale || !person) continue;
      if (performance.now() > until) {
        late = true;
        break;
      }
      row.stale = false;
      const width = fit(row.canvas, this.shape.height);
      const context = /** @type {CanvasRenderingContext2D} */ (row.canvas.getContext("2d"));
      drawLane(context, records, person, this.source, this.view, width, paint, this.shape);
    }
    if (late) this.draw();
    this.minimap.draw(records, people.of(this.chosen) ?? people.all[0] ?? null, this.source, paint);
    drawAxis(byId("axis"), this.view, byId("axis").clientWidth);
    this.#placePlayhead();
  }

  #placePlayhead() {
    const { start, end } = this.view;
    const share = (this.time - start) / (end - start);
    this.playhead.hidden = !this.rows.size || share < 0 || share > 1;
    if (this.playhead.hidden) return;
    const first = /** @type {{canvas: HTMLCanvasElement}} */ (this.rows.values().next().value).canvas;
    this.playhead.style.transform = `translateX(${first.offsetLeft + share * first.clientWidth}px)`;
  }
}
