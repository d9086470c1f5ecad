// Requests with large bodies, by XMLHttpRequest, because `fetch` does not report upload progress.

import { address, keyHeaders, Problem, renewKey } from "./api.js";
import { key } from "./session.js";

/**
 * Send a request; if it is refused for lack of a key, asks for one and retries.
 * @param {string} method
 * @param {string} path
 * @param {Record<string, string>} headers
 * @param {XMLHttpRequestBodyInit | null} body
 * @param {AbortSignal} signal
 * @param {(share: number) => void} onProgress 0..1 of the body
 * @returns {Promise<XMLHttpRequest>} answered, with a status that is fine
 * @throws {Problem} or an AbortError when aborted
 */
export async function send(method, path, headers, body, signal, onProgress) {
  for (;;) {
    signal.throwIfAborted();
    const used = key();
    const request = await sent(method, path, { ...headers, ...keyHeaders() }, body, signal, onProgress);
    if (request.status >= 200 && request.status < 300) return request;
    if (request.status !== 401 || !(await renewKey(used))) throw Problem.of(request.status, request.responseText);
  }
}

/**
 * @param {string} method
 * @param {string} path
 * @param {Record<string, string>} headers
 * @param {XMLHttpRequestBodyInit | null} body
 * @param {AbortSignal} signal
 * @param {(share: number) => void} onProgress
 * @returns {Promise<XMLHttpRequest>}
 */
function sent(method, path, headers, body, signal, onProgress) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open(method, address(path));
    for (const [name, value] of Object.entries(headers)) request.setRequestHeader(name, value);
    request.upload.onprogress = (event) => {
      if (event.lengthComputable && event.total) onProgress(event.loaded / event.total);
    };
    request.onload = () => resolve(request);
    request.onerror = () => reject(Problem.offline());
    request.onabort = () => reject(signal.reason);
    signal.addEventListener("abort", () => request.abort());
    request.send(body);
  });
}
