// The list of labels: shares of each in the whole video and of the person, and a filter for the lanes.

import { byId, make, setText, swatch } from "./dom.js";
import { secondsOf } from "./segments.js";
import { counted, percent } from "./words.js";

/** @typedef {import("./records.js").Records} Records */

export class LabelList {
  /** @param {{onLabel: (label: number) => void}} events label: -1 for any */
  constructor(events) {
    this.events = events;
    this.label = -1;
    /** @type {{button: HTMLElement, bar: HTMLElement, whole: HTMLElement, own: HTMLElement}[]} */
    this.rows = [];
  }

  /** @param {string[]} labels @param {string[]} colours */
  show(labels, colours) {
    this.label = -1;
    this.rows = labels.map((label, k) => {
      const bar = make("span", { class: "bar" });
      bar.style.backgroundColor = colours[k];
      const [whole, own] = [make("span", { class: "whole" }), make("span", { class: "own" })];
      const name = make("span", { class: "label-name" }, swatch(colours[k]), label);
      const track = make("span", { class: "bar-track", "aria-hidden": "true" }, bar);
      const button = make("button", { type: "button", "aria-pressed": "false" }, name, track, whole, own);
      button.addEventListener("click", () => this.#choose(this.label === k ? -1 : k));
      return { button, bar, whole, own };
    });
    byId("legend").replaceChildren(...this.rows.map(({ button }) => make("li", {}, button)));
  }

  /** @param {number} label */
  #choose(label) {
    this.label = label;
    this.rows.forEach(({ button }, k) => button.setAttribute("aria-pressed", String(k === label)));
    this.events.onLabel(label);
  }

  /**
   * @param {Records} records
   * @param {import("./people.js").People} people
   * @param {import("./people.js").Person | null} person
   * @param {number} source
   */
  update(records, people, person, source) {
    const faces = Math.max(records.faceCount, 1);
    const seconds = person && people.all.length > 1 ? secondsOf(records, person, source) : null;
    const total = seconds ? Math.max(seconds.reduce((sum, each) => sum + each, 0), 1e-9) : 1;
    this.rows.forEach(({ bar, whole, own }, k) => {
      const share = records.firsts[k] / faces;
      bar.style.transform = `scaleX(${share})`;
      setText(whole, percent(share));
      setText(own, seconds ? percent(seconds[k] / total) : "");
    });
    setText(byId("own-head"), seconds && person ? person.name : "");
    const shown = people.all.filter(({ hidden }) => !hidden).length;
    const withFaces = records.framesWithFaces / Math.max(records.length, 1);
    setText(byId("whole-words"), records.length ? `${counted(shown, "face")} · in ${percent(withFaces)} of the frames` : "");
  }
}
