// Converts the form of options to the API's fields.  Unchanged options are not sent.

import { byId, make } from "./dom.js";

const ALBUM_FPS = "0.2"; // pictures of an album are independent: five seconds apart
const IMAGE = /^image\/(?!gif$)/; // a GIF is a separate video

/** @returns {Record<string, string>} form fields for the API */
export function chosenOptions() {
  /** @type {HTMLFormElement} */
  const form = byId("options");
  const given = new FormData(form);
  /** @type {Record<string, string>} */
  const fields = {};
  for (const name of ["sample_fps", "start_s", "end_s", "min_score", "prior", "model"]) {
    const value = String(given.get(name) ?? "").trim();
    if (value) fields[name] = value;
  }
  for (const input of form.querySelectorAll("input[data-default]")) {
    const { name, value, dataset } = /** @type {HTMLInputElement} */ (input);
    if (value.trim() && value !== dataset.default) fields[name] = value.trim();
  }
  if (given.get("faces") === "cropped") fields.faces = "cropped";
  if (given.get("people")) fields.people = "true";
  const members = given.getAll("members");
  if (members.length && members.length < form.querySelectorAll("input[name=members]").length) {
    fields.members = members.join(",");
  }
  if (byId("keep-input").checked) fields.keep_input = "true";
  return fields;
}

/**
 * Group files into jobs: each video separately; images that arrive together form one album, or one clip if the user
 * chose so, in the order of their names.
 * @param {File[]} files
 * @returns {{files: File[], options: Record<string, string>}[]}
 */
export function asJobs(files) {
  const images = files.filter((file) => IMAGE.test(file.type));
  const others = files.filter((file) => !IMAGE.test(file.type)).map((file) => ({ files: [file], options: {} }));
  if (!images.length) return others;
  images.sort((one, other) => one.name.localeCompare(other.name, "en", { numeric: true }));
  const album = images.length > 1 && !byId("one-clip").checked;
  return [{ files: images, options: album ? { fps: ALBUM_FPS } : {} }, ...others];
}

/**
 * Validate the form; shows the first invalid number.
 * @returns {boolean}
 */
export function optionsAreValid() {
  const form = byId("options");
  if (form.checkValidity()) return true;
  byId("more-options").open = true;
  form.reportValidity();
  return false;
}

/**
 * Offer the members; deselected ones stay deselected.
 * @param {import("./members.js").Member[]} members
 */
export function offerMembers(members) {
  const list = byId("members");
  const left = new Set([...list.querySelectorAll("input:not(:checked)")].map(({ value }) => value));
  const choices = members.map(({ name, title, note }) => {
    const box = make("input", { type: "checkbox", name: "members", value: name, checked: !left.has(name) });
    return make("label", { class: "check" }, box, note ? ` ${title}, ${note}` : ` ${title}`);
  });
  list.replaceChildren(...choices);
  byId("members-field").hidden = members.length < 2;
}

/**
 * Offer the served bundles, if there are several, and the prior, if one of them supports it.
 * @param {any[]} models
 */
export function offerModels(models) {
  const select = byId("model");
  const former = select.value;
  select.replaceChildren(new Option("The default", ""), ...models.map(({ name }) => new Option(name, name)));
  select.value = models.some(({ name }) => name === former) ? former : "";
  byId("model-field").hidden = models.length < 2;
  const known = models.some(({ prior }) => prior);
  byId("prior-field").hidden = !known;
  if (!known) byId("prior").value = "";
}
