// What the page knows of the model, and watching whether somebody else has taught it.

import { complain, found, lost } from "./alerts.js";
import { get, Lost } from "./http.js";

const EVERY = 5000; // milliseconds between two looks at the version
const listeners = [];
let current = null;
let introduce;

/** Resolved as soon as the model is known. */
export const known = new Promise((resolve) => (introduce = resolve));

/** As GET /model says; null before it was first asked. */
export const model = () => current;

/** Call `listener(now, before)` when the model becomes known and whenever it has changed. */
export const onModel = (listener) => listeners.push(listener);

/** The model as the server described it after a change that was made here. */
export function take(facts) {
  const before = current;
  current = facts;
  for (const listener of listeners) listener(facts, before);
  introduce();
}

export async function refresh() {
  take(await get("/model"));
}

/** Look at the version from time to time; `changed` is told when somebody else has changed the model. */
export function watch(changed) {
  const look = async () => {
    if (document.hidden) return;
    try {
      const health = await get("/health");
      found();
      if (current && health.version === current.version && health.model === current.name) return;
      const before = current;
      await refresh();
      if (before) changed();
    } catch (error) {
      if (error instanceof Lost) lost(error);
      else complain(error);
    }
  };
  setInterval(look, EVERY);
  document.addEventListener("visibilitychange", look);
}
