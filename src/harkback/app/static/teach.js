// The view "Teach": name a class, give clips of it, see what that would cost, decide.

import { complain, settle } from "./alerts.js";
import { add, empty, files } from "./chosen.js";
import { costOf } from "./cost.js";
import { startCorrecting, undo } from "./correct.js";
import { accept } from "./drop.js";
import { count } from "./formats.js";
import { atWork, Course } from "./lesson.js";
import { byId, make, name } from "./make.js";
import { known, model, onModel, refresh } from "./model.js";
import { recorder } from "./recorder.js";

let course;
let shutRecorder;
let counted = 0; // version that the page has taken note of when a lesson was done

export function start() {
  course = new Course(showLesson);
  accept(byId("teach-view"), byId("drop-teach"), byId("file-teach"), take);
  shutRecorder = recorder(byId("record-teach"), byId("recorder-teach"), take);
  startCorrecting();
  byId("class-name").addEventListener("input", hint);
  byId("teach-form").addEventListener("submit", seeCost);
  byId("commit").addEventListener("click", commit);
  byId("leave").addEventListener("click", () => course.leave());
  byId("lesson-undo").addEventListener("click", takeBack);
  byId("lesson-close").addEventListener("click", close);
  onModel(described);
  course.resume();
}

export const hide = () => shutRecorder();

function described(now) {
  byId("teach-empty").hidden = now.classes.length > 0;
  byId("known-classes").replaceChildren(...now.classes.map((each) => make("option", { value: each.name })));
  byId("lesson-undo").hidden = !undoable();
  hint();
}

// ---- choosing ----

async function take(found) {
  settle();
  await known;
  if (byId("teach-fields").disabled) return complain("Decide on the lesson below first; then the next can be chosen.");
  const refused = add(found);
  if (refused) complain(refused);
}

const label = () => byId("class-name").value.trim();

function hint() {
  const old = model()?.classes.find((each) => each.name === label());
  const words = old && `It knows this class already, from ${count(old.clips, "clip")}: these will be added.`;
  byId("class-hint").textContent = words ?? "\u00a0"; // the line keeps its room
  byId("class-name").removeAttribute("aria-invalid");
}

async function seeCost(event) {
  event.preventDefault();
  settle();
  if (!label()) {
    byId("class-name").setAttribute("aria-invalid", "true");
    byId("class-name").focus();
    return complain("What is it? The class needs a name.");
  }
  if (!files().length) {
    byId("file-teach").focus();
    return complain("It learns from clips: choose, drop or record at least one.");
  }
  const form = new FormData();
  form.append("label", label());
  form.append("dry_run", "true");
  for (const file of files()) form.append("files", file, file.name);
  for (const id of ["commit", "lesson-undo", "lesson-close"]) byId(id).hidden = true;
  for (const id of ["cost", "lesson-note"]) byId(id).replaceChildren();
  say("sending the clips");
  sending(0);
  byId("lesson-title").focus();
  if (!(await course.begin(form, sending))) showLesson(null, true);
}

function sending(share) {
  open(label());
  progress(share, 1);
  byId("leave").hidden = false;
  byId("leave").textContent = "Stop";
}

// ---- the lesson ----

/** Show how a lesson stands. quiet: it never was one, so nothing has to be said of its end. */
function showLesson(lesson, quiet = false) {
  if (!lesson) {
    byId("lesson").hidden = true;
    lock(false);
    if (!quiet) complain("That lesson is gone, for the server was started anew meanwhile. Nothing was taught.");
    return;
  }
  open(lesson.label);
  byId("lesson").dataset.state = lesson.state;
  say(wordsOf(lesson), lesson.state === "reading");
  if (lesson.state === "reading") progress(lesson.read, lesson.clips.length);
  else progress(null);
  byId("lesson-progress").hidden = !atWork(lesson);
  const decide = lesson.state === "asking";
  const over = ["done", "discarded", "failed"].includes(lesson.state);
  byId("cost").replaceChildren(...(lesson.outcome && (decide || lesson.state === "done") ? costOf(lesson) : []));
  byId("lesson-note").textContent = lesson.error ?? "";
  byId("commit").hidden = !decide;
  byId("commit").textContent = lesson.outcome?.too_dear ? "Teach it all the same" : "Teach it";
  byId("commit").classList.toggle("danger", Boolean(lesson.outcome?.too_dear));
  byId("leave").hidden = over || lesson.state === "writing";
  byId("leave").textContent = decide ? "Leave it" : "Stop";
  byId("lesson-close").hidden = !over;
  byId("lesson-undo").hidden = !undoable();
  if (lesson.state === "discarded") close();
  if (lesson.state === "done" || lesson.state === "failed") lock(false);
  if (lesson.state === "done" && counted !== lesson.outcome.version) done(lesson);
}

function open(title) {
  byId("lesson").hidden = false;
  byId("lesson-title").replaceChildren("A lesson: ", name(title));
  lock(true);
}

/** quiet: it is one of many such words, and only shown. */
function say(words, quiet = false) {
  const line = byId("lesson-words");
  line.ariaLive = quiet ? "off" : "polite";
  if (line.textContent !== words) line.textContent = words;
}

function progress(value, max = 1) {
  const bar = byId("lesson-progress");
  bar.hidden = false;
  if (value === null) bar.removeAttribute("value");
  else Object.assign(bar, { max, value });
}

function wordsOf(lesson) {
  const before = lesson.before_it;
  return {
    waiting: before ? `waiting behind ${count(before, "other lesson")}` : "waiting for its turn",
    reading: `reading clip ${Math.min(lesson.read + 1, lesson.clips.length)} of ${lesson.clips.length}`,
    learning: "learning",
    asking: "Nothing is changed yet. Shall it be taught?",
    writing: "writing it down",
    done: "Taught.",
    discarded: "Left. Nothing was changed.",
    failed: "It came to nothing; the model is as it was.",
  }[lesson.state];
}

/** The choice cannot be changed under a lesson that is made of it. */
function lock(locked) {
  byId("teach-fields").disabled = locked;
  if (locked) shutRecorder();
}

async function commit() {
  settle();
  byId("commit").hidden = byId("leave").hidden = true;
  byId("lesson-title").focus();
  await course.commit(Boolean(course.lesson.outcome?.too_dear));
}

async function done(lesson) {
  counted = lesson.outcome.version;
  byId("class-name").value = "";
  empty();
  await refresh().catch(complain);
}

async function takeBack() {
  if (await undo(byId("lesson-undo"))) close();
}

/** Whether a change of the model is this page's own: its lesson is being written, or has just been. */
export const isOurs = () => course.lesson?.state === "writing" || course.lesson?.outcome?.version === model().version;

/** Whether the version that this lesson made is still the one that would be taken back. */
function undoable() {
  const lesson = course?.lesson;
  return lesson?.state === "done" && model()?.undoable && lesson.outcome?.version === model().version;
}

function close() {
  course.close();
  byId("lesson").hidden = true;
  lock(false);
  byId("class-name").focus({ preventScroll: true });
}
