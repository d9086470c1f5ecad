// Asks for the API key, once for all concurrent calls that need it.

import { byId, setText } from "./dom.js";
import { key, setKey } from "./session.js";

/** @type {Promise<boolean> | null} */
let asking = null;

/**
 * Ask for a key.
 * @param {string} [reason] what to say first, such as that the last one was wrong
 * @returns {Promise<boolean>} whether one was given
 */
export function askForKey(reason = "") {
  asking ??= show(reason).finally(() => {
    asking = null;
  });
  return asking;
}

/** @param {string} reason @returns {Promise<boolean>} */
function show(reason) {
  const dialog = byId("key-dialog");
  const form = byId("key-form");
  const input = byId("key-input");
  const wrong = byId("key-wrong");
  setText(wrong, reason);
  wrong.hidden = !reason;
  input.value = "";
  dialog.showModal();
  return new Promise((resolve) => {
    let given = false;
    form.onsubmit = (/** @type {Event} */ event) => {
      event.preventDefault();
      const value = input.value.trim();
      if (!value) return;
      setKey(value, byId("key-everywhere").checked);
      given = true;
      dialog.close();
    };
    byId("key-cancel").onclick = () => dialog.close();
    dialog.onclose = () => {
      input.value = "";
      showForget();
      resolve(given);
    };
  });
}

/** Show the button that forgets the key only while there is one. */
export function showForget() {
  byId("forget-key").hidden = !key();
}
