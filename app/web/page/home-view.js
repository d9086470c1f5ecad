// The start view: drop zone, uploads, and earlier jobs.

import { getJson, Problem } from "./api.js";
import { byId, make, setText, swatch } from "./dom.js";
import { addressOf, filesOfDrop, mediaOnly } from "./dropped.js";
import { History } from "./history.js";
import { loadMembers } from "./members.js";
import { asJobs, chosenOptions, offerMembers, offerModels, optionsAreValid } from "./options.js";
import { coloursOf } from "./page-settings.js";
import { Queue } from "./queue.js";

export class HomeView {
  constructor() {
    this.queue = new Queue({
      onSent: (job, alone) => {
        if (alone && !byId("home-view").hidden) location.hash = `job=${job.id}`;
        else this.history.refresh();
      },
    });
    this.history = new History((problem) => {
      if (problem) this.#problem(problem.words, problem.code);
      else byId("home-problem").hidden = true;
    });
    this.#choosing();
    this.#dropping();
  }

  show() {
    this.history.show();
    this.#models();
  }

  hide() {
    this.history.hide();
  }

  #choosing() {
    for (const [button, input] of [["choose", "files"], ["choose-folder", "folder"]]) {
      byId(button).onclick = () => byId(input).click();
      byId(input).onchange = () => {
        const files = [...byId(input).files];
        this.take(input === "folder" ? mediaOnly(files) : files);
        byId(input).value = "";
      };
    }
    addEventListener("paste", (event) => {
      const transfer = event.clipboardData;
      const writing = /** @type {HTMLElement} */ (event.target).matches?.("input, textarea");
      if (!transfer || writing || byId("home-view").hidden) return;
      if (transfer.files.length) this.take([...transfer.files]);
      else this.#address(transfer);
    });
  }

  #dropping() {
    const zone = byId("drop");
    // Anywhere on the page: a drop beside the zone must not replace the page.
    let depth = 0;
    const counts = (/** @type {DragEvent} */ event) => event.dataTransfer?.types.some((type) => type === "Files" || type === "text/uri-list") ?? false;
    addEventListener("dragenter", (event) => {
      if (!counts(event)) return;
      depth += 1;
      zone.classList.add("over");
    });
    addEventListener("dragleave", () => {
      depth = Math.max(0, depth - 1);
      if (!depth) zone.classList.remove("over");
    });
    addEventListener("dragover", (event) => counts(event) && event.preventDefault());
    addEventListener("drop", async (event) => {
      const transfer = event.dataTransfer;
      if (!transfer || !counts(event)) return;
      event.preventDefault();
      depth = 0;
      zone.classList.remove("over");
      if (!transfer.types.includes("Files")) return this.#address(transfer);
      this.take(await filesOfDrop(transfer));
    });
  }

  /** An address instead of a file: say what to do. @param {DataTransfer} transfer */
  #address(transfer) {
    const address = addressOf(transfer);
    if (!address) return;
    const shown = address.length > 80 ? `${address.slice(0, 77)}…` : address;
    this.#problem(`${shown} is an address, not a file. Save the video on this computer, then drop the file here.`, "address");
  }

  /** Show what is served, and whether a worker is available. */
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
      this.history.search.offerLabels(labels);
    } catch (error) {
      if (error instanceof Problem) this.#problem(error.words, error.code);
    }
  }

  /**
   * Send files.  A single one is opened as soon as it is accepted.
   * @param {File[]} files
   */
  take(files) {
    byId("home-problem").hidden = true;
    if (!files.length) return this.#problem("There is no video or picture in what was dropped.", "nothing_to_send");
    if (!optionsAreValid()) return;
    const options = chosenOptions();
    const jobs = asJobs(files);
    if (byId("home-view").hidden) location.hash = "";
    this.queue.add(jobs.map((job) => job.files), jobs.map((job) => ({ ...options, ...job.options })));
  }

  /** @param {string} words @param {string} code */
  #problem(words, code) {
    byId("home-problem").hidden = false;
    setText(byId("home-problem-words"), words);
    setText(byId("home-problem-code"), code);
  }
}
