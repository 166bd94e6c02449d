// A clip in the browser's own player.

const PATIENCE = 8000; // milliseconds for a browser to say whether it can play a file

export class Film {
  /** `moved` is called whenever another moment is shown. */
  constructor(video, moved) {
    this.video = video;
    let next = 0;
    const follow = () => {
      moved();
      if (!video.paused && !video.ended) next = requestAnimationFrame(follow);
    };
    video.addEventListener("play", () => {
      cancelAnimationFrame(next);
      follow();
    });
    for (const event of ["seeking", "seeked", "timeupdate", "pause", "ended"]) video.addEventListener(event, moved);
  }

  /** Load a file; whether the browser can play it. */
  async open(file) {
    this.close();
    this.url = URL.createObjectURL(file);
    this.video.src = this.url;
    this.playable = await loaded(this.video);
    if (this.video.duration === Infinity) await measure(this.video);
    return this.playable;
  }

  close() {
    if (!this.url) return;
    this.video.removeAttribute("src");
    this.video.load();
    URL.revokeObjectURL(this.url);
    this.url = null;
  }

  get element() {
    return this.video;
  }

  /** Width and height of the picture in pixels, 0 if there is none. */
  get size() {
    return [this.video.videoWidth, this.video.videoHeight];
  }

  get time() {
    return this.video.currentTime;
  }

  seek(time) {
    this.video.currentTime = time;
  }

  toggle() {
    if (this.video.paused)
      this.video.play().catch(() => {}); // a refusal to play is seen, and harms nothing
    else this.video.pause();
  }
}

const event = (element, type) => new Promise((resolve) => element.addEventListener(type, resolve, { once: true }));
const later = (time) => new Promise((resolve) => setTimeout(resolve, time));

async function loaded(video) {
  return Promise.race([
    event(video, "loadedmetadata").then(() => true),
    event(video, "error").then(() => false),
    later(PATIENCE).then(() => false),
  ]);
}

/** A recording does not say how long it is until somebody has looked at its end. */
async function measure(video) {
  video.currentTime = 1e9;
  await Promise.race([event(video, "durationchange"), later(PATIENCE)]);
  video.currentTime = 0;
}
