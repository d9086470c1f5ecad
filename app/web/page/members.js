// What the members of the ensemble are called and what they look at: as the bundles that are served here say.

import { getJson } from "./api.js";

/** @typedef {{name: string, title: string, short: string, note: string}} Member */

/** @type {Map<string, Member>} */
let known = new Map();

/**
 * Ask for the members, again each time: a worker may have brought a bundle.
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
