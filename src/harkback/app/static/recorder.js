// Recording a clip with camera and microphone, or with the microphone alone.

import { clock } from "./formats.js";
import { make } from "./make.js";

// VP8 before VP9: it is recorded in real time on small machines too.
const FILM = ["video/webm;codecs=vp8,opus", "video/webm", "video/mp4"];
const SOUND = ["audio/webm;codecs=opus", "audio/webm", "audio/mp4"];

/** Let `button` open and close a recorder inside `place`; `take` gets each recorded file. Returns how to close it. */
export function recorder(button, place, take) {
  let stream = null;
  let recording = null;
  let ticking = 0;

  const preview = make("video.preview", { muted: true, autoplay: true, playsInline: true });
  const toggle = make("button.record.primary", { type: "button" }, "Start recording");
  const elapsed = make("span.elapsed", { role: "timer" }, "0:00");
  const soundOnly = make("input", { type: "checkbox" });
  const close = make("button", { type: "button" }, "Close");
  const status = make("p.note", { role: "status" });
  const panel = make(
    "div.recorder",
    { hidden: true },
    preview,
    make("div.row", {}, toggle, elapsed, make("label.check", {}, soundOnly, " Sound only"), close),
    status,
  );
  place.append(panel);

  async function open() {
    panel.hidden = false;
    button.setAttribute("aria-expanded", "true");
    release();
    toggle.disabled = true;
    preview.hidden = soundOnly.checked;
    if (!navigator.mediaDevices || !window.MediaRecorder) {
      status.textContent = "A browser records only on a safe page: open this one as http://127.0.0.1 or over https.";
      return;
    }
    status.textContent = "Waiting for the browser to allow it …";
    try {
      const found = await navigator.mediaDevices.getUserMedia({ audio: true, video: !soundOnly.checked });
      if (panel.hidden) return stop(found); // closed while the browser asked
      stream = found;
      preview.srcObject = soundOnly.checked ? null : stream;
      toggle.disabled = false;
      status.textContent = "";
    } catch (error) {
      status.textContent = refused(error);
    }
  }

  function start() {
    const type = (soundOnly.checked ? SOUND : FILM).find((format) => MediaRecorder.isTypeSupported(format));
    const parts = [];
    recording = new MediaRecorder(stream, type ? { mimeType: type } : {});
    recording.ondataavailable = (event) => parts.push(event.data);
    recording.onstop = () => {
      const kind = recording.mimeType.split(";")[0];
      const time = new Date().toTimeString().slice(0, 8).replaceAll(":", "-");
      idle();
      take([new File(parts, `recorded ${time}.${kind.split("/")[1]}`, { type: kind })]);
    };
    recording.start();
    toggle.textContent = "Stop";
    toggle.classList.add("on");
    soundOnly.disabled = true;
    const began = performance.now();
    ticking = setInterval(() => (elapsed.textContent = clock(Math.floor((performance.now() - began) / 1000))), 250);
  }

  function idle() {
    clearInterval(ticking);
    recording = null;
    toggle.textContent = "Start recording";
    toggle.classList.remove("on");
    elapsed.textContent = "0:00";
    soundOnly.disabled = false;
  }

  /** Let go of camera and microphone; what was being recorded is dropped. */
  function release() {
    if (recording) {
      recording.onstop = null;
      recording.stop();
    }
    idle();
    stop(stream);
    stream = preview.srcObject = null;
  }

  function shut() {
    panel.hidden = true;
    button.setAttribute("aria-expanded", "false");
    release();
  }

  button.addEventListener("click", () => (panel.hidden ? open() : shut()));
  close.addEventListener("click", () => {
    shut();
    button.focus();
  });
  soundOnly.addEventListener("change", open);
  toggle.addEventListener("click", () => (recording ? recording.stop() : start()));
  return shut;
}

const stop = (stream) => stream?.getTracks().forEach((track) => track.stop());

function refused(error) {
  if (error.name === "NotAllowedError")
    return "Camera and microphone were refused; they can be allowed beside the address.";
  if (error.name === "NotFoundError") return "There is no such camera or microphone here.";
  return `It cannot be recorded: ${error.message || error.name}.`;
}
