// Sends files as a job.  XMLHttpRequest, because `fetch` does not say how much has been sent.

import { address, keyHeaders, Problem, renewKey } from "./api.js";
import { key, remember } from "./session.js";

/**
 * @typedef {object} Upload
 * @property {Promise<any>} job the job once it is accepted; fails with a Problem, or an AbortError when cancelled
 * @property {() => void} cancel
 */

/**
 * Send one file, or several images as one clip.
 * @param {File[]} files
 * @param {Record<string, string>} options form fields
 * @param {(share: number) => void} onProgress 0..1
 * @returns {Upload}
 */
export function upload(files, options, onProgress) {
  let request = new XMLHttpRequest();
  let cancelled = false;
  const cancel = () => {
    cancelled = true;
    request.abort();
  };
  const attempt = async () => {
    for (;;) {
      if (cancelled) throw aborted();
      const used = key();
      request = new XMLHttpRequest();
      const { status, body } = await send(request, form(files, options), onProgress);
      if (status === 202 || status === 200) {
        const job = JSON.parse(body);
        remember(job.id, files);
        return job;
      }
      if (status !== 401 || !(await renewKey(used))) throw Problem.of(status, body);
    }
  };
  return { job: attempt(), cancel };
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
 * @param {XMLHttpRequest} request
 * @param {FormData} body
 * @param {(share: number) => void} onProgress
 * @returns {Promise<{status: number, body: string}>}
 */
function send(request, body, onProgress) {
  return new Promise((resolve, reject) => {
    request.open("POST", address("v1/jobs"));
    for (const [name, value] of Object.entries(keyHeaders())) request.setRequestHeader(name, value);
    request.upload.onprogress = (event) => {
      if (event.lengthComputable && event.total) onProgress(event.loaded / event.total);
    };
    request.onload = () => resolve({ status: request.status, body: request.responseText });
    request.onerror = () => reject(Problem.offline());
    request.onabort = () => reject(aborted());
    request.send(body);
  });
}

function aborted() {
  return new DOMException("cancelled", "AbortError");
}
