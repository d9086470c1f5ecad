// The tooltip of a lane: time and all values at the pointer.

import { make, setText, swatch } from "./dom.js";
import { memberName } from "./members.js";
import { percent, preciseClock } from "./words.js";

const DISTANCE_PX = 16;

export class Tooltip {
  /** @param {HTMLElement} root */
  constructor(root) {
    this.root = root;
    this.head = make("p", { class: "tooltip-time" });
    this.list = make("dl", { class: "tooltip-values" });
    this.apart = make("p", { class: "tooltip-apart" });
    root.replaceChildren(this.head, this.list, this.apart);
    /** @type {import("./records.js").Records | null} */
    this.records = null;
    /** @type {HTMLElement[]} */
    this.cells = [];
  }

  hide() {
    this.root.hidden = true;
  }

  /**
   * @param {import("./records.js").Records} records
   * @param {number} position
   * @param {number} face
   * @param {number} source
   * @param {string[]} colours
   * @param {MouseEvent} event where the pointer is
   * @param {string} name of the person
   */
  show(records, position, face, source, colours, event, name) {
    if (this.records !== records) this.#rows(records, colours);
    const best = records.best(face, source);
    const time = preciseClock(records.times.data[position]);
    setText(this.head, `${name} at ${time}`);
    this.cells.forEach((cell, k) => {
      setText(cell, percent(records.score(face, source, k)));
      cell.parentElement?.classList.toggle("best", k === best);
    });
    const apart = records.disagree(face);
    this.apart.hidden = !apart;
    if (apart) {
      const words = records.members.map((name, m) => `${memberName(name)}: ${records.labels[records.best(face, m + 1)]}`);
      setText(this.apart, words.join(" · "));
    }
    this.root.hidden = false;
    const { offsetWidth: width, offsetHeight: height } = this.root;
    const left = event.clientX + DISTANCE_PX + width < window.innerWidth;
    const x = left ? event.clientX + DISTANCE_PX : Math.max(4, event.clientX - DISTANCE_PX - width);
    const y = Math.min(event.clientY + DISTANCE_PX, window.innerHeight - height - 4);
    this.root.style.transform = `translate(${x}px, ${Math.max(4, y)}px)`;
  }

  /** @param {import("./records.js").Records} records @param {string[]} colours */
  #rows(records, colours) {
    this.records = records;
    this.cells = records.labels.map(() => make("dd"));
    const rows = records.labels.map((label, k) =>
      make("div", {}, make("dt", {}, swatch(colours[k]), label), this.cells[k]),
    );
    this.list.replaceChildren(...rows);
  }
}
