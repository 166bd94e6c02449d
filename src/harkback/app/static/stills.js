// A clip that the browser cannot play, as frames that the server has decoded: a small player on a timer.

import { clock } from "./formats.js";
import { byId } from "./make.js";

export class Stills {
  /** `moved` is called whenever another moment is shown. */
  constructor(canvas, moved) {
    this.element = canvas;
    this.moved = moved;
    this.button = byId("still-play");
    this.slider = byId("still-seek");
    this.button.addEventListener("click", () => this.toggle());
    this.slider.addEventListener("input", () => this.seek(Number(this.slider.value)));
    this.reset();
  }

  reset() {
    this.stop();
    this.time = 0;
    this.length = 0;
    this.frames = []; // [end in seconds, image] in the order of time
    this.shown = null;
    this.element.width = this.element.height = 0;
    this.slider.value = this.slider.max = 0;
    byId("still-time").textContent = "";
  }

  /** The pictures of one window, each for an equal part of it. */
  add(answer) {
    this.length = answer.end;
    const pictures = answer.pictures ?? [];
    pictures.forEach((source, i) => {
      const image = new Image();
      image.onload = () => this.draw();
      if (source.startsWith("data:image/")) image.src = source;
      this.frames.push([answer.start + ((i + 1) / pictures.length) * (answer.end - answer.start), image]);
    });
    this.slider.max = this.length;
  }

  get size() {
    return [this.element.width, this.element.height];
  }

  seek(time) {
    this.time = Math.min(Math.max(0, time), this.length);
    this.draw();
    this.moved();
  }

  toggle() {
    if (this.timer) return this.stop();
    if (this.time >= this.length) this.time = 0;
    let last = performance.now();
    const step = (now) => {
      this.seek(this.time + Math.max(0, now - last) / 1000);
      last = now;
      if (this.time >= this.length) this.stop();
      else this.timer = requestAnimationFrame(step);
    };
    this.timer = requestAnimationFrame(step);
    this.button.textContent = "Pause";
  }

  stop() {
    cancelAnimationFrame(this.timer);
    this.timer = 0;
    this.button.textContent = "Play";
  }

  draw() {
    this.slider.value = this.time;
    byId("still-time").textContent = `${clock(this.time)} of ${clock(this.length)}`;
    this.slider.setAttribute("aria-valuetext", clock(this.time));
    const image = (this.frames.find(([end]) => this.time < end) ?? this.frames.at(-1))?.[1];
    if (!image?.naturalWidth || image === this.shown) return;
    const { naturalWidth: width, naturalHeight: height } = image;
    const grown = this.element.width !== width || this.element.height !== height;
    if (grown) Object.assign(this.element, { width, height });
    this.element.getContext("2d").drawImage(image, 0, 0);
    this.shown = image;
    if (grown) this.moved(); // what lies over the picture has to find its place
  }
}
