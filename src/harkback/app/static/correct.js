// Taking back: the last session, or a class.

import { complain, settle } from "./alerts.js";
import { confirmed } from "./confirm.js";
import { count } from "./formats.js";
import { post, Refused } from "./http.js";
import { byId, make } from "./make.js";
import { model, onModel, refresh, take } from "./model.js";

export function startCorrecting() {
  byId("undo").addEventListener("click", () => undo(byId("undo")));
  byId("forget").addEventListener("click", () => forget(byId("forget-class").value, byId("forget")));
  onModel(described);
}

function described(now) {
  const chosen = byId("forget-class").value;
  byId("correct").hidden = !now.classes.length && !now.undoable;
  byId("undo").disabled = !now.undoable;
  byId("forget-class").replaceChildren(
    ...now.classes.map((known) => make("option", { value: known.name }, known.name)),
  );
  if (now.classes.some((known) => known.name === chosen)) byId("forget-class").value = chosen;
  byId("forget").disabled = byId("forget-class").disabled = !now.classes.length;
}

/** Whether it was done. */
export async function undo(button) {
  const { name, version, last } = model();
  const words = `Its last change (${last}) is taken back: ${name} becomes what it was before. It can be taught again.`;
  if (!(await confirmed("Undo the last session?", words, "Undo"))) return false;
  return change(button, "/undo", { version }, "Undone: the model is what it was before its last session.");
}

export async function forget(name, button) {
  const { version, classes } = model();
  const known = classes.find((each) => each.name === name);
  if (!known) return;
  const goes = `Its name, its ${count(known.clips, "clip")} and what they added`;
  const words = `${goes} go from the model and from every version it keeps. That cannot be undone.`;
  if (!(await confirmed(`Forget “${name}”?`, words, "Forget"))) return;
  await change(button, "/forget", { name, version }, `Forgotten: ${name}.`);
}

async function change(button, path, facts, said) {
  settle();
  const view = button.closest(".view");
  const status = view.querySelector("[id$=-status]");
  button.disabled = true;
  status.textContent = "Working …";
  try {
    take(await post(path, facts));
    status.textContent = said;
    return true;
  } catch (error) {
    status.textContent = "";
    complain(error);
    // Somebody else was quicker: what is shown here is old.
    if (error instanceof Refused && error.status === 409) await refresh().catch(complain);
    return false;
  } finally {
    button.disabled = path === "/undo" && !model().undoable;
    // A button that is disabled, or gone with its class, loses the focus.
    const next = button.isConnected && !button.disabled ? button : view.querySelector("h2");
    if (document.activeElement === document.body) next.focus({ preventScroll: true });
  }
}
