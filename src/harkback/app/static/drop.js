// Where files come in: a view onto which they can be dropped, and a real file input.

/** Give `take` the files that are dropped onto `view` or chosen in `input`; `place` shows where they would go. */
export function accept(view, place, input, take) {
  let depth = 0; // Entering a child comes before leaving its parent.
  const mark = (change) => {
    depth = Math.max(0, depth + change);
    place.classList.toggle("over", depth > 0);
  };
  view.addEventListener("dragenter", (event) => event.dataTransfer.types.includes("Files") && mark(1));
  view.addEventListener("dragleave", (event) => event.dataTransfer.types.includes("Files") && mark(-1));
  view.addEventListener("drop", async (event) => {
    mark(-depth);
    const files = await dropped(event.dataTransfer);
    if (files.length) take(files);
  });
  input.addEventListener("change", () => {
    const files = [...input.files];
    input.value = ""; // so that the same file can be chosen again
    if (files.length) take(files);
  });
}

/** The files of a drop, those in dropped folders among them. */
async function dropped(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.());
  if (!entries.some((entry) => entry?.isDirectory)) return [...transfer.files];
  return (await Promise.all(entries.filter(Boolean).map(inside))).flat();
}

async function inside(entry) {
  if (entry.isFile) return [await new Promise((resolve, reject) => entry.file(resolve, reject))];
  const reader = entry.createReader();
  const found = [];
  for (;;) {
    // A folder is read in portions, until one is empty.
    const portion = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!portion.length) return found.filter((file) => !file.name.startsWith("."));
    found.push(...(await Promise.all(portion.map(inside))).flat());
  }
}
