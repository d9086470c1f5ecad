// Pictures that <video> cannot play: images, image sequences and animated GIFs.

const IMAGE = /^image\//;

/**
 * @typedef {object} Pictures
 * @property {number} width
 * @property {number} height
 * @property {boolean} inStep whether each frame is to be had, so that boxes fit the picture
 * @property {(canvas: HTMLCanvasElement, index: number) => Promise<void>} draw
 * @property {() => void} close
 */

/**
 * The pictures of files, or null if the browser cannot show them.
 * @param {File[]} files
 * @returns {Promise<Pictures | null>}
 */
export async function openPictures(files) {
  if (!files.length || !files.every((file) => IMAGE.test(file.type))) return null;
  try {
    if (files[0].type === "image/gif" && "ImageDecoder" in globalThis) return await animation(files[0]);
    return await stills(files);
  } catch {
    return null; // damaged, or not supported by this browser
  }
}

/** @param {File} file @returns {Promise<Pictures>} */
async function animation(file) {
  const decoder = new ImageDecoder({ data: await file.arrayBuffer(), type: file.type });
  await decoder.completed;
  await decoder.tracks.ready;
  const count = decoder.tracks.selectedTrack?.frameCount ?? 1;
  const { image } = await decoder.decode({ frameIndex: 0 });
  const [width, height] = [image.displayWidth, image.displayHeight];
  image.close();
  return {
    width,
    height,
    inStep: true,
    async draw(canvas, index) {
      const frame = await decoder.decode({ frameIndex: Math.min(Math.max(index, 0), count - 1) });
      paint(canvas, frame.image, width, height);
      frame.image.close();
    },
    close: () => decoder.close(),
  };
}

/** @param {File[]} files @returns {Promise<Pictures>} */
async function stills(files) {
  let bitmap = await createImageBitmap(files[0]);
  let shown = 0;
  const { width, height } = bitmap;
  return {
    width,
    height,
    inStep: files[0].type !== "image/gif",
    async draw(canvas, index) {
      const wanted = Math.min(Math.max(index, 0), files.length - 1);
      if (wanted !== shown) {
        const next = await createImageBitmap(files[wanted]);
        bitmap.close();
        bitmap = next;
        shown = wanted;
      }
      paint(canvas, bitmap, bitmap.width, bitmap.height);
    },
    close: () => bitmap.close(),
  };
}

/**
 * @param {HTMLCanvasElement} canvas
 * @param {CanvasImageSource} image
 * @param {number} width
 * @param {number} height
 */
function paint(canvas, image, width, height) {
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  canvas.getContext("2d")?.drawImage(image, 0, 0, width, height);
}
