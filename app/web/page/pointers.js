// One pointer points, two pinch and pan; vertical movement of a finger scrolls as usual.

export class Pointers {
  /**
   * @param {HTMLElement} root
   * @param {object} events
   * @param {(event: PointerEvent, first: boolean) => void} events.onPoint pressed, or moved while it is
   * @param {(event: PointerEvent) => void} events.onHover
   * @param {(before: number[], now: number[]) => void} events.onPinch places of the two, from the left, of the window
   */
  constructor(root, events) {
    /** @type {Map<number, number>} */
    const down = new Map();
    root.addEventListener("pointerdown", (event) => {
      if (event.button) return;
      down.set(event.pointerId, event.clientX);
      root.setPointerCapture(event.pointerId);
      if (down.size === 1) events.onPoint(event, true);
    });
    root.addEventListener("pointermove", (event) => {
      if (!down.has(event.pointerId)) return down.size ? undefined : events.onHover(event);
      if (down.size === 1) {
        down.set(event.pointerId, event.clientX);
        return events.onPoint(event, false);
      }
      const before = [...down.values()].sort((one, other) => one - other);
      down.set(event.pointerId, event.clientX);
      const now = [...down.values()].sort((one, other) => one - other);
      if (before[1] - before[0] > 10 && now[1] - now[0] > 10) events.onPinch(before, now);
    });
    for (const end of ["pointerup", "pointercancel", "lostpointercapture"]) {
      root.addEventListener(end, (event) => down.delete(/** @type {PointerEvent} */ (event).pointerId));
    }
  }
}
