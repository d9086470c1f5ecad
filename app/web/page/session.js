// What this tab remembers: the API key and the names of files in sessionStorage, the files themselves in memory.
// Nothing outlives the tab.

const KEY = "mien.key";
const NAME = "mien.name.";

/** @type {Map<string, File[]>} */
const files = new Map();

/** The API key, or "". */
export function key() {
  return sessionStorage.getItem(KEY) ?? "";
}

/** @param {string} value "" forgets it */
export function setKey(value) {
  if (value) sessionStorage.setItem(KEY, value);
  else sessionStorage.removeItem(KEY);
}

/**
 * Remember what a job was made of.
 * @param {string} jobId
 * @param {File[]} made
 */
export function remember(jobId, made) {
  files.set(jobId, made);
  const name = made.length === 1 ? made[0].name : `${made.length} images, ${made[0].name} first`;
  sessionStorage.setItem(NAME + jobId, name);
}

/** @param {string} jobId */
export function forget(jobId) {
  files.delete(jobId);
  sessionStorage.removeItem(NAME + jobId);
}

/**
 * The files that a job was made of, where this tab sent them and was not loaded anew since.
 * @param {string} jobId
 * @returns {File[] | undefined}
 */
export function filesOf(jobId) {
  return files.get(jobId);
}

/**
 * The name of a job's file, where this tab knows it.
 * @param {string} jobId
 * @returns {string | null}
 */
export function nameOf(jobId) {
  return sessionStorage.getItem(NAME + jobId);
}
