// Texts and numbers for display.

/** @type {Record<string, string>} What a problem's code means. */
const PROBLEMS = {
  offline: "The service does not respond. Check your connection; the page continues by itself when it is back.",
  malformed_request: "The upload arrived damaged. Try again.",
  unauthorized: "This service requires a valid API key.",
  not_found: "There is no such job. It may have been deleted, or it belongs to another key.",
  conflict: "That is not possible at the moment.",
  gone: "This job has expired: results are kept for a limited time.",
  upload_too_large: "The file is larger than this service accepts.",
  unsupported_media: "This file is not a video or picture that can be labelled.",
  invalid_option: "One of the options is invalid.",
  rate_limited: "Too many requests in a short time. Wait a moment, then try again.",
  queue_full: "Too many jobs are waiting. Try again in a few minutes.",
  quota_exceeded: "The quota of this key is used up.",
  unavailable: "A part of the service is unavailable. Try again shortly.",
  storage_full: "The service has no storage left. Try again later.",
  undecodable_input: "The file could not be read as a video. It may be damaged, or its type is not supported.",
  limit_exceeded: "The video is longer or larger than this service allows.",
  not_started: "No worker was available for this video. Try again later.",
  worker_lost: "The workers that labelled this video stopped several times. Try again.",
  out_of_memory: "The worker ran out of memory. Try a smaller video, or fewer faces.",
  internal: "An internal error occurred and was logged.",
  // Answers of a proxy in front of the service.
  http_413: "The server in front of the service refuses files as large as this. Ask its operator to allow larger uploads, or send a smaller version.",
  http_401: "The server in front of the service requires you to sign in. Reload this page.",
  http_403: "The server in front of the service refuses the upload.",
  http_408: "The server in front of the service aborted the upload, because it took too long. Try again.",
  http_429: "Too many requests in a short time. Wait a moment, then try again.",
  http_502: "The server in front of the service gets no answer from it. It may be restarting: try again in a minute.",
  http_503: "The service is not available at the moment, according to the server in front of it. Try again in a minute.",
  http_504: "The server in front of the service waited too long for its answer. Try again; a large file may need the operator's help.",
};

/** @type {Record<string, string>} */
const STATES = {
  queued: "Waiting",
  running: "Labelling",
  succeeded: "Done",
  failed: "Failed",
  canceled: "Cancelled",
};

/**
 * A problem as one or two sentences.
 * @param {string} code
 * @param {string} [detail] the service's own words, which say more where the code alone says little
 */
export function explain(code, detail = "") {
  const known = PROBLEMS[code] ?? "That did not work.";
  const telling = ["invalid_option", "conflict", "upload_too_large", "unsupported_media", "limit_exceeded"];
  return detail && (telling.includes(code) || !PROBLEMS[code]) ? `${known} ${detail}` : known;
}

/**
 * The name of a job.
 * @param {any} job
 * @returns {string}
 */
export const nameOf = (job) => job.name ?? (job.input.kind === "frames" ? "Pictures" : "Video");

/** A job's metadata by key. @param {any} job @returns {[string, string][]} */
export const metadataOf = (job) => Object.entries(job.metadata).sort(([one], [other]) => (one < other ? -1 : 1));

/** @param {string} state */
export const stateName = (state) => STATES[state] ?? state;

/** 83.4 -> "1:23". @param {number} seconds */
export function clock(seconds) {
  const whole = Math.max(0, Math.floor(seconds + 1e-6));
  const parts = [Math.floor(whole / 60) % 60, whole % 60].map((part) => String(part).padStart(2, "0"));
  const hours = Math.floor(whole / 3600);
  return hours ? `${hours}:${parts.join(":")}` : `${Number(parts[0])}:${parts[1]}`;
}

/** 83.456 -> "1:23.46". @param {number} seconds */
export function preciseClock(seconds) {
  const hundredths = Math.round(Math.max(0, seconds) * 100);
  return `${clock(Math.floor(hundredths / 100))}.${String(hundredths % 100).padStart(2, "0")}`;
}

/** 0.876 -> "88 %". @param {number} share */
export const percent = (share) => `${Math.round(share * 100)} %`;

/** @param {number} count */
export const number = (count) => count.toLocaleString("en-GB");

/** @param {number} count @param {string} one @param {string} [many] */
export const counted = (count, one, many = `${one}s`) => `${number(count)} ${count === 1 ? one : many}`;

/** 1536 -> "1.5 KB". @param {number} bytes */
export function size(bytes) {
  const units = ["bytes", "KB", "MB", "GB", "TB"];
  let value = bytes;
  let unit = 0;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return `${unit === 0 || value >= 10 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`;
}

/** A length of time, roughly: 8.3 -> "8 s", 130 -> "2 min". @param {number} seconds */
export function roughly(seconds) {
  if (seconds < 90) return `${Math.max(1, Math.round(seconds))} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}

/** When something happened, by the reader's clock. @param {string} iso */
export function moment(iso) {
  const then = new Date(iso);
  const today = new Date().toDateString() === then.toDateString();
  const time = then.toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit" });
  return today ? `today, ${time}` : `${then.toLocaleDateString("en-GB", { day: "numeric", month: "short" })}, ${time}`;
}

/**
 * The state of a job as one line.
 * @param {any} job
 */
export function progressLine(job) {
  const { frames_done: done, frames_total: total, frames_per_second: rate, eta_s: left } = job.progress;
  if (job.state === "queued") {
    const before = job.queue_position;
    if (before === null) return "Waiting for a worker";
    return before === 0 ? "Next in the queue" : `Waiting, ${counted(before, "job")} before this one`;
  }
  if (job.state !== "running") return stateName(job.state);
  if (!done) return "Starting to label";
  const parts = [total ? `${number(done)} of ${counted(total, "frame")}` : counted(done, "frame")];
  if (rate) parts.push(`${rate >= 10 ? Math.round(rate) : rate.toFixed(1)} a second`);
  if (left !== null && left !== undefined) parts.push(`about ${roughly(left)} left`);
  return parts.join(" · ");
}
