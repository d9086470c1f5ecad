// Jump targets: changes of a person's label, beginnings of disagreement between models, peaks of a label.

import { announce, byId, setText } from "./dom.js";
import { segmentsOf } from "./segments.js";

/** @typedef {import("./records.js").Records} Records */
/** @typedef {import("./people.js").Person} Person */

const NEAR_S = 0.02; // a moment this near is the current one
const SHOWN_MS = 4000; // words about what is not there
let fading = 0;

/**
 * Time of the next moment of the chosen kind, s; null, with an announcement, if there is none.
 * @param {Records} records
 * @param {Person} person
 * @param {number} source
 * @param {number} label only of this one; -1: of any
 * @param {number} time where the reader is, s
 * @param {number} direction 1: on, -1: back
 */
export function jumpFrom(records, person, source, label, time, direction) {
  const kind = byId("jump-kind");
  const found = nextOf(moments(records, person, source, kind.value, label), time, direction);
  const what = kind.selectedOptions[0].textContent;
  const wanted = label < 0 ? what : `${what} to ${records.labels[label]}`;
  const words = found === null ? `No ${direction > 0 ? "further" : "earlier"} ${kind.value === "change" ? wanted : what} of ${person.name}.` : "";
  setText(byId("jump-words"), words);
  clearTimeout(fading);
  fading = setTimeout(() => setText(byId("jump-words"), ""), SHOWN_MS);
  if (words) announce(words);
  return found;
}

/**
 * Times of these moments, ascending.
 * @param {Records} records
 * @param {Person} person
 * @param {number} source
 * @param {string} kind change | disagreement | peak
 * @param {number} label only of this one; -1: of any
 * @returns {number[]}
 */
function moments(records, person, source, kind, label) {
  if (kind === "disagreement") return disagreements(records, person);
  const segments = segmentsOf(records, person, source).filter((segment) => label < 0 || segment.label === label);
  if (kind === "change") return segments.map(({ start }) => start);
  return peaks(records, person, source, segments);
}

/** Where one frame after another in which they agree has one in which they do not. @param {Records} records @param {Person} person */
function disagreements(records, person) {
  const found = [];
  let apart = false;
  for (let at = 0; at < person.length; at += 1) {
    const now = records.disagree(person.faces.data[at]);
    if (now && !apart) found.push(records.times.data[person.frames.data[at]]);
    apart = now;
  }
  return found;
}

/** @param {Records} records @param {Person} person @param {number} source @param {import("./segments.js").Segment[]} segments */
function peaks(records, person, source, segments) {
  const { frames, faces, length } = person;
  const times = records.times.data;
  let at = 0;
  return segments.map(({ start, end, label }) => {
    while (at < length && times[frames.data[at]] < start - NEAR_S / 2) at += 1;
    let [best, highest] = [start, -1];
    for (let next = at; next < length && times[frames.data[next]] < end; next += 1) {
      const value = records.score(faces.data[next], source, label);
      if (value > highest) [best, highest] = [times[frames.data[next]], value];
    }
    return best;
  });
}

/**
 * The next or previous of some times.
 * @param {number[]} times ascending
 * @param {number} now s
 * @param {number} direction 1 or -1
 * @returns {number | null}
 */
function nextOf(times, now, direction) {
  const found = direction > 0 ? times.find((time) => time > now + NEAR_S) : times.findLast((time) => time < now - NEAR_S);
  return found ?? null;
}
