// Thumbnails of jobs in the list: fetched with the key, a few at a time, when they scroll into view.

import { call } from "./api.js";

const AT_ONCE = 2;
const WAIT_S = 20; // for a thumbnail that must be rendered
const TRIES = 3;

/** @type {(() => Promise<void>)[]} */
const waiting = [];
let running = 0;
/** @type {WeakMap<Element, any>} */
const jobs = new WeakMap();
const sight = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    if (!isIntersecting) continue;
    sight.unobserve(target);
    const picture = /** @type {HTMLElement} */ (target).querySelector("img");
    if (picture) waiting.push(() => load(jobs.get(target), picture));
  }
  next();
});

/**
 * Show a job's thumbnail once its place is in view, if there is one.
 * @param {any} job
 * @param {HTMLImageElement} picture
 */
export function showThumbnail(job, picture) {
  const box = picture.parentElement;
  if (!box || !job.options.keep_input || !Object.keys(job.label_shares ?? {}).length) return;
  jobs.set(box, job);
  sight.observe(box);
}

async function next() {
  while (running < AT_ONCE && waiting.length) {
    running += 1;
    const work = /** @type {() => Promise<void>} */ (waiting.shift());
    work().finally(() => {
      running -= 1;
      next();
    });
  }
}

/** @param {any} job @param {HTMLImageElement} picture */
async function load(job, picture) {
  for (let tries = 0; tries < TRIES && picture.isConnected; tries += 1) {
    const answer = await call(`v1/jobs/${job.id}/thumbnail?wait=${WAIT_S}`).catch(() => null);
    if (!answer) return; // the row is useful without it
    if (answer.status !== 200) continue;
    const url = URL.createObjectURL(await answer.blob());
    picture.onload = () => URL.revokeObjectURL(url);
    picture.src = url;
    picture.hidden = false;
    return;
  }
}
