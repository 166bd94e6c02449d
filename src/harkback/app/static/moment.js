// The panel beside the clip: what the model says of the moment that is being played, how sure it is, and from what.

import { colourOf } from "./colours.js";
import { clock, percent } from "./formats.js";
import { byId, make, name } from "./make.js";
import { nameOf } from "./timeline.js";

const RANKED = 3; // of the likeliest classes

/** What an answer had to do without. */
export function missing(answer) {
  if (!answer.heard && !answer.seen) return "nothing could be decoded";
  if (!answer.heard) return "no sound";
  return answer.seen ? "" : "no picture";
}

/** Show an answer; null: there is none for this moment. */
export function showMoment(answer) {
  const panel = byId("now");
  panel.dataset.label = answer ? nameOf(answer) : "";
  if (!answer) {
    panel.replaceChildren(make("p.note.now-time", {}, "This moment"), make("p.now-label.faint", {}, "…"));
    return;
  }
  const unknown = answer.label === null;
  const swatch = make("i", { className: unknown ? "swatch unknown" : "swatch" });
  swatch.style.setProperty("--colour", colourOf(answer.label));
  panel.replaceChildren(
    make("p.note.now-time", {}, `${clock(answer.start, 1)} to ${clock(answer.end, 1)}`),
    make("p.now-label", { title: nameOf(answer) }, swatch, name(nameOf(answer))),
    make("p.now-sure", {}, ...sureness(answer, unknown)),
    make("h3", {}, "Likeliest"),
    ranking(answer),
    make("h3", {}, "What spoke for ", name(answer.likeliest || "it")),
    ...shares(answer),
    make("p.note.now-note", {}, [missing(answer), answer.note].filter(Boolean).join("; ")),
  );
}

function sureness(answer, unknown) {
  if (!unknown) return [make("b", {}, `${percent(answer.confidence, 1)} %`), " sure"];
  if (!answer.likeliest) return ["nothing to go by"];
  return ["like none of its classes; nearest is ", name(answer.likeliest)];
}

function ranking(answer) {
  const list = make("ol.ranking");
  for (const { label, confidence } of answer.ranking.slice(0, RANKED)) {
    const fill = make("i");
    fill.style.width = `${100 * confidence}%`;
    fill.style.setProperty("--colour", colourOf(label));
    const value = make("span.value", {}, `${percent(confidence, 1)} %`);
    list.append(make("li", {}, name(label), value, make("span.bar-back", { ariaHidden: "true" }, fill)));
  }
  return list;
}

/** Two bars from the middle: to the right what spoke for the answer, to the left what spoke against it. */
function shares(answer) {
  if (answer.sound === null) return [make("p.note", {}, "Not known for this answer.")];
  const rows = [
    ["Sound", answer.sound],
    ["Picture", answer.picture],
  ].map(([what, share]) => {
    const fill = make("i", { className: share < 0 ? "against" : "for" });
    fill.style.width = `${50 * Math.abs(share)}%`;
    const words = share < 0 ? `${percent(-share)} % against` : `${percent(share)} %`;
    return make("li", {}, what, make("span.value", {}, words), make("span.two-sided", { ariaHidden: "true" }, fill));
  });
  const scale = make("p.note.scale", { ariaHidden: "true" }, make("span", {}, "← against"), make("span", {}, "for →"));
  return [make("ul.shares", {}, ...rows), scale];
}
