// Building the page. Names of classes and files come from anywhere, so no HTML is ever made of strings.

/** An element ("p", or "p.note" with a class), its properties (or attributes), its children (or plain text). */
export function make(kind, properties = {}, ...children) {
  const [tag, ...classes] = kind.split(".");
  const element = document.createElement(tag);
  element.classList.add(...classes);
  for (const [name, value] of Object.entries(properties)) {
    if (name in element) element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

/** The element of the page with this id. */
export const byId = (id) => document.getElementById(id);

/** A name of unknown script, in its own direction whatever stands beside it. */
export const name = (text) => make("bdi", {}, text);
