// The page: which view is shown, and what stands above and below all of them.

import { complain, settle } from "./alerts.js";
import * as ask from "./ask.js";
import * as benches from "./benches.js";
import { count } from "./formats.js";
import * as knows from "./knows.js";
import { byId } from "./make.js";
import { model, onModel, refresh, watch } from "./model.js";
import * as teach from "./teach.js";

const VIEWS = { ask, teach, knows, benches };
let shown = null;

/** The name of the view in the address, such as "ask" in #ask; the rest, as in #benches/demo, is the view's own. */
function route() {
  const [name, ...rest] = location.hash.slice(1).split("/");
  if (name in VIEWS) return [name, decodeURIComponent(rest.join("/"))];
  return [model()?.classes.length ? "ask" : "teach", ""];
}

function show(moveFocus) {
  const [name, rest] = route();
  if (name !== shown) {
    if (shown) {
      settle();
      VIEWS[shown].hide?.();
    }
    for (const key of Object.keys(VIEWS)) byId(`${key}-view`).hidden = key !== name;
    for (const link of document.querySelectorAll("nav a")) {
      if (link.hash === `#${name}`) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    }
    shown = name;
    if (moveFocus) {
      scrollTo(0, 0);
      byId(`${name}-view`).querySelector("h2").focus({ preventScroll: true });
    }
  }
  VIEWS[name].show?.(rest);
}

function describe(now) {
  document.title = `${now.name} · Harkback`;
  byId("model-name").textContent = now.name;
  const knows = now.classes.length ? count(now.classes.length, "class", "classes") : "knows nothing yet";
  byId("model-facts").textContent = now.version ? `${knows} · version ${now.version}` : knows;
  byId("harkback").textContent = now.harkback;
}

// "To the content" must not change the address, where the view stands.
byId("skip").addEventListener("click", (event) => {
  event.preventDefault();
  byId("main").focus();
});
// A file dropped beside the place for it would replace the page, and with it all that was chosen.
for (const type of ["dragover", "drop"]) addEventListener(type, (event) => event.preventDefault());

let note = 0;
function changed() {
  if (teach.isOurs()) return;
  byId("changed").textContent = "· It has changed meanwhile: taught or corrected elsewhere.";
  clearTimeout(note);
  note = setTimeout(() => byId("changed").replaceChildren(), 20000);
}

onModel(describe);
for (const view of Object.values(VIEWS)) view.start?.();
watch(changed);
await refresh().catch(complain);
show(false);
addEventListener("hashchange", () => show(true));
onModel(() => VIEWS[shown].show?.(route()[1]));
