// Names and descriptions of the ensemble's members, from the served bundles.

import { getJson } from "./api.js";

/** @typedef {{name: string, title: string, short: string, note: string}} Member */

/** @type {Map<string, Member>} */
let known = new Map();

/**
 * Load the members, each time again, since a worker may have added a bundle.
 * @returns {Promise<Member[]>}
 */
export async function loadMembers() {
  /** @type {Member[]} */
  const members = await getJson("page/members");
  known = new Map(members.map((member) => [member.name, member]));
  return members;
}

/** @param {string} name */
export const memberName = (name) => known.get(name)?.title ?? name;

/** Where there is little room. @param {string} name */
export const memberShort = (name) => known.get(name)?.short ?? name;

/** @param {string} name */
export const memberNote = (name) => known.get(name)?.note ?? "";
