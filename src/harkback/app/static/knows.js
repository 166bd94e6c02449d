// The view "Knows": its classes with example frames, and its portrait.

import { complain } from "./alerts.js";
import { colourOf } from "./colours.js";
import { forget } from "./correct.js";
import { count } from "./formats.js";
import { text } from "./http.js";
import { byId, make, name } from "./make.js";
import { model } from "./model.js";

const EXAMPLES = 6; // shown of a class
let fetched = null; // the version whose portrait is shown

export async function show() {
  const now = model();
  const key = now && `${now.name} ${now.version}`;
  if (!now || key === fetched) return;
  fetched = key;
  byId("knows-empty").hidden = now.classes.length > 0;
  byId("classes").replaceChildren(...now.classes.map(card));
  if (!now.classes.length) return byId("portrait").replaceChildren();
  try {
    const fragment = await text("/knows");
    // The server has escaped every name in this fragment: the one place where HTML is taken as it comes.
    if (fetched === key) byId("portrait").innerHTML = fragment;
  } catch (error) {
    if (fetched === key) fetched = null;
    complain(error);
  }
}

function card(known) {
  const pictures = known.examples.filter((path) => path.startsWith("/examples/")).slice(0, EXAMPLES);
  const strip = make("div.examples");
  for (const path of pictures) {
    const picture = make("img", { loading: "lazy", alt: "", src: path, width: 96, height: 96 });
    picture.addEventListener("error", () => picture.remove());
    strip.append(picture);
  }
  if (!pictures.length) strip.append(make("span.note", {}, "no example frames"));
  const button = make("button.plain", { type: "button", ariaLabel: `Forget ${known.name}` }, "Forget …");
  button.addEventListener("click", () => forget(known.name, button));
  const right = known.asked ? `${known.right} of ${known.asked} told rightly` : "not examined";
  const item = make(
    "li",
    {},
    make("h3", { title: known.name }, name(known.name)),
    strip,
    make("p.note", {}, `${count(known.clips, "clip")} · ${right}`),
    button,
  );
  item.dataset.class = known.name;
  item.style.setProperty("--colour", colourOf(known.name));
  return item;
}
