// The line that says what went wrong. It stays until something else is tried.

import { Lost } from "./http.js";
import { byId, make } from "./make.js";

/** Show an error of http.js, or a sentence. */
export function complain(error) {
  if (error?.name === "AbortError") return;
  if (error instanceof Lost) return lost(error);
  const line = byId("alert");
  line.textContent = error?.message ?? String(error);
  if (error?.status === 401) line.append(" ", make("a", { href: "/login" }, "Sign in"));
}

export const settle = () => byId("alert").replaceChildren();
byId("alert-close").addEventListener("click", settle);

/** The server is gone, until `found` says that it is back. */
export function lost(error) {
  byId("offline").textContent = error.message;
}

export const found = () => byId("offline").replaceChildren();
