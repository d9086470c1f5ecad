// Uploads of large files in pieces, by the tus protocol 1.0; resumed after an interruption or a reload of the page.

import { call, getJson, Problem } from "./api.js";
import { send } from "./sending.js";
import { forgetUpload, rememberUpload, uploadOf } from "./session.js";

const PIECE_BYTES = 8 * 2 ** 20; // size of a request, small enough for proxies
const TUS = { "Tus-Resumable": "1.0.0" };
const CHUNK = "application/offset+octet-stream";
const TRIES = 20; // consecutive attempts without progress
const FIRST_WAIT_MS = 500;
const MOST_WAIT_MS = 15_000;

/**
 * @param {File} file
 * @param {AbortSignal} signal when aborted, what has been sent is removed from the service
 * @param {(share: number, broken: boolean) => void} onProgress share: 0..1; broken: it waits until the service is back
 * @returns {Promise<string>} the upload's id, once all of it is there
 * @throws {Problem} or an AbortError when aborted
 */
export async function sendInPieces(file, signal, onProgress) {
  let { id, offset } = await begun(file, signal);
  let [tries, reached] = [0, offset];
  try {
    while (offset < file.size) {
      try {
        offset = await sendPiece(id, file, offset, signal, (share) => onProgress(share, false));
      } catch (error) {
        tries = offset > reached ? 1 : tries + 1;
        reached = offset;
        if (!(error instanceof Problem) || !passes(error) || tries > TRIES) throw error;
        onProgress(offset / file.size, true);
        await wait(Math.min(FIRST_WAIT_MS * 2 ** tries, MOST_WAIT_MS), signal);
        offset = await offsetOf(id, signal).catch(() => offset); // if it still does not respond, the next piece fails
      }
    }
  } catch (error) {
    if (signal.aborted) removeUpload(id, file);
    throw error;
  }
  return id;
}

/** The upload of a file, new or begun before. @param {File} file @param {AbortSignal} signal */
async function begun(file, signal) {
  const known = uploadOf(file);
  try {
    if (known) return { id: known, offset: await offsetOf(known, signal) };
  } catch (error) {
    if (!(error instanceof Problem) || error.status !== 404) throw error; // it has expired, or belongs to another key
  }
  const name = btoa(String.fromCharCode(...new TextEncoder().encode(file.name)));
  const headers = { ...TUS, "Upload-Length": String(file.size), "Upload-Metadata": `filename ${name}` };
  const answer = await call("v1/uploads", { method: "POST", headers, signal });
  const id = (answer.headers.get("Location") ?? "").replace(/.*\//, "");
  rememberUpload(file, id);
  return { id, offset: 0 };
}

/**
 * @param {string} id
 * @param {File} file
 * @param {number} offset
 * @param {AbortSignal} signal
 * @param {(share: number) => void} onProgress of the file
 * @returns {Promise<number>} how many bytes are there then
 */
async function sendPiece(id, file, offset, signal, onProgress) {
  const piece = file.slice(offset, offset + PIECE_BYTES);
  const headers = { ...TUS, "Upload-Offset": String(offset), "Content-Type": CHUNK };
  const told = (/** @type {number} */ share) => onProgress((offset + share * piece.size) / file.size);
  const answer = await send("PATCH", `v1/uploads/${id}`, headers, piece, signal, told);
  return Number(answer.getResponseHeader("Upload-Offset"));
}

/** @param {string} id @param {AbortSignal} signal @returns {Promise<number>} */
const offsetOf = async (id, signal) => (await getJson(`v1/uploads/${id}`, { signal })).offset;

/** @param {string} id @param {File} file */
function removeUpload(id, file) {
  forgetUpload(file);
  call(`v1/uploads/${id}`, { method: "DELETE", headers: TUS }).catch(() => {}); // otherwise it expires
}

/** Whether it may be over soon: the network, a proxy, a request before that the service has not given up yet. @param {Problem} problem */
const passes = ({ status, code }) => code === "offline" || [408, 409, 429].includes(status) || (status >= 500 && status !== 507);

/** @param {number} ms @param {AbortSignal} signal @returns {Promise<void>} */
function wait(ms, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener("abort", () => (clearTimeout(timer), reject(signal.reason)));
  });
}
