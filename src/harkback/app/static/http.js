// Talking to the server: JSON, errors in one line, a stream of lines, an upload with progress.

/** The server said no. */
export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** The server said nothing. */
export class Lost extends Error {
  constructor() {
    super("The server does not answer; is `harkback app` still running?");
  }
}

/** The response, if it is a good one. Raises Refused, Lost, or AbortError where `signal` was used. */
async function answered(path, options) {
  let response;
  try {
    response = await fetch(path, { cache: "no-store", ...options });
  } catch (error) {
    throw error.name === "AbortError" ? error : new Lost();
  }
  if (!response.ok) throw refusal(response.status, await response.text().catch(() => ""));
  return response;
}

function refusal(status, body) {
  try {
    return new Refused(status, String(JSON.parse(body).error));
  } catch {
    return new Refused(status, `The server answered ${status}.`);
  }
}

export const get = async (path) => (await answered(path)).json();

export const text = async (path) => (await answered(path)).text();

export const remove = async (path) => (await answered(path, { method: "DELETE" })).json();

export async function post(path, facts) {
  const headers = { "Content-Type": "application/json" };
  return (await answered(path, { method: "POST", headers, body: JSON.stringify(facts) })).json();
}

/** What the server says to a form, line by line, as it comes. */
export async function* lines(path, form, signal) {
  const headers = { Accept: "application/x-ndjson" };
  const response = await answered(path, { method: "POST", headers, body: form, signal });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read().catch((error) => {
      throw error.name === "AbortError" ? error : new Lost();
    });
    const parts = (rest + (value ?? "")).split("\n");
    rest = done ? "" : parts.pop();
    for (const part of parts) if (part.trim()) yield JSON.parse(part);
    if (done) return;
  }
}

/** Post a form; `sent` is told the share that has gone, 0..1. fetch() cannot say that, so this is the older way. */
export function upload(path, form, sent, signal) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", path);
    request.upload.onprogress = (event) => event.lengthComputable && sent(event.loaded / event.total);
    request.onload = () => {
      if (request.status < 200 || request.status > 299) reject(refusal(request.status, request.responseText));
      else resolve(JSON.parse(request.responseText));
    };
    request.onerror = () => reject(new Lost());
    request.onabort = () => reject(new DOMException("", "AbortError"));
    signal.addEventListener("abort", () => request.abort());
    request.send(form);
  });
}
