// The slider over the lanes for screen readers: position and values.

import { byId } from "./dom.js";
import { percent, preciseClock } from "./words.js";

/**
 * @param {{time: number, duration: number}} stage s
 * @param {import("./records.js").Records | null} records
 * @param {import("./people.js").Person | null} person whose values are shown
 * @param {number} position of the frame, -1 for none
 * @param {number} source
 */
export function tellTime({ time, duration }, records, person, position, source) {
  const slider = byId("lanes");
  slider.setAttribute("aria-valuemax", duration.toFixed(2));
  slider.setAttribute("aria-valuenow", time.toFixed(2));
  slider.setAttribute("aria-valuetext", `${preciseClock(time)}, ${shown(records, person, position, source)}`);
}

/**
 * @param {import("./records.js").Records | null} records
 * @param {import("./people.js").Person | null} person
 * @param {number} position
 * @param {number} source
 */
function shown(records, person, position, source) {
  const face = records?.faceOf(person, position) ?? -1;
  if (!records || !person || face < 0) return "no face";
  const label = records.best(face, source);
  return `${person.name}: ${records.labels[label]} ${percent(records.score(face, source, label))}`;
}
