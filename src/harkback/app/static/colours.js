// Colours of classes and of heat.

import { model } from "./model.js";

// Okabe and Ito's palette, which most colour-blind people can tell apart; never the only sign of a class.
const CLASSES = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"];

/** The colour of a class; "" for what is none. */
export function colourOf(label) {
  const place = model().classes.findIndex((known) => known.name === label);
  return place < 0 ? "" : CLASSES[place % CLASSES.length];
}

// The brighter part of the map "inferno", so that faint heat can still be seen on a dark picture.
const STEPS = [
  [128, 31, 108],
  [162, 43, 98],
  [192, 58, 81],
  [219, 80, 59],
  [239, 108, 35],
  [250, 144, 8],
  [251, 184, 29],
  [244, 223, 83],
  [252, 255, 164],
];

/** 256 colours from least to most heat: [red, green, blue], each 0..255. */
export const HEAT_COLOURS = Array.from({ length: 256 }, (_, heat) => {
  const place = (heat / 255) * (STEPS.length - 1);
  const low = Math.min(STEPS.length - 2, Math.floor(place));
  return STEPS[low].map((from, i) => from + (place - low) * (STEPS[low + 1][i] - from));
});
