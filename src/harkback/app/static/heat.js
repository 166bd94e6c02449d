// Where the sound made the model look, drawn over the picture.

import { HEAT_COLOURS } from "./colours.js";

const ACROSS = 128; // pixels that are computed across a picture; the browser smooths the rest
const OPAQUE = 0.9; // how much the hottest patch covers

/**
 * The heat of an answer, 0..1; null where there is none, or not as much as there should be.
 * heat.power: what the bytes have to be raised to, for a look is mostly faint, and bytes are coarse.
 */
export function unpacked(heat) {
  if (!heat) return null;
  const { frames, rows, columns, power = 1 } = heat;
  const values = Float32Array.from(atob(heat.data), (letter) => (letter.charCodeAt(0) / 255) ** power);
  return values.length === frames * rows * columns && values.length ? { frames, rows, columns, values } : null;
}

/**
 * The heat at `share` (0..1) of its window: between the middles of two frames it passes from one to the other.
 * patches: (rows, columns) 0..1; frame: the nearest.
 */
export function moment(heat, share) {
  const place = Math.min(Math.max(share * heat.frames - 0.5, 0), heat.frames - 1);
  const low = Math.floor(place);
  const part = place - low;
  const size = heat.rows * heat.columns;
  const next = Math.min(low + 1, heat.frames - 1);
  const patches = new Float32Array(size);
  for (let i = 0; i < size; i++) {
    patches[i] = mix(heat.values[low * size + i], heat.values[next * size + i], part);
  }
  return { frame: Math.round(place), patches };
}

/**
 * Draw patches (rows, columns) 0..1 over a picture. Returns a checksum of what was drawn.
 *
 * A look is drawn by its root, so that what is faint can be seen. Often it falls on a few moments of a window; strength
 * 0..1 says how much is seen of the others: 0 as much as there is, 1 as if each moment were the hottest.
 */
export function paint(canvas, patches, rows, columns, strength) {
  const scale = Math.max(1, Math.round(ACROSS / columns));
  const [width, height] = [columns * scale, rows * scale];
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  const context = canvas.getContext("2d");
  const image = context.createImageData(width, height);
  const peak = Math.max(...patches);
  const gain = peak ** (0.5 * (1 - strength)) / Math.sqrt(peak || 1);
  const along = Array.from({ length: width }, (_, x) => between(x, scale, columns));
  let sum = 0;
  for (let y = 0; y < height; y++) {
    const [top, bottom, down] = between(y, scale, rows);
    for (let x = 0; x < width; x++) {
      const [left, right, part] = along[x];
      const upper = mix(patches[top * columns + left], patches[top * columns + right], part);
      const lower = mix(patches[bottom * columns + left], patches[bottom * columns + right], part);
      const heat = mix(upper, lower, down);
      if (heat <= 0) continue;
      const shown = Math.min(1, gain * Math.sqrt(heat));
      const [red, green, blue] = HEAT_COLOURS[Math.round(255 * shown)];
      const place = 4 * (y * width + x);
      image.data[place] = red;
      image.data[place + 1] = green;
      image.data[place + 2] = blue;
      image.data[place + 3] = 255 * OPAQUE * shown;
      sum = (sum + Math.round(65535 * heat) * (1 + (place >> 2))) % 1000000007;
    }
  }
  context.putImageData(image, 0, 0);
  return sum;
}

const mix = (from, to, part) => from + part * (to - from);

/** The two patches between whose middles a pixel lies, and how far it is on its way to the second. */
function between(pixel, scale, patches) {
  const place = Math.min(Math.max((pixel + 0.5) / scale - 0.5, 0), patches - 1);
  const low = Math.floor(place);
  return [low, Math.min(low + 1, patches - 1), place - low];
}
