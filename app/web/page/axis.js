// The times under the lanes.

import { make } from "./dom.js";
import { clock } from "./words.js";

const TICK_PX = 90; // minimum distance of two times
const TICKS_S = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200];

/**
 * @param {HTMLElement} axis
 * @param {import("./lane-drawing.js").Span} view
 * @param {number} width CSS pixels
 */
export function drawAxis(axis, { start, end }, width) {
  const least = ((end - start) * TICK_PX) / width;
  const step = TICKS_S.find((tick) => tick >= least) ?? TICKS_S[TICKS_S.length - 1];
  const ticks = [];
  for (let n = Math.ceil(start / step - 1e-9); n * step < end - 1e-9; n += 1) {
    const text = step < 1 ? `${(n * step).toFixed(1)} s` : clock(n * step);
    const tick = make("span", { class: "tick", text });
    tick.style.left = `${((n * step - start) / (end - start)) * 100}%`;
    ticks.push(tick);
  }
  axis.replaceChildren(...ticks);
}
