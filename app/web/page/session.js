// State in the browser: the files of this tab's jobs in memory; the API key in sessionStorage, or, if the user chooses,
// for all tabs until the browser is closed; unfinished uploads of large files.

const KEY = "mien.key";
const SESSION = "mien.session"; // a session cookie; the shared key is dropped with it

/** @type {Map<string, File[]>} */
const files = new Map();

/** The API key, or "". */
export function key() {
  const own = sessionStorage.getItem(KEY);
  if (own) return own;
  const shared = localStorage.getItem(KEY);
  if (shared && !document.cookie.includes(`${SESSION}=`)) localStorage.removeItem(KEY); // of an earlier session
  return localStorage.getItem(KEY) ?? "";
}

/** @param {string} value "" forgets it @param {boolean} [everywhere] in all tabs, until the browser is closed */
export function setKey(value, everywhere = false) {
  sessionStorage.removeItem(KEY);
  localStorage.removeItem(KEY);
  document.cookie = `${SESSION}=; path=/; SameSite=Strict; Max-Age=0`;
  if (!value) return;
  if (!everywhere) return sessionStorage.setItem(KEY, value);
  document.cookie = `${SESSION}=1; path=/; SameSite=Strict`; // a mark that the session continues
  localStorage.setItem(KEY, value);
}

/**
 * Store the files of a job.
 * @param {string} jobId
 * @param {File[]} made
 */
export function remember(jobId, made) {
  files.set(jobId, made);
}

/** @param {string} jobId */
export function forget(jobId) {
  files.delete(jobId);
}

/**
 * The files of a job, if this tab sent them and was not reloaded since.
 * @param {string} jobId
 * @returns {File[] | undefined}
 */
export function filesOf(jobId) {
  return files.get(jobId);
}

/** By what a file is known again after a reload. @param {File} file */
const uploadKey = ({ name, size, lastModified }) => `mien.upload ${size} ${lastModified} ${name}`;

/** The id of the upload of a file that has been begun, or "". @param {File} file */
export const uploadOf = (file) => localStorage.getItem(uploadKey(file)) ?? "";

/** @param {File} file @param {string} id of its upload */
export const rememberUpload = (file, id) => localStorage.setItem(uploadKey(file), id);

/** @param {File} file */
export const forgetUpload = (file) => localStorage.removeItem(uploadKey(file));
