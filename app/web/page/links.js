// Links within the page: `#job=ID`, a moment by `&t=SECONDS&face=TRACK`, a compared job by `&with=ID`.

import { byId, setText } from "./dom.js";

/** @typedef {{time: number, track: number | null}} Moment time: s */

const JOB = /^[0-9a-f]{32}$/;
const TOLD_MS = 2000;

/**
 * The target of an address; null: the start view.
 * @param {string} hash
 * @returns {{job: string, moment: Moment | null, other: string} | null} other: "" for none
 */
export function placeOf(hash) {
  const query = new URLSearchParams(hash.slice(1));
  const [job, other] = ["job", "with"].map((name) => JOB.exec(query.get(name) ?? "")?.[0] ?? "");
  if (!job) return null;
  const [time, track] = ["t", "face"].map((name) => (query.has(name) ? Number(query.get(name)) : null));
  const moment = time !== null && Number.isFinite(time) ? { time, track } : null;
  return { job, moment, other: other === job ? "" : other };
}

/** @param {string} job @param {string} [other] a job beside */
export const linkTo = (job, other) => `#job=${job}${other ? `&with=${other}` : ""}`;

/** Put the address of a moment on the clipboard, and say so on the button. @param {string} job @param {Moment} moment */
export async function copyMoment(job, { time, track }) {
  const hash = `${linkTo(job)}&t=${time.toFixed(2)}${track === null ? "" : `&face=${track}`}`;
  const link = new URL(hash, document.baseURI).href;
  const label = byId("copy-moment").querySelector(".copy-words");
  try {
    await navigator.clipboard.writeText(link);
    setText(label, "Link copied");
  } catch {
    prompt("The link to this moment:", link); // no access to the clipboard
  }
  setTimeout(() => setText(label, "Link"), TOLD_MS);
}
