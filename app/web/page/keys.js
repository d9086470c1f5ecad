// Keyboard control of a job: space plays, arrows step, n and p jump to moments, plus and minus zoom.

const STEP_S = 1;

/**
 * @param {KeyboardEvent} event
 * @param {import("./stage.js").Stage} stage
 * @param {import("./lanes.js").Lanes} lanes
 * @param {(direction: number) => void} jump
 */
export function handleKey(event, stage, lanes, jump) {
  if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || !mayTake(event)) return;
  if (!act(event, stage, lanes, jump)) return;
  event.preventDefault();
}

/**
 * @param {KeyboardEvent} event
 * @param {import("./stage.js").Stage} stage
 * @param {import("./lanes.js").Lanes} lanes
 * @param {(direction: number) => void} jump
 */
function act(event, stage, lanes, jump) {
  switch (event.key) {
    case " ":
      stage.toggle();
      return true;
    case "ArrowLeft":
    case "ArrowRight": {
      const direction = event.key === "ArrowLeft" ? -1 : 1;
      if (event.shiftKey) stage.seek(stage.time + direction * STEP_S);
      else stage.step(direction);
      return true;
    }
    case "n":
    case "p":
      jump(event.key === "n" ? 1 : -1);
      return true;
    case "Home":
      stage.seek(0);
      return true;
    case "End":
      stage.seek(stage.duration);
      return true;
    case "+":
    case "=":
      lanes.zoom(0.6);
      return true;
    case "-":
      lanes.zoom(1 / 0.6);
      return true;
    default:
      return false;
  }
}

/**
 * Whether to handle a key: not during text input or selection, nor if the focused control uses it.
 * @param {KeyboardEvent} event
 */
function mayTake(event) {
  const element = /** @type {HTMLElement} */ (event.target);
  if (document.querySelector("dialog[open]")) return false;
  if (element.matches("input, select, textarea")) return false;
  const plain = event.key === " " && element.matches("button, a, summary");
  const home = ["Home", "End"].includes(event.key) && !element.matches("#lanes");
  return !plain && !home;
}
