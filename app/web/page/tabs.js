// Tabs of this browser notify each other of deleted jobs.

const channel = new BroadcastChannel("mien.deleted");

/** @param {string} jobId */
export function tellDeleted(jobId) {
  channel.postMessage(jobId);
}

/** @param {(jobId: string) => void} listener */
export function onDeleted(listener) {
  channel.addEventListener("message", (event) => listener(String(event.data)));
}
