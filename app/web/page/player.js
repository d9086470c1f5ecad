// Two players with one interface: <video>, and a clock for everything else.
// `onPicture` reports the time of the visible picture, `onTime` the current position, also during a seek.

import { make } from "./dom.js";

const NEAR_S = 0.05; // tolerance for the frame of a wanted time

/**
 * @typedef {object} PlayerEvents
 * @property {(time: number) => void} onTime
 * @property {(time: number) => void} onPicture
 * @property {() => void} onState playing, pausing, or a length or size became known
 * @property {() => void} onFail the browser cannot play it
 */

/**
 * @typedef {object} Player
 * @property {HTMLElement} element
 * @property {number} duration s
 * @property {number} time s
 * @property {boolean} paused
 * @property {boolean} hasSound
 * @property {() => void} play
 * @property {() => void} pause
 * @property {(time: number) => void} seek
 * @property {(rate: number) => void} setRate
 * @property {(muted: boolean) => void} setMuted
 * @property {() => void} dispose
 */

/** @implements {Player} */
export class VideoPlayer {
  /**
   * @param {Blob | string} file or its address
   * @param {PlayerEvents} events
   * @param {boolean} [hasSound]
   */
  constructor(file, events, hasSound = true) {
    this.events = events;
    this.url = typeof file === "string" ? file : URL.createObjectURL(file);
    this.element = /** @type {HTMLVideoElement} */ (make("video", { playsinline: true, preload: "auto", tabindex: -1 }));
    this.element.setAttribute("aria-label", "The video");
    this.time = 0;
    this.hasSound = hasSound;
    /** @type {number | null} */
    this.wanted = null; // a seek that waits for the running one
    this.onScreen = 0; // time of the visible frame, s
    this.disposed = false;
    const { element } = this;
    element.onplay = element.onpause = element.onended = () => events.onState();
    element.onloadedmetadata = () => {
      // Browsers report no error for a file of which they play only the sound.
      if (element.videoWidth) events.onState();
      else events.onFail();
    };
    element.onerror = () => this.disposed || events.onFail();
    element.onseeked = () => this.#seeked();
    this.#watch();
    element.src = this.url;
  }

  get duration() {
    return Number.isFinite(this.element.duration) ? this.element.duration : 0;
  }

  get paused() {
    return this.element.paused || this.element.ended;
  }

  play() {
    this.element.play().catch(() => {}); // failures are reported by `onerror`
  }

  pause() {
    this.element.pause();
  }

  /** @param {number} time */
  seek(time) {
    this.time = Math.min(Math.max(time, 0), this.duration || time);
    this.events.onTime(this.time);
    if (this.element.seeking) this.wanted = this.time;
    else this.element.currentTime = this.time;
  }

  /** @param {number} rate */
  setRate(rate) {
    this.element.playbackRate = rate;
  }

  /** @param {boolean} muted */
  setMuted(muted) {
    this.element.muted = muted;
  }

  dispose() {
    this.disposed = true;
    this.element.removeAttribute("src");
    this.element.load();
    URL.revokeObjectURL(this.url);
  }

  #seeked() {
    if (this.wanted !== null) {
      this.element.currentTime = this.wanted;
      this.wanted = null;
    } else if (this.element.requestVideoFrameCallback) {
      // The frame is shown already, or will be in a moment.
      if (Math.abs(this.onScreen - this.element.currentTime) < NEAR_S) this.#shown(this.onScreen);
    } else {
      this.#shown(this.element.currentTime);
    }
  }

  /** @param {number} time of the frame that is on the screen */
  #shown(time) {
    this.onScreen = time;
    this.events.onPicture(time);
    if (this.element.seeking || this.wanted !== null) return;
    this.time = time;
    this.events.onTime(time);
  }

  /** Report every frame that is shown. */
  #watch() {
    const { element } = this;
    if (element.requestVideoFrameCallback) {
      const next = (/** @type {number} */ _now, /** @type {{mediaTime: number}} */ frame) => {
        if (this.disposed) return;
        element.requestVideoFrameCallback(next); // first: of a picture that comes while this one is drawn nothing else tells
        this.#shown(frame.mediaTime);
      };
      element.requestVideoFrameCallback(next);
      return;
    }
    const look = () => {
      if (this.disposed) return;
      if (!element.paused && !element.seeking) this.#shown(element.currentTime);
      requestAnimationFrame(look);
    };
    requestAnimationFrame(look);
  }
}

/** @implements {Player} */
export class ClockPlayer {
  /**
   * @param {import("./pictures.js").Pictures | null} pictures null: there is nothing to be seen
   * @param {(time: number) => number} indexAt the source's frame at a time
   * @param {PlayerEvents} events
   */
  constructor(pictures, indexAt, events) {
    this.pictures = pictures;
    this.indexAt = indexAt;
    this.events = events;
    this.element = /** @type {HTMLCanvasElement} */ (make("canvas", { role: "img", "aria-label": "The picture" }));
    this.duration = 0;
    this.time = 0;
    this.paused = true;
    this.hasSound = false;
    this.rate = 1;
    this.last = 0; // ms, of the previous animation frame
    this.disposed = false;
    this.drawing = false;
    this.stale = false;
  }

  play() {
    if (!this.duration) return;
    if (this.time >= this.duration) this.time = 0;
    this.paused = false;
    this.last = performance.now();
    requestAnimationFrame((now) => this.#tick(now));
    this.events.onState();
  }

  pause() {
    this.paused = true;
    this.events.onState();
  }

  /** @param {number} time */
  seek(time) {
    this.time = Math.min(Math.max(time, 0), this.duration);
    this.events.onTime(this.time);
    this.draw();
  }

  /** @param {number} rate */
  setRate(rate) {
    this.rate = rate;
  }

  setMuted() {}

  dispose() {
    this.disposed = true;
    this.paused = true;
    this.pictures?.close();
  }

  /** Draw the picture of this time; during a decode, only the newest request is kept. */
  async draw() {
    if (this.drawing) {
      this.stale = true;
      return;
    }
    this.drawing = true;
    do {
      this.stale = false;
      const { time } = this;
      await this.pictures?.draw(this.element, this.indexAt(time));
      if (!this.disposed) this.events.onPicture(time);
    } while (this.stale && !this.disposed);
    this.drawing = false;
  }

  /** @param {number} now ms */
  #tick(now) {
    if (this.paused || this.disposed) return;
    this.time = Math.min(this.time + (Math.max(0, now - this.last) / 1000) * this.rate, this.duration);
    this.last = now;
    this.events.onTime(this.time);
    this.draw();
    if (this.time >= this.duration) this.pause();
    else requestAnimationFrame((next) => this.#tick(next));
  }
}
