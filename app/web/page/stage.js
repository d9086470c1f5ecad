// The stage: a player for the file, boxes over it, and its controls.

import { Problem } from "./api.js";
import { byId, setText } from "./dom.js";
import { hasEnded } from "./follow.js";
import { Overlay } from "./overlay.js";
import { openPictures } from "./pictures.js";
import { ClockPlayer, VideoPlayer } from "./player.js";
import { filesOf, remember } from "./session.js";
import { made } from "./renditions.js";
import { clock, percent, preciseClock, size as bytesInWords } from "./words.js";

/** @typedef {import("./records.js").Records} Records */

const INTO_FRAME_S = 0.02; // seek offset into a frame: at its edge, players may show the previous one

export class Stage {
  /**
   * @param {object} events
   * @param {(time: number) => void} events.onTime
   * @param {(trackId: number) => void} events.onTrack
   * @param {() => void} events.onFiles the reader chose the job's files again
   * @param {(problem: Problem) => void} events.onProblem
   */
  constructor(events) {
    this.events = events;
    this.frame = byId("media");
    this.overlay = new Overlay(byId("overlay"));
    /** @type {import("./player.js").Player | null} */
    this.player = null;
    /** @type {Records | null} */
    this.records = null;
    /** @type {any} */
    this.job = null;
    this.asked = false; // whether a preview was requested
    this.inStep = true;
    this.pictureTime = 0;
    this.source = 0;
    /** @type {string[]} */
    this.colours = [];
    /** @type {(trackId: number) => {name: string, chosen: boolean} | null} whose boxes are drawn */
    this.who = () => null;
    this.opened = 0;
    this.#listen();
  }

  /** @param {any} job */
  open(job) {
    this.job = job;
    this.records = null;
    this.asked = false;
    this.overlay.clear();
    this.#openFiles(filesOf(job.id) ?? []);
  }

  close() {
    this.opened += 1;
    this.player?.dispose();
    this.player = null;
    this.records = null;
  }

  /** @param {any} job a newer version of it */
  update(job) {
    this.job = job;
    this.#resize();
    this.#note();
    this.#offerPreview();
  }

  /** @param {Records} records @param {string[]} colours @param {number} source */
  show(records, colours, source) {
    this.records = records;
    this.source = source;
    this.colours = colours;
    this.draw();
  }

  /** New records have arrived. */
  more() {
    if (this.player instanceof ClockPlayer) this.player.duration = this.records?.end ?? 0;
    this.#state();
    this.draw();
  }

  /** Draw the boxes of the visible picture. */
  draw() {
    const { records } = this;
    if (!records || !records.length || !this.inStep) return this.overlay.clear();
    this.overlay.draw(records, records.frameAt(this.pictureTime), this.source, this.size, this.colours, this.who);
  }

  /** Size of the source, pixels. */
  get size() {
    const { width, height } = this.job?.input ?? {};
    const element = /** @type {any} */ (this.player?.element);
    if (width && height) return { width, height };
    return { width: element?.videoWidth || element?.width || 0, height: element?.videoHeight || element?.height || 0 };
  }

  get time() {
    return this.player?.time ?? 0;
  }

  get playing() {
    return !(this.player?.paused ?? true);
  }

  /** Total duration, s. */
  get duration() {
    return Math.max(this.player?.duration ?? 0, this.records?.end ?? 0, this.job?.input.duration_s ?? 0);
  }

  pause() {
    this.player?.pause();
  }

  toggle() {
    if (this.player?.paused) this.player.play();
    else this.player?.pause();
  }

  /** @param {number} time */
  seek(time) {
    this.player?.seek(Math.min(Math.max(time, 0), this.duration));
  }

  /** @param {number} count frames forward, or back */
  step(count) {
    const { records } = this;
    if (!records?.length) return;
    this.player?.pause();
    const position = Math.min(Math.max(records.frameAt(this.time) + count, 0), records.length - 1);
    this.seekFrame(position);
  }

  /** @param {number} position */
  seekFrame(position) {
    const { records } = this;
    if (!records || position < 0 || position >= records.length) return;
    const time = records.times.data[position];
    this.seek(time + Math.min((records.endOf(position) - time) / 2, INTO_FRAME_S));
  }

