// The switch between the values of the ensemble and those of its members.

import { byId, make } from "./dom.js";
import { memberName, memberNote } from "./members.js";

export class SourceSwitch {
  /** @param {{onSource: (source: number) => void}} events 0: the ensemble, 1..: its members */
  constructor(events) {
    this.events = events;
    this.source = 0;
  }

  /** @param {string[]} members of which there are values */
  show(members) {
    const names = members.length > 1 ? ["Together", ...members.map(memberName)] : [];
    byId("sources").hidden = names.length === 0;
    const choices = names.map((name, source) => {
      const input = make("input", { type: "radio", name: "source", value: source, checked: source === this.source });
      input.addEventListener("change", () => this.#choose(source));
      const note = source ? memberNote(members[source - 1]) : "all models, weighted";
      return make("label", { title: note }, input, make("span", { text: name }));
    });
    byId("source-choices").replaceChildren(...choices);
  }

  /** @param {number} source */
  #choose(source) {
    this.source = source;
    this.events.onSource(source);
  }
}
