// What the service makes of a kept file when it is asked to: how far it is, and the result.

import { address, call, keyHeaders } from "./api.js";

const WAIT_S = 2; // as often it is told how far it is

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
 * The result as a whole.
 * @param {string} jobId
 * @param {string} kind
 * @param {OnShare} onShare
 */
export async function fetched(jobId, kind, onShare) {
  return (await finished(jobId, kind, onShare)).blob();
}

/**
 * What a player can be given: the address, so that it plays before all of it is here; with a key, which players cannot
 * send, the whole.
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