  /** @param {File[]} files */
  async #openFiles(files) {
    this.opened += 1;
    const { opened } = this;
    const isVideo = files.length === 1 && !files[0].type.startsWith("image/") && !/zip|tar/.test(files[0].type);
    if (isVideo) return this.#use(new VideoPlayer(files[0], this.#playerEvents()));
    const pictures = await openPictures(files);
    if (opened === this.opened) this.#useClock(pictures);
    else pictures?.close();
  }

  /** @param {import("./pictures.js").Pictures | null} pictures */
  #useClock(pictures) {
    const indexAt = (/** @type {number} */ time) => {
      const position = this.records?.frameAt(time) ?? -1;
      return position < 0 ? 0 : /** @type {Records} */ (this.records).indices.data[position];
    };
    const player = new ClockPlayer(pictures, indexAt, this.#playerEvents());
    player.duration = this.records?.end ?? 0;
    this.#use(player, pictures?.inStep ?? true);
    player.draw().then(() => this.#resize());
  }

  /** @param {import("./player.js").Player} player @param {boolean} [inStep] */
  #use(player, inStep = true) {
    const time = this.player?.time ?? 0;
    this.player?.dispose();
    this.player = player;
    this.inStep = inStep;
    this.pictureTime = 0;
    byId("screen").replaceChildren(player.element);
    player.setRate(Number(byId("rate").value));
    if (time) player.seek(time); // the position before the picture was available
    byId("mute").hidden = !player.hasSound;
    this.#state();
    this.#resize();
    this.#note();
    this.#offerPreview();
    this.draw();
  }

  /** Whether there is no picture. */
  get #blank() {
    return this.player instanceof ClockPlayer && !this.player.pictures;
  }

  #playerEvents() {
    return {
      onTime: (/** @type {number} */ time) => {
        this.#showTime();
        this.events.onTime(time);
      },
      onPicture: (/** @type {number} */ time) => {
        this.pictureTime = time;
        this.draw();
      },
      onState: () => {
        this.#state();
        this.#resize();
      },
      onFail: () => this.#useClock(null),
    };
  }

  #state() {
    const paused = this.player?.paused ?? true;
    const play = byId("play");
    play.classList.toggle("playing", !paused);
    play.setAttribute("aria-label", paused ? "Play" : "Pause");
    play.disabled = !this.duration;
    this.#showTime();
  }

  #showTime() {
    setText(byId("clock"), `${preciseClock(this.time)} / ${clock(this.duration)}`);
  }

  #resize() {
    const { width, height } = this.size;
    this.frame.style.setProperty("--ratio", String(width && height ? width / height : 16 / 9));
  }

  /** Explain why there is no picture, and what can be done. */
  #note() {
    const { job } = this;
    const sent = filesOf(job.id);
    const kept = job.options.keep_input;
    byId("no-picture").hidden = !this.#blank;
    byId("choose-again").hidden = Boolean(sent);
    const why = sent
      ? "This browser cannot show this kind of file; the boxes are shown without it."
      : "The picture is not in this tab.";
    const other = sent
      ? "Have it labelled again with the video kept, and a preview is made of it."
      : "Choose the same file again to see it in step with the labels.";
    const preview = hasEnded(job) ? "" : "A preview is made when the job is done.";
    setText(byId("no-picture-words"), `${why} ${kept ? preview : other}`);
  }

  /** If the picture is not available here and the service has kept the file: a preview that every browser plays. */
  async #offerPreview() {
    const { job, opened } = this;
    if (this.asked || !this.#blank || !job.options.keep_input || !hasEnded(job)) return;
    this.asked = true;
    const current = () => opened === this.opened && this.#blank;
    try {
      const video = await made(job.id, "preview", (share) => {
        const how = share === null ? "" : ` ${percent(share)}`;
        if (current()) setText(byId("no-picture-words"), `A preview of the kept file is being made …${how}`);
      });
      if (current()) this.#use(new VideoPlayer(video, this.#playerEvents(), false));
    } catch (error) {
      if (error instanceof Problem && current()) this.events.onProblem(error);
    }
  }

  #listen() {
    byId("play").onclick = () => this.toggle();
    byId("back").onclick = () => this.step(-1);
    byId("forward").onclick = () => this.step(1);
    byId("rate").onchange = () => this.player?.setRate(Number(byId("rate").value));
    byId("mute").onclick = () => {
      const muted = byId("mute").getAttribute("aria-pressed") !== "true";
      byId("mute").setAttribute("aria-pressed", String(muted));
      this.player?.setMuted(muted);
    };
    byId("choose-again").onclick = () => byId("again-input").click();
    byId("again-input").onchange = () => this.#chosenAgain([...byId("again-input").files]);
    this.frame.onclick = (/** @type {MouseEvent} */ event) => {
      const { left, top } = this.frame.getBoundingClientRect();
      const [x, y] = [event.clientX - left, event.clientY - top];
      const position = this.records?.frameAt(this.pictureTime) ?? -1;
      const track = this.records ? this.overlay.trackAt(this.records, position, this.size, x, y) : null;
      if (track === null || !this.who(track)) this.toggle();
      else this.events.onTrack(track);
    };
  }

  /** @param {File[]} files */
  #chosenAgain(files) {
    byId("again-input").value = "";
    if (!files.length) return;
    const { bytes, kind } = this.job.input;
    if (kind === "video" && files[0].size !== bytes) {
      const detail = `The job's file has ${bytesInWords(bytes)}, this one ${bytesInWords(files[0].size)}.`;
      this.events.onProblem(new Problem({ code: "other_file", detail: `This is another file. ${detail}` }));
      return;
    }
    remember(this.job.id, files);
    this.events.onFiles();
    this.#openFiles(files);
  }
}
