// The dialog for a job's name and metadata.

import { getJson } from "./api.js";
import { byId, setText } from "./dom.js";
import { metadataOf, nameOf } from "./words.js";

/**
 * Let the user change name and metadata.
 * @param {any} job
 * @returns {Promise<any>} the job as it is then; null where nothing was changed
 * @throws {import("./api.js").Problem}
 */
export async function editNaming(job) {
  const dialog = byId("naming-dialog");
  const [name, metadata, wrong] = [byId("naming-name"), byId("naming-metadata"), byId("naming-wrong")];
  name.value = job.name ?? "";
  name.placeholder = nameOf({ ...job, name: null });
  metadata.value = metadataOf(job)
    .map(([key, value]) => `${key}: ${value}`)
    .join("\n");
  wrong.hidden = true;
  dialog.showModal();
  return new Promise((resolve, reject) => {
    /** @type {any} */
    let changed = null;
    byId("naming-cancel").onclick = () => dialog.close();
    dialog.onclose = () => resolve(changed);
    byId("naming-form").onsubmit = async (/** @type {Event} */ event) => {
      event.preventDefault();
      const lines = parse(metadata.value);
      const bad = lines.find(({ key }) => !key);
      if (bad) {
        setText(wrong, `“${bad.line}” has no key: write “key: value”, with letters, digits, _ . - in the key.`);
        wrong.hidden = false;
        return;
      }
      const given = Object.fromEntries(lines.map(({ key, value }) => [key, value]));
      const gone = Object.keys(job.metadata).filter((key) => !(key in given));
      const body = { name: name.value.trim() || null, metadata: { ...given, ...Object.fromEntries(gone.map((key) => [key, null])) } };
      try {
        changed = await getJson(`v1/jobs/${job.id}`, {
          method: "PATCH",
          headers: { "Content-Type": "application/json" },
          body: JSON.stringify(body),
        });
        dialog.close();
      } catch (error) {
        const problem = /** @type {import("./api.js").Problem} */ (error);
        if (problem.code !== "invalid_option") return reject(error), dialog.close();
        setText(wrong, problem.words);
        wrong.hidden = false;
      }
    };
  });
}

/** @param {string} text a line an entry, `key: value` */
function parse(text) {
  return text
    .split("\n")
    .map((line) => line.trim())
    .filter(Boolean)
    .map((line) => {
      const match = /^([A-Za-z0-9_.-]{1,40})\s*[:=]\s*(.*)$/.exec(line);
      return { line, key: match?.[1] ?? "", value: match?.[2] ?? "" };
    });
}
