// DOM helpers.  Text is set as text, never as markup.

/**
 * Create an element.
 * @param {string} tag
 * @param {Record<string, unknown>} [attributes] `class`, `text`, `on` (listeners by event), anything else as an
 *   attribute; true is an empty one, false and null leave it out.
 * @param {...(Node | string)} children
 * @returns {HTMLElement}
 */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === false || value === null || value === undefined) continue;
    if (name === "text") element.textContent = String(value);
    else if (name === "on") for (const [event, listener] of Object.entries(value)) element.addEventListener(event, listener);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children);
  return element;
}

/**
 * The element with this id.
 * @param {string} id
 * @returns {any}
 */
export function byId(id) {
  return document.getElementById(id);
}

/**
 * Set an element's text if it differs, to avoid needless layout.
 * @param {Element} element
 * @param {string} text
 */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/**
 * A square in a label's colour.
 * @param {string} colour `#RRGGBB`
 */
export function swatch(colour) {
  const square = make("span", { class: "swatch", "aria-hidden": "true" });
  square.style.backgroundColor = colour;
  return square;
}

/**
 * Limits calls to one per animation frame.
 * @param {() => void} work
 * @returns {() => void}
 */
export function oncePerFrame(work) {
  let asked = false;
  return () => {
    if (asked) return;
    asked = true;
    requestAnimationFrame(() => {
      asked = false;
      work();
    });
  };
}

/** Lets the browser handle input and paint before going on. @returns {Promise<void>} */
export function breathe() {
  return new Promise((resolve) => {
    const channel = new MessageChannel();
    channel.port1.onmessage = () => {
      channel.port1.close();
      resolve();
    };
    channel.port2.postMessage(null);
  });
}

let announced = "";

/**
 * Announce a text to screen readers (aria-live polite).
 * @param {string} text
 */
export function announce(text) {
  if (text === announced) return;
  announced = text;
  byId("announcer").textContent = text;
}
