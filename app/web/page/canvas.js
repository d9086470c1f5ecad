// The resolution of canvases.

/**
 * Set a canvas to the screen's resolution.
 * @param {HTMLCanvasElement} canvas
 * @param {number} height CSS pixels
 * @returns {number} its width in CSS pixels, whole
 */
export function fit(canvas, height) {
  const density = window.devicePixelRatio || 1;
  const width = Math.max(1, Math.floor(canvas.clientWidth));
  const [w, h] = [Math.round(width * density), Math.round(height * density)];
  if (canvas.width !== w || canvas.height !== h) Object.assign(canvas, { width: w, height: h });
  canvas.getContext("2d")?.setTransform(density, 0, 0, density, 0, 0);
  return width;
}
