// The view "Benches": the reports that lie beside the model.

import { complain } from "./alerts.js";
import { get } from "./http.js";
import { byId, make, name } from "./make.js";

/** chosen: the bench that the address names, if any. */
export async function show(chosen) {
  let benches;
  try {
    benches = await get("/benches");
  } catch (error) {
    return complain(error);
  }
  byId("benches-empty").hidden = benches.length > 0;
  byId("benches").replaceChildren(...benches.map((bench) => item(bench, chosen)));
  open(benches.find((bench) => bench.name === chosen));
}

function item(bench, chosen) {
  const link = make("a", { href: `#benches/${encodeURIComponent(bench.name)}` }, name(bench.title));
  if (bench.name === chosen) link.setAttribute("aria-current", "true");
  return make(
    "li",
    {},
    link,
    make("span.note", {}, [bench.learners.join(", "), bench.when].filter(Boolean).join(" · ")),
  );
}

function open(bench) {
  byId("bench").hidden = !bench;
  if (!bench) return;
  const path = `/benches/${encodeURIComponent(bench.name)}`;
  byId("bench-title").textContent = bench.title;
  byId("bench-tab").href = path;
  if (byId("bench-frame").getAttribute("src") !== path) byId("bench-frame").src = path;
}
