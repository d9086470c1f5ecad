// Settings from the front end: limits, whether a key is required, and the colours of labels.

import { getJson } from "./api.js";

/** @typedef {{version: string, keys_needed: boolean, max_upload_bytes: number, result_ttl_s: number, inputs: string, options: Record<string, unknown>}} PageSettings */

/** @type {Promise<PageSettings> | null} */
let settings = null;
/** @type {Map<string, Promise<string[]>>} */
const colours = new Map();

/** @returns {Promise<PageSettings>} */
export function pageSettings() {
  settings ??= getJson("page/settings").catch((error) => {
    settings = null;
    throw error;
  });
  return settings;
}

/**
 * The colours of labels: the same as in the timeline picture and in the annotated video.
 * @param {string[]} labels
 * @returns {Promise<string[]>} `#RRGGBB` each
 */
export function coloursOf(labels) {
  const query = new URLSearchParams(labels.map((label) => ["label", label])).toString();
  let found = colours.get(query);
  if (!found) {
    found = getJson(`page/colours?${query}`).then((byLabel) => labels.map((label) => byLabel[label]));
    found.catch(() => colours.delete(query));
    colours.set(query, found);
  }
  return found;
}

/**
 * Black or white, whichever reads better on a colour (WCAG's contrast).
 * @param {string} colour `#RRGGBB`
 */
export function textOn(colour) {
  const [red, green, blue] = [1, 3, 5].map((at) => {
    const part = parseInt(colour.slice(at, at + 2), 16) / 255;
    return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
  });
  const luminance = 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  return luminance > 0.179 ? "#111111" : "#ffffff";
}
