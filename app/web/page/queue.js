// The upload queue: one file after the other, each with its state; failed ones stay until they are retried or removed.

import { Problem } from "./api.js";
import { announce, byId, make, setText } from "./dom.js";
import { pageSettings } from "./page-settings.js";
import { setActivity } from "./title.js";
import { upload } from "./upload.js";
import { counted, percent, size } from "./words.js";

/** @typedef {"waiting" | "sending" | "sent" | "failed"} State */
/**
 * @typedef {object} Item
 * @property {string} name
 * @property {File[]} files
 * @property {number} bytes
 * @property {Record<string, string>} options
 * @property {State} state
 * @property {AbortController} stop
 * @property {any} job once it is sent
 * @property {HTMLElement} row
 * @property {HTMLElement} words
 * @property {HTMLProgressElement} bar
 * @property {HTMLElement} again
 * @property {HTMLElement} away
 * @property {HTMLElement} title
 */

const OFFLINE = "The service does not respond. Try again; this happens by itself when your connection is back.";

export class Queue {
  /** @param {{onSent: (job: any, alone: boolean) => void}} events alone: nothing else was added with it */
  constructor(events) {
    this.events = events;
    /** @type {Item[]} */
    this.items = [];
    this.running = false;
    byId("retry-failed").onclick = () => this.#retry(this.items.filter(({ state }) => state === "failed"));
    byId("clear-sent").onclick = () => this.#drop(this.items.filter(({ state }) => state === "sent"));
    addEventListener("online", () => this.#retry(this.items.filter(({ row }) => row.dataset.code === "offline")));
    addEventListener("beforeunload", (event) => {
      if (this.#count("waiting") + this.#count("sending")) event.preventDefault();
    });
  }

  /**
   * Add uploads, one per job.
   * @param {File[][]} jobs
   * @param {Record<string, string>[]} options of each
   */
  add(jobs, options) {
    const added = jobs.map((files, place) => this.#item(files, options[place]));
    this.items.push(...added);
    byId("uploads").append(...added.map(({ row }) => row));
    const alone = added.length === 1 ? added[0] : null;
    this.#run(alone);
  }

  /** @param {File[]} files @param {Record<string, string>} options @returns {Item} */
  #item(files, options) {
    const bytes = files.reduce((sum, file) => sum + file.size, 0);
    const name = files.length === 1 ? files[0].name : counted(files.length, "picture");
    const hint = (/** @type {string} */ word) => [word, make("span", { class: "visually-hidden", text: ` ${name}` })];
    const item = /** @type {Item} */ ({
      ...{ name, files, bytes, options, state: "waiting", stop: new AbortController(), job: null },
      words: make("span", { class: "upload-state" }),
      bar: make("progress", { max: 1, value: 0, "aria-label": `Sending ${name}` }),
      again: make("button", { type: "button", class: "quiet" }, ...hint("Try again")),
      away: make("button", { type: "button", class: "quiet" }, ...hint("Cancel")),
      title: make("span", { class: "upload-name", text: name }),
    });
    item.again.onclick = () => this.#retry([item]);
    item.away.onclick = () => this.#drop([item]);
    item.row = make("li", { class: "upload" }, item.title, item.words, item.again, item.away, item.bar);
    this.#show(item, "waiting", "Waiting to be sent");
    return item;
  }

  /** Send what waits, in its order: the browser's few connections stay free for the page. @param {Item | null} alone */
  async #run(alone) {
    this.#summary();
    if (this.running) return;
    this.running = true;
    const { max_upload_bytes: most } = await pageSettings().catch(() => ({ max_upload_bytes: Infinity }));
    for (let item; (item = this.items.find(({ state }) => state === "waiting")); ) await this.#send(item, most, item === alone);
    this.running = false;
    this.#summary();
  }

  /** @param {Item} item @param {number} most bytes that the service takes @param {boolean} alone */
  async #send(item, most, alone) {
    const { name, files, bytes, options } = item;
    if (bytes > most) {
      const words = `It has ${size(bytes)}; this service takes up to ${size(most)}.`;
      return this.#show(item, "failed", `${words} Label a part of it, or a smaller version.`, "upload_too_large");
    }
    announce(`Sending ${name}.`);
    this.#show(item, "sending", "");
    try {
      item.job = await upload(files, options, item.stop.signal, (share, broken) => {
        item.bar.value = share;
        const words = share < 1 ? `${percent(share)} of ${size(bytes)}` : "Checking …";
        setText(item.words, broken ? `${words}. The connection broke; it goes on when the service answers.` : words);
        this.#summary();
      });
    } catch (error) {
      if (error instanceof DOMException && error.name === "AbortError") return announce(`${name} is not sent.`);
      if (!(error instanceof Problem)) throw error;
      const words = error.code === "offline" ? OFFLINE : error.words;
      return this.#show(item, "failed", words, error.code);
    }
    announce(`${name} is sent.`);
    this.#show(item, "sent", "Sent");
    item.title.replaceChildren(make("a", { href: `#job=${item.job.id}`, text: name }));
    this.events.onSent(item.job, alone);
    if (alone) this.#drop([item]);
  }

  /** @param {Item} item @param {State} state @param {string} words @param {string} [code] */
  #show(item, state, words, code = "") {
    item.state = state;
    item.row.dataset.state = state;
    item.row.dataset.code = code;
    item.words.replaceChildren(words, ...(code ? [" ", make("code", { text: code })] : []));
    item.bar.hidden = state !== "sending";
    item.again.hidden = state !== "failed";
    /** @type {Text} */ (item.away.firstChild).data = state === "waiting" || state === "sending" ? "Cancel" : "Remove";
    if (state === "failed") announce(`${item.name}: ${words}`);
    this.#summary();
  }

  /** @param {Item[]} items */
  #retry(items) {
    for (const item of items) this.#show(item, "waiting", "Waiting to be sent");
    this.#run(null);
  }

  /** @param {Item[]} items */
  #drop(items) {
    for (const item of items) {
      item.stop.abort();
      item.row.remove();
    }
    this.items = this.items.filter((item) => !items.includes(item));
    this.#summary();
  }

  /** @param {State} state */
  #count(state) {
    return this.items.filter((item) => item.state === state).length;
  }

  /** Show the total progress above the list, in the header and in the tab's title. */
  #summary() {
    const [waiting, sending, sent, failed] = /** @type {State[]} */ (["waiting", "sending", "sent", "failed"]).map((state) => this.#count(state));
    const total = this.items.length;
    const open = waiting + sending;
    byId("queue").hidden = !total;
    byId("queue-head").hidden = total < 2 && !failed;
    const parts = [open ? `${sent} of ${counted(total, "upload")} sent` : `${counted(sent, "upload")} sent`];
    if (failed) parts.push(`${failed} failed`);
    setText(byId("queue-words"), parts.join(", "));
    byId("retry-failed").hidden = !failed;
    byId("clear-sent").hidden = !sent || Boolean(open);
    byId("sending").hidden = !open;
    setText(byId("sending"), `Sending ${counted(open, "file")}`);
    const bytes = this.items.reduce((sum, item) => sum + item.bytes, 0);
    const gone = this.items.reduce((sum, item) => sum + item.bytes * (item.state === "sending" ? item.bar.value : item.state === "waiting" ? 0 : 1), 0);
    setActivity("upload", open ? `Sending ${percent(gone / Math.max(bytes, 1))}` : "");
  }
}
