// The values at the current time, as a table: what the picture and the lanes show, also for those who cannot see them.

import { byId, make, setText, swatch } from "./dom.js";
import { memberName, memberShort } from "./members.js";
import { percent, preciseClock } from "./words.js";

/** @typedef {import("./records.js").Records} Records */

export class Values {
  /** @param {{onTrack: (trackId: number) => void}} events */
  constructor(events) {
    this.events = events;
    this.table = byId("values-table");
    this.caption = byId("values-caption");
    /** @type {Records | null} */
    this.records = null;
    this.built = "";
    /** @type {{row: HTMLElement, bar: HTMLElement, cells: HTMLElement[]}[]} */
    this.rows = [];
    this.chips = "";
  }

  /** @param {Records} records @param {string[]} colours */
  show(records, colours) {
    this.records = records;
    this.colours = colours;
    this.built = "";
    this.chips = "";
    byId("faces-now").replaceChildren();
  }

  /**
   * @param {number} position of the frame, -1 for none
   * @param {number | null} trackId
   * @param {number} source
   */
  update(position, trackId, source) {
    const { records } = this;
    if (!records) return;
    this.#build(records);
    const face = trackId === null ? -1 : records.faceOf(trackId, position);
    setText(byId("now-time"), position < 0 ? "" : preciseClock(records.times.data[position]));
    setText(byId("now-frame"), position < 0 ? "" : `frame ${records.indices.data[position]}`);
    this.#faces(records, position, trackId);
    this.table.classList.toggle("empty", face < 0);
    setText(byId("agreement"), face < 0 ? this.#missing(position, trackId) : this.#agreement(records, face));
    setText(this.caption, `Values of face ${trackId ?? ""} at the current time`);
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
   * A button for each face of the frame, where there are several.
   * @param {Records} records
   * @param {number} position
   * @param {number | null} chosen
   */
  #faces(records, position, chosen) {
    const [first, end] = position < 0 ? [0, 0] : records.facesOf(position);
    const ids = [...records.trackIds.data.subarray(first, end)].sort((one, other) => one - other);
    const wanted = `${ids.join()}|${chosen}`;
    if (wanted === this.chips) return;
    this.chips = wanted;
    const box = byId("faces-now");
    box.hidden = ids.length < 2;
    const focused = /** @type {HTMLElement | null} */ (document.activeElement)?.dataset?.face;
    const buttons = ids.map((id) =>
      make("button", {
        type: "button",
        class: "chip",
        "data-face": id,
        "aria-pressed": id === chosen ? "true" : "false",
        text: `Face ${id}`,
        on: { click: () => this.events.onTrack(id) },
      }),
    );
    box.replaceChildren(...buttons);
    if (focused) buttons.find((button) => button.dataset.face === focused)?.focus();
  }

  /** @param {number} position @param {number | null} trackId */
  #missing(position, trackId) {
    if (position < 0) return "Not labelled here so far.";
    return trackId === null ? "No face in this frame." : `Face ${trackId} is not in this frame.`;
  }

  /**
   * Whether the members agree, in words.
   * @param {Records} records
   * @param {number} face
   */
  #agreement(records, face) {
    if (records.members.length < 2) return "";
    /** @type {Map<string, string[]>} */
    const byLabel = new Map();
    records.members.forEach((name, m) => {
      const label = records.labels[records.best(face, m + 1)];
      byLabel.set(label, [...(byLabel.get(label) ?? []), memberName(name)]);
    });
    if (byLabel.size === 1) return `The models agree: ${[...byLabel.keys()][0]}.`;
    const sides = [...byLabel].map(([label, names]) => `${names.join(" and ")} ${names.length > 1 ? "say" : "says"} ${label}`);
    return `The models disagree: ${sides.join(", ")}.`;
  }
}
