// The view "Ask": a clip goes to the model, and its answers are shown over the clip while it plays.

import { complain, settle } from "./alerts.js";
import { accept } from "./drop.js";
import { Film } from "./film.js";
import { bytes, count } from "./formats.js";
import { lines, Refused } from "./http.js";
import { byId, name } from "./make.js";
import { known, model, onModel, refresh } from "./model.js";
import { showMoment } from "./moment.js";
import { recorder } from "./recorder.js";
import { Stage } from "./stage.js";
import { Stills } from "./stills.js";
import { clearTally, tally } from "./tally.js";
import { Timeline } from "./timeline.js";

const NAMED = 12; // classes, at most, in the list of what can be asked for

let stage, film, stills, timeline;
let shutRecorder;
let clip = null; // the file that is asked about
let frames = false; // the server has to send its pictures, for the browser cannot play it
let asking = null; // AbortController of the request under way
let shown; // the answer in the panel

export function start() {
  stage = new Stage();
  film = new Film(byId("video"), moved);
  stills = new Stills(byId("still"), moved);
  timeline = new Timeline(
    byId("timeline"),
    (time) => stage.player?.seek(time),
    () => stage.player?.toggle(),
  );
  accept(byId("ask-view"), byId("drop-ask"), byId("file-ask"), ([file]) => open(file));
  shutRecorder = recorder(byId("record-ask"), byId("recorder-ask"), ([file]) => open(file));
  byId("cancel").addEventListener("click", () => asking?.abort());
  byId("again").addEventListener("click", ask);
  for (const id of ["show-heat", "strength"]) byId(id).addEventListener("input", moved);
  onModel(described);
}

export function hide() {
  shutRecorder();
  byId("video").pause();
  stills.stop();
}

function described(now) {
  const able = now.classes.length > 0;
  byId("ask-empty").hidden = able;
  byId("drop-ask").hidden = byId("ask-settings").hidden = !able;
  const names = now.classes.slice(0, NAMED).flatMap((each, i) => [i ? ", " : "It knows ", name(each.name)]);
  const more = now.classes.length - NAMED;
  byId("ask-knows").replaceChildren(...names, more > 0 ? ` and ${count(more, "other")}.` : ".");
  byId("false-alarm").placeholder = String(Number((100 * now.false_alarm).toFixed(2)));
  byId("false-alarm").disabled = !now.says_unknown;
}

/** Take a clip: load it into a player that can show it, then ask. */
async function open(file) {
  settle();
  await known;
  try {
    if (!model().classes.length) await refresh(); // it may have been taught a moment ago
  } catch (error) {
    return complain(error);
  }
  if (!model().classes.length) return complain("It knows no class yet; teach it one first.");
  const most = model().limits.bytes;
  if (file.size > most) return complain(`${file.name} has ${bytes(file.size)}; ${bytes(most)} can be asked about.`);
  asking?.abort();
  clip = file;
  shutRecorder();
  clear();
  byId("asked").hidden = false;
  byId("again").hidden = true;
  byId("drop-ask").classList.add("small");
  byId("clip-name").textContent = file.name;
  byId("stage-note").textContent = "";
  say("Opening …");
  const playable = await film.open(file);
  if (clip !== file) return; // another was chosen meanwhile
  const sound = file.type.startsWith("audio/");
  // A browser plays the sound of a film whose picture it cannot decode, and shows nothing.
  frames = !sound && !film.size[0];
  stage.use(frames || !playable ? stills : film);
  byId("stage").hidden = sound && !playable;
  if (!playable && !file.type.startsWith("image/")) {
    const instead = sound ? "" : ", so these are the frames that Harkback sees, without sound";
    byId("stage-note").textContent = `The browser cannot play this file${instead}.`;
  }
  await ask();
}

function clear() {
  stills.reset();
  stage.clear();
  timeline.start(0);
  clearTally();
  shown = undefined;
  moved();
}

async function ask() {
  const file = clip;
  const mine = (asking = new AbortController());
  clear();
  settle();
  busy(true);
  byId("still-controls").hidden = stage.player !== stills;
  progress(0, 0);
  say("Sending …");
  try {
    await stream(file, mine.signal);
  } catch (error) {
    if (asking !== mine) return; // replaced by another clip
    if (!timeline.answers.length) {
      byId("stage-note").textContent = "";
      byId("still-controls").hidden = true;
    }
    const cancelled = error.name === "AbortError";
    say(cancelled ? `Cancelled after ${count(timeline.answers.length, "window")}.` : "It was not asked to the end.");
    complain(error);
  }
  if (asking !== mine) return;
  asking = null;
  busy(false);
  byId("ask-progress").classList.add("done");
}

async function stream(file, signal) {
  let windows = 0;
  let done = false;
  for await (const line of lines("/predict", form(file), signal)) {
    if (clip !== file) return;
    if (line.error) throw new Refused(200, line.error);
    if (line.windows) {
      windows = line.windows;
      timeline.start(line.seconds);
    }
    if (line.answer) answered(line.answer, windows);
    done ||= line.done;
  }
  if (!done) throw new Refused(200, "The server stopped in the middle of its answers.");
  say(`Asked ${count(windows, "window")}.`);
}

function form(file) {
  const data = new FormData();
  const [length, rate] = [byId("window").value, byId("false-alarm").value];
  if (length) data.append("window", length);
  if (rate) data.append("false_alarm", String(Number(rate) / 100));
  if (frames) data.append("frames", "true");
  data.append("file", file, file.name);
  return data;
}

function answered(answer, windows) {
  timeline.add(answer);
  tally(answer);
  stills.add(answer);
  if (frames && !answer.seen && film.playable && !stills.frames.length) soundAfterAll();
  progress(timeline.answers.length, windows);
  say(`${timeline.answers.length} of ${count(windows, "window")}`, true);
  moved();
}

/** The browser can play what has no picture. */
function soundAfterAll() {
  byId("still-controls").hidden = true;
  stage.use(film);
}

/** One button comes in the place of the other, and with it the focus. */
function busy(yes) {
  const [gone, come] = [byId(yes ? "again" : "cancel"), byId(yes ? "cancel" : "again")];
  const held = document.activeElement === gone;
  gone.hidden = true;
  come.hidden = false;
  if (held) come.focus();
}

function progress(done, windows) {
  const bar = byId("ask-progress");
  bar.classList.remove("done");
  if (windows) Object.assign(bar, { max: windows, value: done });
  else bar.removeAttribute("value"); // under way, nobody knows how far
}

/** quiet: it is one of many such words, and only shown. */
function say(words, quiet = false) {
  byId("ask-status").ariaLive = quiet ? "off" : "polite";
  byId("ask-status").textContent = words;
}

/** Another moment is shown. */
function moved() {
  const time = stage.player?.time ?? 0;
  const answer = timeline.answers[timeline.at(time)] ?? null;
  timeline.move(time, answer);
  if (answer !== shown) showMoment(answer);
  shown = answer;
  if (stills === stage.player) stage.fit();
  stage.draw(answer, time);
  const looks = timeline.answers.some((each) => each.heat);
  byId("look-controls").classList.toggle("none", !looks);
  byId("stage").classList.toggle("looking", looks && byId("show-heat").checked);
}
