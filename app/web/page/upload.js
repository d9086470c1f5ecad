// Sends files as a job.  XMLHttpRequest, because `fetch` does not say how much has been sent.

import { address, keyHeaders, Problem, renewKey } from "./api.js";
import { key, remember } from "./session.js";

/**
 * Send one file, or several images as one clip.
 * @param {File[]} files
 * @param {Record<string, string>} options form fields
 * @param {AbortSignal} signal
 * @param {(share: number) => void} onProgress 0..1
 * @returns {Promise<any>} the job, once it is accepted
 * @throws {Problem} or an AbortError when aborted
 */
export async function upload(files, options, signal, onProgress) {
  for (;;) {
    signal.throwIfAborted();
    const used = key();
    const { status, body } = await send(form(files, options), signal, onProgress);
    if (status === 202 || status === 200) {
      const job = JSON.parse(body);
      remember(job.id, files);
      return job;
    }
    if (status !== 401 || !(await renewKey(used))) throw Problem.of(status, body);
  }
}

/** @param {File[]} files @param {Record<string, string>} options */
function form(files, options) {
  const body = new FormData();
  // Options first: a wrong one is refused before the file is sent.
  for (const [name, value] of Object.entries(options)) body.append(name, value);
  for (const file of files) body.append(files.length > 1 ? "frames" : "file", file, file.name);
  return body;
}

/**
 * @param {FormData} body
 * @param {AbortSignal} signal
 * @param {(share: number) => void} onProgress
 * @returns {Promise<{status: number, body: string}>}
 */
function send(body, signal, onProgress) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", address("v1/jobs"));
    for (const [name, value] of Object.entries(keyHeaders())) request.setRequestHeader(name, value);
    request.upload.onprogress = (event) => {
      if (event.lengthComputable && event.total) onProgress(event.loaded / event.total);
    };
    request.onload = () => resolve({ status: request.status, body: request.responseText });
    request.onerror = () => reject(Problem.offline());
    request.onabort = () => reject(signal.reason);
    signal.addEventListener("abort", () => request.abort());
    request.send(body);
  });
}
