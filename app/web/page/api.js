// Calls of the API.  The key is sent as a header; problems become `Problem`s with texts for display.

import { askForKey } from "./key-dialog.js";
import { key, setKey } from "./session.js";
import { explain } from "./words.js";

/** The reason of a failed call: RFC 9457's fields, and `words` for display. */
export class Problem extends Error {
  /** @param {{status?: number, code?: string, detail?: string, field?: string, request_id?: string}} fields */
  constructor(fields) {
    super(fields.detail ?? fields.code ?? "unknown");
    this.status = fields.status ?? 0;
    this.code = fields.code ?? "unknown";
    this.detail = fields.detail ?? "";
    this.field = fields.field ?? "";
    this.requestId = fields.request_id ?? "";
    this.words = explain(this.code, this.detail);
  }

  /** The problem of a network failure. */
  static offline() {
    return new Problem({ code: "offline" });
  }

  /**
   * The problem in an answer's body.
   * @param {number} status
   * @param {string} body
   */
  static of(status, body) {
    try {
      const fields = JSON.parse(body);
      if (fields && typeof fields.code === "string") return new Problem({ status, ...fields });
    } catch {
      // not a problem document, for example a proxy's page
    }
    return new Problem({ status, code: `http_${status}` });
  }
}

/**
 * An address of the API, also behind a proxy with a path prefix.
 * @param {string} path without a leading slash
 */
export function address(path) {
  return new URL(path, document.baseURI).href;
}

/** @returns {Record<string, string>} */
export function keyHeaders() {
  return key() ? { "X-API-Key": key() } : {};
}

/**
 * A call; if it is refused for lack of a key, asks for one and retries.
 * @param {string} path
 * @param {RequestInit & {headers?: Record<string, string>}} [init]
 * @returns {Promise<Response>} whose status is fine
 * @throws {Problem} unless it was aborted, which is an AbortError
 */
export async function call(path, init = {}) {
  for (;;) {
    const used = key();
    let answer;
    try {
      answer = await fetch(address(path), { ...init, headers: { ...init.headers, ...keyHeaders() }, cache: "no-store" });
    } catch (error) {
      if (init.signal?.aborted) throw error;
      throw Problem.offline();
    }
    if (answer.ok) return answer;
    if (answer.status !== 401 || !(await renewKey(used))) throw Problem.of(answer.status, await answer.text());
  }
}

/**
 * Get another key after a refusal.
 * @param {string} used the one that was refused
 * @returns {Promise<boolean>} whether to try again
 */
export async function renewKey(used) {
  if (key() && key() !== used) return true;
  setKey("");
  return askForKey(used ? "That key is not known here." : "");
}

/**
 * A call with a JSON answer.
 * @param {string} path
 * @param {RequestInit & {headers?: Record<string, string>}} [init]
 * @returns {Promise<any>}
 */
export async function getJson(path, init) {
  return (await call(path, init)).json();
}

/** @param {string} id @param {AbortSignal} [signal] */
export const getJob = (id, signal) => getJson(`v1/jobs/${id}`, { signal });

/** @param {string} id */
export const cancelJob = (id) => getJson(`v1/jobs/${id}/cancel`, { method: "POST" });

/** @param {string} id */
export const deleteJob = (id) => call(`v1/jobs/${id}`, { method: "DELETE" });
