// Follows a job's state and records through the event stream.
// `EventSource` cannot send a key, so the stream is read with `fetch`; it is resumed after interruptions.

import { call, getJob, Problem } from "./api.js";
import { breathe } from "./dom.js";

const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 10_000;
const QUEUE_LOOK_MS = 2000; // the queue position changes without an event of this job
const ENDED = new Set(["succeeded", "failed", "canceled"]);

/** @param {any} job */
export const hasEnded = (job) => ENDED.has(job.state);

/**
 * @typedef {object} Listener
 * @property {(job: any) => void} onJob
 * @property {(frames: any[]) => void} onFrames
 * @property {() => void} onRestart what came so far does not count: another worker begins from the first frame
 * @property {(problem: Problem) => void} onProblem
 */

/**
 * Follow until the job has ended or the signal aborts.
 * @param {string} jobId
 * @param {Listener} listener
 * @param {AbortSignal} signal
 */
export async function follow(jobId, listener, signal) {
  let position = 0;
  let attempts = 0;
  let pause = FIRST_PAUSE_MS;
  let ended = false;
  const queue = watchQueue(jobId, listener, signal);
  while (!ended && !signal.aborted) {
    try {
      for await (const event of events(jobId, position, signal)) {
        pause = FIRST_PAUSE_MS;
        if (event.name === "frames") {
          position = Number(event.id);
          listener.onFrames(JSON.parse(event.data).frames);
          await breathe();
          continue;
        }
        const job = JSON.parse(event.data);
        const restarted = position > 0 && (job.attempts > attempts || job.state === "queued");
        attempts = job.attempts;
        queue.show(job);
        listener.onJob(job);
        if (restarted) {
          position = 0;
          listener.onRestart();
          break; // the stream would repeat from its position
        }
        ended = event.name !== "progress";
      }
      if (ended) break;
    } catch (error) {
      if (signal.aborted) break;
      const problem = error instanceof Problem ? error : Problem.offline();
      listener.onProblem(problem);
      if (problem.status >= 400 && problem.status < 500 && problem.status !== 429) break;
    }
    await wait(pause, signal);
    pause = Math.min(pause * 2, LONGEST_PAUSE_MS);
  }
  queue.stop();
}

/**
 * The events of a job, in order, until the stream ends.
 * @param {string} jobId
 * @param {number} from position of the first frame
 * @param {AbortSignal} signal
 */
async function* events(jobId, from, signal) {
  const answer = await call(`v1/jobs/${jobId}/events?from=${from}&members=true`, { signal });
  const reader = /** @type {ReadableStream<Uint8Array>} */ (answer.body).getReader();
  const decoder = new TextDecoder();
  /** @type {string[]} */
  let pieces = [];
  let done = false;
  try {
    for (;;) {
      const piece = await reader.read();
      done = piece.done;
      if (piece.done) return;
      const text = decoder.decode(piece.value, { stream: true });
      pieces.push(text);
      // An event ends with an empty line, which may be split between chunks.
      if (!text.includes("\n")) continue;
      const blocks = pieces.join("").split("\n\n");
      pieces = [blocks.pop() ?? ""];
      for (const block of blocks) {
        const event = parse(block);
        if (event) yield event;
      }
    }
  } finally {
    if (!done) await reader.cancel().catch(() => {});
  }
}

/** @param {string} block @returns {{name: string, data: string, id: string} | null} */
function parse(block) {
  const fields = { event: "", data: "", id: "" };
  for (const line of block.split("\n")) {
    const colon = line.indexOf(": ");
    const name = line.slice(0, colon);
    if (name in fields) fields[/** @type {keyof typeof fields} */ (name)] = line.slice(colon + 2);
  }
  return fields.event ? { name: fields.event, data: fields.data, id: fields.id } : null;
}

/**
 * Poll the queue position while a job waits.
 * @param {string} jobId
 * @param {Listener} listener
 * @param {AbortSignal} signal
 */
function watchQueue(jobId, listener, signal) {
  let timer = 0;
  const stop = () => clearTimeout(timer);
  /** @param {any} job */
  const show = (job) => {
    stop();
    if (job.state === "queued" && !signal.aborted) timer = setTimeout(look, QUEUE_LOOK_MS);
  };
  const look = async () => {
    try {
      const job = await getJob(jobId, signal);
      if (job.state !== "queued") return;
      listener.onJob(job);
      show(job);
    } catch {
      // the stream reports the problem
    }
  };
  signal.addEventListener("abort", stop);
  return { show, stop };
}

/** @param {number} ms @param {AbortSignal} signal @returns {Promise<void>} */
function wait(ms, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      resolve();
    });
  });
}
