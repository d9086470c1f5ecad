// The values at the current time as a table, also for screen readers.

import { byId, make, setText, swatch } from "./dom.js";
import { memberName, memberShort } from "./members.js";
import { unsureBelow } from "./segments.js";
import { percent, preciseClock } from "./words.js";

/** @typedef {import("./records.js").Records} Records */
/** @typedef {import("./people.js").Person} Person */

const MOST_CHIPS = 8; // maximum of buttons for people of a frame; the list below has all

export class Values {
  /** @param {{onTrack: (trackId: number) => void}} events */
  constructor(events) {
    this.events = events;
    this.table = byId("values-table");
    this.caption = byId("values-caption");
    /** @type {Records | null} */
    this.records = null;
    this.ended = false; // no further records
    this.built = "";
    /** @type {{row: HTMLElement, bar: HTMLElement, cells: HTMLElement[]}[]} */
    this.rows = [];
    this.chips = "";
  }

  /** @param {Records} records @param {import("./people.js").People} people @param {string[]} colours */
  show(records, people, colours) {
    this.records = records;
    this.people = people;
    this.colours = colours;
    this.built = "";
    this.chips = "";
    byId("faces-now").replaceChildren();
  }

  /**
   * @param {number} position of the frame, -1 for none
   * @param {Person | null} person
   * @param {number} source
   */
  update(position, person, source) {
    const { records } = this;
    if (!records) return;
    this.#build(records);
    const face = records.faceOf(person, position);
    setText(byId("now-time"), position < 0 ? "" : preciseClock(records.times.data[position]));
    setText(byId("now-frame"), position < 0 ? "" : `frame ${records.indices.data[position]}`);
    this.#faces(records, position, person);
    this.table.classList.toggle("empty", face < 0);
    setText(byId("agreement"), face < 0 ? this.#missing(position, person) : this.#agreement(records, face));
    setText(this.caption, `Values of ${person?.name ?? "no face"} at the current time`);
    this.#readout(records, person, face, source);
    this.rows.forEach(({ row, bar, cells }, k) => {
      cells.forEach((cell, s) => {
        const value = face < 0 ? 0 : records.score(face, s, k);
        setText(cell, face < 0 ? "–" : percent(value));
        cell.classList.toggle("best", face >= 0 && records.best(face, s) === k);
      });
      const shown = face < 0 ? 0 : records.score(face, source, k);
      bar.style.transform = `scaleX(${shown})`;
      row.classList.toggle("best", face >= 0 && records.best(face, source) === k);
    });
  }

  /** @param {Records} records */
  #build(records) {
    const wanted = [...records.labels, ...records.members].join();
    if (this.built === wanted) return;
    this.built = wanted;
    const several = records.members.length > 1;
    const names = ["Together", ...(several ? records.members.map(memberShort) : [])];
    const head = make("tr", {}, make("th", { scope: "col", text: "Label" }), make("td", { "aria-hidden": "true" }));
    names.forEach((name, s) => {
      head.append(make("th", { scope: "col", text: name, title: s ? memberName(records.members[s - 1]) : null }));
    });
    this.rows = records.labels.map((label, k) => {
      const bar = make("span", { class: "bar" });
      bar.style.backgroundColor = (this.colours ?? [])[k];
      const cells = names.map((_, s) => make("td", { class: s ? "member-value" : "value" }));
      const track = make("td", { class: "bar-cell", "aria-hidden": "true" }, make("span", { class: "bar-track" }, bar));
      const name = make("th", { scope: "row" }, swatch((this.colours ?? [])[k]), label);
      return { row: make("tr", {}, name, track, ...cells), bar, cells };
    });
    this.table.tHead.replaceChildren(head);
    this.table.tBodies[0].replaceChildren(...this.rows.map(({ row }) => row));
  }

  /**
   * A button per face of the frame, if there are several.
   * @param {Records} records
   * @param {number} position
   * @param {Person | null} chosen
   */
  #faces(records, position, chosen) {
    const [first, end] = position < 0 ? [0, 0] : records.facesOf(position);
    const present = new Set([...records.trackIds.data.subarray(first, end)].map((id) => this.people?.of(id)));
    const people = /** @type {Person[]} */ ([...present].filter((person) => person && !person.hidden));
    people.sort((one, other) => other.length - one.length);
    const shown = people.slice(0, MOST_CHIPS).sort((one, other) => one.id - other.id);
    if (chosen && people.includes(chosen) && !shown.includes(chosen)) shown.push(chosen);
    const wanted = `${shown.map(({ id, name }) => `${id} ${name}`).join()}|${chosen?.id}|${people.length}`;
    if (wanted === this.chips) return;
    this.chips = wanted;
    const box = byId("faces-now");
    box.hidden = people.length < 2;
    const focused = /** @type {HTMLElement | null} */ (document.activeElement)?.dataset?.face;
    const buttons = shown.map(({ id, name }) =>
      make("button", {
        type: "button",
        class: "chip",
        "data-face": id,
        "aria-pressed": id === chosen?.id ? "true" : "false",
        text: name,
        on: { click: () => this.events.onTrack(id) },
      }),
    );
    const more = people.length - shown.length;
    box.replaceChildren(...buttons, ...(more > 0 ? [make("span", { class: "muted", text: `and ${more} more` })] : []));
    if (focused) buttons.find((button) => button.dataset.face === focused)?.focus();
  }

  /** @param {number} position @param {Person | null} person */
  #missing(position, person) {
    if (position < 0) return this.ended ? "This moment is not part of what was labelled." : "Not labelled here so far.";
    return person ? `${person.name} is not in this frame.` : "No face in this frame.";
  }

  /**
   * The values in a line, for layouts that hide the table.
   * @param {Records} records
   * @param {Person | null} person
   * @param {number} face
   * @param {number} source
   */
  #readout(records, person, face, source) {
    const best = face < 0 ? -1 : records.best(face, source);
    const words = best < 0 ? "–" : `${records.labels[best]} ${percent(records.score(face, source, best))}`;
    setText(byId("readout-words"), person ? `${person.name}: ${words}` : words);
    const bar = byId("readout-bar");
    if (bar.children.length !== records.labels.length) bar.replaceChildren(...records.labels.map(() => make("span")));
    records.labels.forEach((_, k) => {
      const part = /** @type {HTMLElement} */ (bar.children[k]);
      part.style.backgroundColor = (this.colours ?? [])[k];
      part.style.flexGrow = String(face < 0 ? 0 : records.score(face, source, k));
    });
  }

  /**
   * Text on the agreement of the members.
   * @param {Records} records
   * @param {number} face
   */
  #agreement(records, face) {
    const unsure = records.score(face, 0, records.best(face, 0)) < unsureBelow(records) ? "Unsure. " : "";
    if (records.members.length < 2) return unsure.trim();
    /** @type {Map<string, string[]>} */
    const byLabel = new Map();
    records.members.forEach((name, m) => {
      const label = records.labels[records.best(face, m + 1)];
      byLabel.set(label, [...(byLabel.get(label) ?? []), memberName(name)]);
    });
    if (byLabel.size === 1) return `${unsure}The models agree: ${[...byLabel.keys()][0]}.`;
    const sides = [...byLabel].map(([label, names]) => `${names.join(" and ")} ${names.length > 1 ? "say" : "says"} ${label}`);
    return `${unsure}The models disagree: ${sides.join(", ")}.`;
  }
}
