// The start: a place to drop files, uploads on their way, and earlier jobs.

import { getJson, Problem } from "./api.js";
import { announce, byId, make, setText, swatch } from "./dom.js";
import { History } from "./history.js";
import { loadMembers } from "./members.js";
import { asJobs, chosenOptions, offerMembers, offerModels, optionsAreValid } from "./options.js";
import { coloursOf, pageSettings } from "./page-settings.js";
import { upload } from "./upload.js";
import { percent, size } from "./words.js";

export class HomeView {
  constructor() {
    /** @type {Promise<any>} the upload that is under way, and those that wait for it */
    this.sending = Promise.resolve();
    this.history = new History((problem) => {
      if (problem) this.#problem(problem.words, problem.code);
      else byId("home-problem").hidden = true;
    });
    this.#listen();
  }

  show() {
    this.history.show();
    this.#models();
  }

  hide() {
    this.history.hide();
  }

  #listen() {
    const zone = byId("drop");
    const input = byId("files");
    byId("choose").onclick = () => input.click();
    input.onchange = () => {
      this.take([...input.files]);
      input.value = "";
    };
    // Anywhere on the page: a file that misses the zone must not replace the page.
    let depth = 0;
    const carriesFiles = (/** @type {DragEvent} */ event) => event.dataTransfer?.types.includes("Files") ?? false;
    addEventListener("dragenter", (event) => {
      if (!carriesFiles(event)) return;
      depth += 1;
      zone.classList.add("over");
    });
    addEventListener("dragleave", () => {
      depth = Math.max(0, depth - 1);
      if (!depth) zone.classList.remove("over");
    });
    addEventListener("dragover", (event) => carriesFiles(event) && event.preventDefault());
    addEventListener("drop", (event) => {
      if (!carriesFiles(event)) return;
      event.preventDefault();
      depth = 0;
      zone.classList.remove("over");
      this.take([...(event.dataTransfer?.files ?? [])]);
    });
  }

  /** Say what is served, and whether anybody is there to do the work. */
  async #models() {
    try {
      offerMembers(await loadMembers());
      const { models } = await getJson("v1/models");
      byId("no-worker").hidden = models.length > 0;
      if (!models.length) return;
      offerModels(models);
      const { labels } = models.find((/** @type {any} */ model) => model.name === "default") ?? models[0];
      const colours = await coloursOf(labels);
      byId("label-list").replaceChildren(
        ...labels.map((/** @type {string} */ label, /** @type {number} */ k) => make("li", {}, swatch(colours[k]), label)),
      );
    } catch (error) {
      if (error instanceof Problem) this.#problem(error.words, error.code);
    }
  }

  /**
   * Send files.  One that is alone is opened as soon as it is accepted.
   * @param {File[]} files
   */
  async take(files) {
    byId("home-problem").hidden = true;
    if (!files.length || !optionsAreValid()) return;
    const options = chosenOptions();
    const jobs = asJobs(files);
    const { max_upload_bytes: most } = await pageSettings().catch(() => ({ max_upload_bytes: Infinity }));
    const [first] = await Promise.all(jobs.map((job) => this.#send(job, options, most)));
    if (jobs.length === 1 && first && !byId("home-view").hidden) location.hash = `job=${first.id}`;
    else this.history.refresh();
  }

  /**
   * @param {File[]} files
   * @param {Record<string, string>} options
   * @param {number} most bytes
   * @returns {Promise<any>} the job, or null
   */
  async #send(files, options, most) {
    const bytes = files.reduce((sum, file) => sum + file.size, 0);
    const name = files.length === 1 ? files[0].name : `${files.length} images`;
    if (bytes > most) {
      this.#failed(name, `It has ${size(bytes)}; this service takes up to ${size(most)}.`, "upload_too_large");
      return null;
    }
    const bar = /** @type {HTMLProgressElement} */ (make("progress", { max: 1, value: 0, "aria-label": `Sending ${name}` }));
    const state = make("span", { class: "upload-state", text: "Waiting to be sent" });
    const cancel = make("button", { type: "button", class: "quiet", text: "Cancel" });
    const title = make("span", { class: "upload-name", text: name });
    const row = make("li", { class: "upload" }, title, state, cancel, bar);
    byId("uploads").append(row);
    // One after the other: they queue in their order, and leave the browser's few connections to what the page asks.
    const stop = new AbortController();
    cancel.onclick = () => {
      stop.abort();
      row.remove();
    };
    const sent = this.sending.then(() => {
      announce(`Sending ${name}.`);
      return upload(files, options, stop.signal, (share) => {
        bar.value = share;
        setText(state, share < 1 ? `${percent(share)} of ${size(bytes)}` : "Checking …");
      });
    });
    this.sending = sent.catch(() => {});
    try {
      const job = await sent;
      announce(`${name} is sent.`);
      this.history.refresh();
      return job;
    } catch (error) {
      if (error instanceof Problem) this.#failed(name, error.words, error.code);
      else if (error instanceof DOMException && error.name === "AbortError") announce(`${name} is not sent.`);
      else throw error;
      return null;
    } finally {
      row.remove();
    }
  }

  /** @param {string} name @param {string} words @param {string} code */
  #failed(name, words, code) {
    this.#problem(`${name}: ${words}`, code);
  }

  /** @param {string} words @param {string} code */
  #problem(words, code) {
    byId("home-problem").hidden = false;
    setText(byId("home-problem-words"), words);
    setText(byId("home-problem-code"), code);
  }
}
