// Actions on the selected person: name, show alone, hide, merge, split.

import { byId, setText } from "./dom.js";
import { mostly } from "./segments.js";
import { roughly } from "./words.js";

/** @typedef {import("./people.js").People} People */
/** @typedef {import("./people.js").Person} Person */

export class PersonBar {
  /**
   * @param {object} events
   * @param {(notes: import("./people.js").Note[]) => void} events.onNotes they are to be kept
   * @param {(person: Person | null) => void} events.onSolo
   */
  constructor(events) {
    this.events = events;
    /** @type {People | null} */
    this.people = null;
    /** @type {Person | null} */
    this.person = null;
    this.solo = false;
    byId("person-solo").onclick = () => this.setSolo(!this.solo);
    byId("person-hide").onclick = () => this.#note({ hidden: true });
    byId("person-split").onclick = () => this.people && this.person && events.onNotes(this.people.split(this.person));
    byId("unhide").onclick = () => {
      const notes = this.people?.notes.map((note) => ({ ...note, hidden: false })) ?? [];
      events.onNotes(notes.filter((note) => note.name || note.tracks.length > 1));
    };
    const name = byId("person-name");
    name.onchange = () => this.#note({ name: name.value.trim() || null });
    name.onkeydown = (/** @type {KeyboardEvent} */ event) => event.key === "Enter" && name.blur();
    byId("person-same").onchange = () => {
      const same = this.people?.all.find(({ id }) => String(id) === byId("person-same").value);
      if (same && this.people && this.person) events.onNotes(this.people.merged(this.person, same));
    };
  }

  /** @param {boolean} solo */
  setSolo(solo) {
    this.solo = solo;
    byId("person-solo").setAttribute("aria-pressed", String(solo));
    this.events.onSolo(solo ? this.person : null);
  }

  /** @param {Partial<import("./people.js").Note>} change */
  #note(change) {
    if (this.people && this.person) this.events.onNotes(this.people.noted(this.person, change));
  }

  /**
   * @param {import("./records.js").Records} records
   * @param {People} people
   * @param {Person | null} person
   * @param {number} source
   */
  show(records, people, person, source) {
    const changed = person !== this.person || people.version !== this.version || people.notes !== this.notes;
    [this.people, this.version, this.notes] = [people, people.version, people.notes];
    byId("person-bar").hidden = !person;
    const hidden = people.all.filter((each) => each.hidden).length;
    byId("unhide").hidden = !hidden;
    setText(byId("unhide"), `Show ${hidden} hidden`);
    if (!changed || !person) return;
    const other = person !== this.person;
    this.person = person;
    const name = byId("person-name");
    if (other || document.activeElement !== name) name.value = person.name;
    const several = people.all.length > 1;
    byId("person-solo").hidden = byId("person-hide").hidden = byId("person-same-box").hidden = !several;
    byId("person-split").hidden = person.tracks.length < 2;
    const seconds = person.length * (records.end / Math.max(records.length, 1));
    setText(byId("person-facts"), `mostly ${records.labels[mostly(records, person, source)]}, in view for ${roughly(seconds)}`);
    const select = byId("person-same");
    if (document.activeElement === select) return;
    const choices = people.all.filter((each) => each !== person && !each.hidden);
    select.replaceChildren(new Option("the same as …", ""), ...choices.map(({ id, name }) => new Option(name, String(id))));
  }
}
