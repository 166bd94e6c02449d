// The answers in time: a bar for each window, its height the confidence, and a playhead. It is a slider.

import { colourOf } from "./colours.js";
import { clock, percent } from "./formats.js";
import { make } from "./make.js";

const DENSE = 100; // windows
// Windows that a key moves by.
const STEPS = {
  ArrowRight: 1,
  ArrowUp: 1,
  ArrowLeft: -1,
  ArrowDown: -1,
  PageUp: 10,
  PageDown: -10,
  Home: -Infinity,
  End: Infinity,
};

/** What a window is called; a window in which nothing could be decoded is unknown as well. */
export const nameOf = (answer) => answer.label ?? "unknown";

export const wordsOf = (answer) =>
  [nameOf(answer), ...(answer.label === null ? [] : [`${percent(answer.confidence)} %`])].join(", ");

export class Timeline {
  /** `seek(time)` and `toggle()` are what it asks of the player. */
  constructor(place, seek, toggle) {
    this.place = place;
    this.seek = seek;
    this.bars = make("div.bars");
    this.runs = make("div.runs");
    this.head = make("div.playhead");
    this.ends = make("div.ends");
    place.append(make("div.track", { ariaHidden: "true" }, this.bars, this.head, this.runs, this.ends));
    place.addEventListener("pointerdown", (event) => this.grasp(event));
    place.addEventListener("pointermove", (event) => place.hasPointerCapture(event.pointerId) && this.point(event));
    place.addEventListener("keydown", (event) => this.key(event, toggle));
    this.start(0);
  }

  /** Nothing is answered yet of a clip that lasts so many seconds. */
  start(seconds) {
    this.seconds = seconds;
    this.answers = [];
    this.run = null;
    this.now = 0;
    this.bars.replaceChildren();
    this.runs.replaceChildren();
    this.ends.replaceChildren(make("span", {}, "0:00"), make("span", {}, clock(seconds)));
    this.place.setAttribute("aria-valuemin", "0");
    this.place.setAttribute("aria-valuemax", String(seconds));
    this.move(0, null);
  }

  add(answer) {
    this.answers.push(answer);
    this.place.classList.toggle("dense", this.answers.length > DENSE); // lines between so many would cover the bars
    const name = nameOf(answer);
    const bar = make("i", { className: answer.label === null ? "bar unknown" : "bar" });
    bar.dataset.label = name;
    this.lay(bar, answer.start, answer.end);
    // Never below a sixth, so that every window can be seen.
    bar.style.height = `${100 / 6 + (100 * 5 * answer.confidence) / 6}%`;
    bar.style.setProperty("--colour", colourOf(answer.label));
    this.bars.append(bar);
    // Neighbours of one name share one label.
    if (this.run?.name !== name) {
      const label = make("span", { className: answer.label === null ? "run unknown" : "run" }, make("bdi", {}, name));
      this.run = { name, start: answer.start, label };
      this.run.label.style.setProperty("--colour", colourOf(answer.label));
      this.runs.append(this.run.label);
    }
    this.lay(this.run.label, this.run.start, answer.end);
  }

  lay(element, start, end) {
    element.style.left = `${(100 * start) / this.seconds}%`;
    element.style.width = `${(100 * (end - start)) / this.seconds}%`;
  }

  /** The window at this time: its number, -1 if there is none yet. */
  at(time) {
    // Windows lie close together in the order of time, so the right one is found by halving.
    let [low, high] = [0, this.answers.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.answers[middle].start <= time + 1e-3) low = middle + 1;
      else high = middle;
    }
    const found = this.answers[low - 1];
    const last = found && Math.abs(found.end - this.seconds) < 1e-3; // a player may run on a little
    return found && (time < found.end || last) ? low - 1 : -1;
  }

  /** Show that this time is played, and in which answer it lies. */
  move(time, answer) {
    this.time = time;
    this.head.style.left = `${this.seconds ? Math.min(100, (100 * time) / this.seconds) : 0}%`;
    this.place.setAttribute("aria-valuenow", time.toFixed(1));
    this.place.setAttribute("aria-valuetext", `${clock(time)}, ${answer ? wordsOf(answer) : "not asked yet"}`);
  }

  grasp(event) {
    if (event.button) return;
    this.place.setPointerCapture(event.pointerId);
    this.point(event);
  }

  point(event) {
    const { left, width } = this.bars.getBoundingClientRect();
    this.seek(Math.min(Math.max((event.clientX - left) / width, 0), 1) * this.seconds);
  }

  key(event, toggle) {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    if (event.key === " ") toggle();
    else if (event.key in STEPS && this.answers.length) {
      const to = Math.max(0, this.at(this.time)) + STEPS[event.key];
      this.seek(this.answers[Math.min(Math.max(to, 0), this.answers.length - 1)].start);
    } else return;
    event.preventDefault();
  }
}
