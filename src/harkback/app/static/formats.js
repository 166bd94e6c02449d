// Numbers as people read them.

const NOTHING = "–";

/** 0..1 as percent without the sign. */
export function percent(share, digits = 0) {
  if (share === null || share === undefined) return NOTHING;
  const text = (100 * Math.abs(share)).toFixed(digits);
  return share < 0 && Number(text) ? `−${text}` : text;
}

/** Seconds as 0:02, or 0:02.5 where tenths matter. */
export function clock(seconds, digits = 0) {
  const whole = Math.max(0, Number(seconds.toFixed(digits)));
  const minutes = Math.floor(whole / 60);
  return `${minutes}:${(whole - 60 * minutes).toFixed(digits).padStart(digits ? 3 + digits : 2, "0")}`;
}

export const count = (number, thing, things = `${thing}s`) => `${number} ${number === 1 ? thing : things}`;

export function bytes(size) {
  if (size < 1000) return `${size} B`;
  const power = Math.min(3, Math.floor(Math.log10(size) / 3));
  return `${(size / 1000 ** power).toFixed(size < 10 * 1000 ** power ? 1 : 0)} ${["B", "kB", "MB", "GB"][power]}`;
}
