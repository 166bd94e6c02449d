// All answers about a clip at one glance (which class for how long), and one by one in a table.

import { colourOf } from "./colours.js";
import { clock, percent } from "./formats.js";
import { byId, make, name } from "./make.js";
import { missing } from "./moment.js";
import { nameOf } from "./timeline.js";

let seconds = new Map();

export function clearTally() {
  seconds = new Map();
  byId("legend").replaceChildren();
  byId("rows").replaceChildren();
}

export function tally(answer) {
  const label = nameOf(answer);
  seconds.set(label, (seconds.get(label) ?? 0) + answer.end - answer.start);
  legend();
  const times = `${clock(answer.start, 1)}–${clock(answer.end, 1)}`;
  const remark = [
    answer.label === null && answer.likeliest ? `likeliest ${answer.likeliest}` : "",
    missing(answer),
    answer.note,
  ];
  byId("rows").append(
    make(
      "tr",
      {},
      make("th", { scope: "row" }, times),
      make("td.said", {}, name(label)),
      make("td", {}, answer.ranking.length ? percent(answer.confidence, 1) : "–"),
      make("td", {}, percent(answer.sound)),
      make("td", {}, percent(answer.picture)),
      make("td.said.faint", { dir: "auto" }, remark.filter(Boolean).join("; ")),
    ),
  );
}

function legend() {
  const longest = [...seconds].sort(([, a], [, b]) => b - a);
  byId("legend").replaceChildren(
    ...longest.map(([label, time]) => {
      const colour = colourOf(label);
      const swatch = make("i", { className: colour ? "swatch" : "swatch unknown" });
      swatch.style.setProperty("--colour", colour);
      return make("li", {}, swatch, name(label), make("span.faint", {}, `${time.toFixed(1)} s`));
    }),
  );
}
