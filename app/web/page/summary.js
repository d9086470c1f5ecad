// An ended job's summary: smoothed segments, and the grouping of tracks by person.

import { getJson } from "./api.js";
import { setSummary } from "./segments.js";

/**
 * @param {import("./records.js").Records} records
 * @param {any} job that they are of
 * @returns {Promise<boolean>} whether there is one; without it segments stay raw
 */
export async function summarise(records, job) {
  const summary = await getJson(`v1/jobs/${job.id}/summary`).catch(() => null);
  if (!summary) return false;
  setSummary(records, summary, job.options.unsure_below);
  // Person ids are known at the end only; earlier records lack them.
  for (const { person_id: person, appearances } of summary.people ?? []) {
    for (const { track_id: track } of appearances) records.personIds.set(track, person);
  }
  return true;
}
