// Renditions of a kept file: progress and result.

import { address, call, keyHeaders } from "./api.js";

const WAIT_S = 2; // interval of progress updates

/** @typedef {(share: number | null) => void} OnShare 0..1, null where that is not known */

/**
 * @param {string} jobId
 * @param {string} kind
 * @param {OnShare} onShare
 * @returns {Promise<Response>} whose body is the result
 */
async function finished(jobId, kind, onShare) {
  for (;;) {
    const answer = await call(`v1/jobs/${jobId}/${kind}${kind.includes("?") ? "&" : "?"}wait=${WAIT_S}`);
    if (answer.status !== 202) return answer;
    onShare((await answer.json()).progress);
  }
}

/**
 * The complete result.
 * @param {string} jobId
 * @param {string} kind
 * @param {OnShare} onShare
 */
export async function fetched(jobId, kind, onShare) {
  return (await finished(jobId, kind, onShare)).blob();
}

/**
 * A source for a player: the address, so that it can play during the download; with a key, which players cannot send,
 * the complete file.
 * @param {string} jobId
 * @param {string} kind
 * @param {OnShare} onShare
 * @returns {Promise<Blob | string>}
 */
export async function made(jobId, kind, onShare) {
  const answer = await finished(jobId, kind, onShare);
  if (Object.keys(keyHeaders()).length) return answer.blob();
  await answer.body?.cancel();
  return address(`v1/jobs/${jobId}/${kind}`);
}
