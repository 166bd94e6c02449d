// The clips that were chosen to be taught: a list with previews.

import { bytes, count } from "./formats.js";
import { byId, make, name } from "./make.js";
import { model } from "./model.js";

let chosen = [];

/** The files, in the order in which they came. */
export const files = () => chosen.map((clip) => clip.file);

const same = (a, b) => a.name === b.name && a.size === b.size && a.lastModified === b.lastModified;

/** Add files that are not there yet, as many as one lesson may have. Returns why some were not taken, or "". */
export function add(found) {
  const limits = model().limits;
  const fresh = found.filter((file, i) => ![...files(), ...found.slice(0, i)].some((other) => same(file, other)));
  const room = limits.files - chosen.length;
  for (const file of fresh.slice(0, room)) show(file);
  changed();
  const over = fresh.length - room;
  if (over > 0) return `A lesson has at most ${count(limits.files, "clip")}; ${over} were not taken.`;
  const large = files().find((file) => file.size > limits.bytes);
  if (large) return `${large.name} has ${bytes(large.size)}; ${bytes(limits.bytes)} can be sent. Remove it.`;
  if (total() <= limits.lesson_bytes) return "";
  const most = bytes(limits.lesson_bytes);
  return `Together they have ${bytes(total())}; a lesson may have ${most}. Teach some of them later.`;
}

export function empty() {
  for (const clip of chosen) drop(clip);
  chosen = [];
  changed();
}

const total = () => files().reduce((sum, file) => sum + file.size, 0);

function changed() {
  byId("clips-note").textContent = chosen.length ? `${count(chosen.length, "clip")}, ${bytes(total())}` : "";
}

function show(file) {
  const remove = make("button.plain", { type: "button", ariaLabel: `Remove ${file.name}` }, "Remove");
  const clip = { file, place: make("div.thumb") };
  const title = make("span.file-name", { title: file.name }, name(file.name));
  clip.row = make("li", {}, clip.place, make("div.what", {}, title, make("span.note", {}, bytes(file.size))), remove);
  remove.addEventListener("click", () => {
    // The focus goes on to a neighbour, so that several can be removed by keyboard.
    const next = (clip.row.nextElementSibling ?? clip.row.previousElementSibling)?.querySelector(".plain");
    drop(clip);
    chosen = chosen.filter((other) => other !== clip);
    (next ?? byId("file-teach")).focus();
    changed();
  });
  chosen.push(clip);
  byId("clips").append(clip.row);
  seen.observe(clip.row);
}

function drop(clip) {
  seen.unobserve(clip.row);
  rest(clip);
  clip.row.remove();
}

// A browser gives a page only some dozens of players, so only rows that can be seen have one.
const seen = new IntersectionObserver(
  (entries) => {
    for (const entry of entries) {
      const clip = chosen.find((each) => each.row === entry.target);
      if (clip && entry.isIntersecting) play(clip);
      else if (clip) rest(clip);
    }
  },
  { rootMargin: "200px" },
);

function play(clip) {
  if (clip.url) return;
  const kind = clip.file.type.split("/")[0];
  clip.url = URL.createObjectURL(clip.file);
  const preview =
    kind === "image"
      ? make("img", { src: clip.url, alt: "" })
      : make("video", { src: clip.url, playsInline: true, preload: "metadata" });
  preview.addEventListener("error", () => clip.place.classList.add("blind"));
  clip.place.replaceChildren(preview);
  if (kind !== "image") moving(preview, clip);
}

/** A button over the preview plays it: with sound, for that is half of a clip. */
function moving(preview, clip) {
  preview.addEventListener("loadedmetadata", () => clip.place.classList.toggle("sound", !preview.videoWidth));
  const button = make("button.thumb-play", { type: "button", ariaLabel: `Play ${clip.file.name}` }, "▶");
  button.addEventListener("click", () => (preview.paused ? preview.play().catch(() => {}) : preview.pause()));
  const show = () => (button.textContent = preview.paused ? "▶" : "❚❚");
  for (const event of ["play", "pause", "ended"]) preview.addEventListener(event, show);
  clip.place.append(button);
}

function rest(clip) {
  if (!clip.url) return;
  clip.place.querySelector("video")?.pause();
  clip.place.replaceChildren();
  URL.revokeObjectURL(clip.url);
  clip.url = null;
}
