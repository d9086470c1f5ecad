// Sends files as a job: directly, or in pieces first if a file is large.

import { sendInPieces } from "./resumable.js";
import { send } from "./sending.js";
import { forgetUpload, remember } from "./session.js";

const LARGE_BYTES = 50_000_000;

/**
 * Send one file, or several images as one clip.
 * @param {File[]} files
 * @param {Record<string, string>} options form fields
 * @param {AbortSignal} signal
 * @param {(share: number, broken: boolean) => void} onProgress share: 0..1; broken: it waits until the service is back
 * @returns {Promise<any>} the job, once it is accepted
 * @throws {import("./api.js").Problem} or an AbortError when aborted
 */
export async function upload(files, options, signal, onProgress) {
  const [file] = files;
  const large = files.length === 1 && file.size > LARGE_BYTES;
  const body = large ? form([], { ...options, upload: await sendInPieces(file, signal, onProgress) }) : form(files, options);
  const answer = await send("POST", "v1/jobs", {}, body, signal, (share) => onProgress(large ? 1 : share, false));
  const job = JSON.parse(answer.responseText);
  remember(job.id, files);
  if (large) forgetUpload(file);
  return job;
}

/** @param {File[]} files @param {Record<string, string>} options */
function form(files, options) {
  const body = new FormData();
  // Options first: invalid ones are refused before the file is sent.
  for (const [name, value] of Object.entries(options)) body.append(name, value);
  for (const file of files) body.append(files.length > 1 ? "frames" : "file", file, file.name);
  return body;
}
