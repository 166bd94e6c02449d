// What a lesson costs and brings: a picture and a few sentences.

import { count, percent } from "./formats.js";
import { make, name } from "./make.js";

/** Elements that show `lesson.outcome`, before it is written or after. */
export function costOf(lesson) {
  const { clips, known, cost, exam, strangers, too_dear: dear } = lesson.outcome;
  const done = lesson.state === "done";
  const tiles = [
    tile(done ? "Taught" : "Would be taught", count(clips, "clip"), `${count(known, "class", "classes")} known then`),
  ];
  if (exam) tiles.push(tile("Its exam", `${exam[0]} of ${exam[1]}`, "told rightly, each as if it had not been learnt"));
  else tiles.push(tile("Its exam", "–", "too few clips to be examined"));
  if (strangers) {
    const words = "of these clips, when it had not learnt them";
    tiles.push(tile("Called unknown before", `${strangers.told} of ${strangers.asked}`, words));
  }
  const nothing = make("p.verdict", {}, "There is nothing to lose: no clips of old classes are retained.");
  return [...(cost ? loss(cost, dear, done) : [nothing]), make("dl.tiles", {}, ...tiles), ...leftOut(lesson)];
}

function loss(cost, dear, done) {
  const lost = cost.right - cost.right_after;
  const would = done ? "are" : "would be";
  const before = `Of ${count(cost.asked, "retained clip")} of old classes, ${cost.right} were told rightly before`;
  const words = make("p.verdict", { id: "cost-words" }, `${before}, ${cost.right_after} ${would} after.`);
  const chart = make(
    "div.bars-of-cost",
    { ariaHidden: "true" },
    bar("before", cost.right, cost.asked, 0),
    bar("after", cost.right_after, cost.asked, Math.max(0, lost)),
  );
  const found = [words, chart];
  if (dear && !done) {
    const much = `${count(lost, "clip")} of ${cost.asked}, ${percent(lost / cost.asked)} %`;
    found.push(make("p.wrong", { id: "too-dear" }, `That is more than it may lose without being asked: ${much}.`));
  }
  return found;
}

function bar(when, right, asked, lost) {
  const kept = make("i.kept");
  const gone = make("i.gone");
  kept.style.width = `${(100 * right) / asked}%`;
  gone.style.width = `${(100 * lost) / asked}%`;
  return make(
    "div.bar-of-cost",
    {},
    make("span", {}, when),
    make("span.bar-back", {}, kept, gone),
    make("b", {}, `${right} of ${asked}`),
  );
}

function tile(what, value, words) {
  return make(
    "div",
    {},
    make("dt", {}, what),
    make("dd", {}, make("b", {}, value), make("br"), make("span.note", {}, words)),
  );
}

function leftOut(lesson) {
  const out = lesson.clips.filter((clip) => clip.state === "left out");
  if (!out.length) return [];
  const items = out.map((clip) => make("li", {}, name(clip.name), make("span.faint", {}, `: ${clip.reason}`)));
  return [
    make(
      "details",
      { open: true, id: "left-out" },
      make("summary", {}, `${count(out.length, "clip")} left out`),
      make("ul", {}, ...items),
    ),
  ];
}
