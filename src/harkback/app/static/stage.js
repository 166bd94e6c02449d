// The place where a clip is shown: the player, and the heat exactly over its picture.

import { moment, paint, unpacked } from "./heat.js";
import { byId } from "./make.js";

export class Stage {
  constructor() {
    this.place = byId("stage");
    this.canvas = byId("heat");
    this.heats = new Map(); // unpacked heat of answers
    this.player = null;
    new ResizeObserver(() => this.fit()).observe(this.place);
    for (const event of ["loadedmetadata", "resize"]) byId("video").addEventListener(event, () => this.fit());
  }

  clear() {
    this.heats.clear();
    this.draw(null);
  }

  /** Show this player (Film or Stills) and hide the other. */
  use(player) {
    this.player = player;
    for (const id of ["video", "still"]) byId(id).hidden = byId(id) !== player.element;
    this.fit();
  }

  /** Lay the canvas over the picture. A player centres its picture and leaves bars at two sides of it. */
  fit() {
    if (!this.player) return;
    const [width, height] = this.player.size;
    this.place.classList.toggle("sound", !width && this.player.element.id === "video");
    this.canvas.hidden = !width;
    if (!width) return;
    const { offsetWidth, offsetHeight, offsetLeft, offsetTop } = this.player.element;
    const scale = Math.min(offsetWidth / width, offsetHeight / height);
    const box = {
      left: offsetLeft + (offsetWidth - width * scale) / 2,
      top: offsetTop + (offsetHeight - height * scale) / 2,
      width: width * scale,
      height: height * scale,
    };
    for (const [side, pixels] of Object.entries(box)) this.canvas.style[side] = `${pixels}px`;
  }

  /** Draw the heat of an answer at this time; null: none. */
  draw(answer, time = 0) {
    const heat = answer && byId("show-heat").checked ? this.heat(answer) : null;
    if (!heat) {
      this.canvas.getContext("2d").clearRect(0, 0, this.canvas.width, this.canvas.height);
      Object.assign(this.canvas.dataset, { frame: "", heat: "0" });
      return;
    }
    const { frame, patches } = moment(heat, (time - answer.start) / (answer.end - answer.start));
    const sum = paint(this.canvas, patches, heat.rows, heat.columns, Number(byId("strength").value));
    Object.assign(this.canvas.dataset, { frame: String(frame), heat: String(sum) });
  }

  heat(answer) {
    if (!this.heats.has(answer)) this.heats.set(answer, unpacked(answer.heat));
    return this.heats.get(answer);
  }
}
