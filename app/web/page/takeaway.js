// Exports: files, the timeline picture, the annotated video, and the equivalent curl command.

import { call, keyHeaders, Problem } from "./api.js";
import { announce, byId, setText } from "./dom.js";
import { pageSettings } from "./page-settings.js";
import { fetched } from "./renditions.js";
import { percent } from "./words.js";

const WITH_MEMBERS = ["csv", "ndjson", "parquet"]; // formats with each model's values
const URL_LIVES_MS = 60_000; // until the browser has started the download

/**
 * Save a file by the browser.
 * @param {Blob} blob fetched, because a link cannot send a key
 * @param {string} name
 */
function save(blob, name) {
  const url = URL.createObjectURL(blob);
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), URL_LIVES_MS);
}

/**
 * The equivalent commands.
 * @param {any} job
 * @param {Record<string, unknown>} defaults of the options, which need not be said
 */
function curlCommands(job, defaults) {
  const options = Object.entries(job.options)
    .filter(([option, value]) => value !== null && JSON.stringify(value) !== JSON.stringify(defaults[option]))
    .map(([option, value]) => `-F ${quoted(`${option}=${Array.isArray(value) ? value.join(",") : value}`)}`);
  const secret = Object.keys(keyHeaders()).length ? ["-H 'X-API-Key: YOUR_KEY'"] : [];
  const file = job.input.kind === "frames" && / and \d+ more$/.test(job.name ?? "") ? "-F frames=@1.png -F frames=@2.png" : "";
  const jobs = job.links.self.replace(/\/[^/]*$/, "");
  const send = ["curl", ...secret, file || `-F ${quoted(`file=@${job.name ?? "video.mp4"}`)}`, ...options, quoted(jobs)];
  const read = ["curl", ...secret, quoted(`${jobs}/ID/frames?format=csv`)];
  return `${send.join(" ")}\n${read.join(" ")}`;
}

/** @param {string} text */
function quoted(text) {
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}

/** The buttons of one job. */
export class TakeAway {
  /** @param {(problem: Problem) => void} onProblem */
  constructor(onProblem) {
    this.onProblem = onProblem;
    /** @type {any} */
    this.job = null;
    for (const button of document.querySelectorAll("button[data-save]")) {
      const { save: kind = "", suffix = kind } = /** @type {HTMLElement} */ (button).dataset;
      /** @type {HTMLElement} */ (button).onclick = () => this.#save(/** @type {HTMLButtonElement} */ (button), kind, suffix);
    }
    byId("copy-curl").onclick = () => this.#copy();
  }

  /** @param {any} job */
  async show(job) {
    this.job = job;
    const kept = job.options.keep_input;
    const ended = ["succeeded", "failed", "canceled"].includes(job.state);
    byId("save-video").disabled = !kept || job.state !== "succeeded";
    const note = kept ? "Ready when the job is done." : "A video with its faces marked or blurred can be made of videos that the service was asked to keep.";
    byId("video-style-box").hidden = !kept;
    setText(byId("video-note"), kept && ended ? "" : note);
    const { options } = await pageSettings().catch(() => ({ options: {} }));
    if (this.job === job) setText(byId("curl"), curlCommands(job, options));
  }

  /** @param {HTMLButtonElement} button @param {string} kind @param {string} suffix of the file's name */
  async #save(button, kind, suffix) {
    const { id } = this.job;
    const stem = (this.job.name ?? id).replace(/\.\w{1,5}$/, "").replace(/[^\p{L}\p{N}.-]+/gu, "_");
    button.classList.add("busy");
    button.disabled = true;
    announce("Preparing the download.");
    try {
      if (kind === "video") {
        const words = (/** @type {number | null} */ share) => `The video is being made …${share === null ? "" : ` ${percent(share)}`}`;
        const style = byId("video-style").value;
        const video = await fetched(id, `video?style=${style}`, (share) => this.job.id === id && setText(byId("video-note"), words(share)));
        save(video, `${stem}-${style === "boxes" ? "labelled" : style}.mp4`);
        setText(byId("video-note"), "");
      } else if (kind === "timeline") {
        save(await (await call(`v1/jobs/${id}/timeline.svg`)).blob(), `${stem}-timeline.svg`);
      } else {
        const members = byId("save-members").checked && WITH_MEMBERS.includes(kind) ? "&members=true" : "";
        save(await (await call(`v1/jobs/${id}/frames?format=${kind}${members}`)).blob(), `${stem}.${suffix}`);
      }
      announce("Downloaded.");
    } catch (error) {
      if (error instanceof Problem) this.onProblem(error);
    } finally {
      button.classList.remove("busy");
      button.disabled = false;
    }
  }

  async #copy() {
    try {
      await navigator.clipboard.writeText(byId("curl").textContent);
      setText(byId("copy-curl"), "Copied");
    } catch {
      getSelection()?.selectAllChildren(byId("curl")); // no access to the clipboard: select the text instead
      setText(byId("copy-curl"), "Selected");
    }
    setTimeout(() => setText(byId("copy-curl"), "Copy"), 2000);
  }
}
