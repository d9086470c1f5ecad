// Dropped, pasted or chosen files, also in folders, or an address.

const MOST_FILES = 10_000; // maximum pictures of a job
const MEDIA = /^(video|image)\//;
const MEDIA_NAME = /\.(mp4|m4v|mov|webm|mkv|avi|ts|m2ts|mts|mpe?g|flv|wmv|asf|3gp|ogv|mxf|dv|gif|jpe?g|png|webp|heic|heif|avif|zip|tar)$/i;

/**
 * The files of a drop.  Folders contribute videos, pictures and archives only, in the order of their names; files that
 * were dropped themselves are always included, so that an unsupported one is reported.
 * @param {DataTransfer} transfer
 * @returns {Promise<File[]>}
 */
export async function filesOfDrop(transfer) {
  // Read now: the browser empties the list after the first await.
  const entries = [...transfer.items].map((item) => (item.kind === "file" ? item.webkitGetAsEntry?.() ?? null : null));
  if (!entries.some((entry) => entry?.isDirectory)) return [...transfer.files];
  /** @type {File[]} */
  const found = [];
  for (const entry of entries) if (entry) await collect(entry, found, false);
  return found;
}

/** Files of a chosen folder. @param {File[]} files */
export const mediaOnly = (files) => files.filter(looksLikeMedia).sort(byPath);

/** @param {FileSystemEntry} entry @param {File[]} found @param {boolean} inside a folder */
async function collect(entry, found, inside) {
  if (found.length >= MOST_FILES) return;
  if (entry.isFile) {
    const file = await new Promise((resolve, reject) => /** @type {FileSystemFileEntry} */ (entry).file(resolve, reject));
    if (!inside || looksLikeMedia(file)) found.push(file);
    return;
  }
  const reader = /** @type {FileSystemDirectoryEntry} */ (entry).createReader();
  /** @type {FileSystemEntry[]} */
  const entries = [];
  for (;;) {
    /** @type {FileSystemEntry[]} */
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject)); // a hundred at a time
    if (!some.length) break;
    entries.push(...some);
  }
  entries.sort((one, other) => one.name.localeCompare(other.name, "en", { numeric: true }));
  for (const each of entries) await collect(each, found, true);
}

/** @param {File} file */
function looksLikeMedia(file) {
  return !file.name.startsWith(".") && (MEDIA.test(file.type) || MEDIA_NAME.test(file.name));
}

/** @param {File} one @param {File} other */
function byPath(one, other) {
  const path = (/** @type {File} */ file) => file.webkitRelativePath || file.name;
  return path(one).localeCompare(path(other), "en", { numeric: true });
}

/**
 * The dropped or pasted address, or "".
 * @param {DataTransfer} transfer
 */
export function addressOf(transfer) {
  const text = transfer.getData("text/uri-list") || transfer.getData("text/plain");
  const line = text.split(/\r?\n/).find((part) => part && !part.startsWith("#")) ?? "";
  return /^(https?|file):\/\/\S+$/i.test(line.trim()) ? line.trim() : "";
}
