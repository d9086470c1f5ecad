// The search for earlier jobs: words, label, state, age, and metadata.

import { byId, setText } from "./dom.js";

const TYPING_MS = 250; // delay after the last key press
const NOTICEABLE = 0.1; // minimum share of faces of a searched label
const HOUR_MS = 3_600_000;

export class Search {
  /** @param {() => void} onChange */
  constructor(onChange) {
    this.onChange = onChange;
    /** @type {[string, string] | null} */
    this.metadata = null;
    let typed = 0;
    byId("find").onsubmit = (/** @type {Event} */ event) => event.preventDefault();
    byId("find").oninput = () => {
      clearTimeout(typed);
      typed = setTimeout(onChange, TYPING_MS);
    };
    byId("find-metadata").onclick = () => this.only(null);
  }

  /** Only jobs with this metadata. @param {[string, string] | null} entry key and value; null: any jobs */
  only(entry) {
    this.metadata = entry;
    byId("find-metadata").hidden = !entry;
    if (entry) setText(byId("find-metadata-words"), entry.join(": "));
    this.onChange();
  }

  /** @param {string[]} labels that one can look for */
  offerLabels(labels) {
    const select = byId("find-label");
    const former = select.value;
    select.replaceChildren(new Option("Any label", ""), ...labels.map((label) => new Option(label, label)));
    select.value = labels.includes(former) ? former : "";
  }

  /** The search as API parameters; empty if there is none. */
  parameters() {
    const given = new FormData(byId("find"));
    const wanted = new URLSearchParams();
    for (const name of ["q", "label", "state"]) {
      const value = String(given.get(name) ?? "").trim();
      if (value) wanted.set(name, value);
    }
    if (wanted.has("label")) wanted.set("label_share", String(NOTICEABLE));
    const hours = Number(given.get("hours"));
    if (hours) wanted.set("since", new Date(Date.now() - hours * HOUR_MS).toISOString());
    if (this.metadata) wanted.set(`metadata.${this.metadata[0]}`, this.metadata[1]);
    return wanted;
  }
}
