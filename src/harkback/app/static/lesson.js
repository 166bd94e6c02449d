// One lesson, from its upload to the decision: asked after until it has come to something.

import { complain, found, lost } from "./alerts.js";
import { get, Lost, post, Refused, remove, upload } from "./http.js";

const EVERY = 400; // milliseconds between two looks
const KEPT = "harkback.lesson"; // its id, so that a reload finds it again
const AT_WORK = ["waiting", "reading", "learning", "writing"];

export const atWork = (lesson) => AT_WORK.includes(lesson.state);

const later = (time) => new Promise((resolve) => setTimeout(resolve, time));

export class Course {
  /** `show(lesson)` is called with the lesson whenever something is new; null: it is gone. */
  constructor(show) {
    this.show = show;
    this.lesson = null;
    this.sending = null;
  }

  get id() {
    return sessionStorage.getItem(KEPT);
  }

  /** Send the clips, dry; `sent` is told the share that has gone. Whether it arrived. */
  async begin(form, sent) {
    this.sending = new AbortController();
    try {
      this.took(await upload("/teach", form, sent, this.sending.signal));
    } catch (error) {
      complain(error);
      return false;
    } finally {
      this.sending = null;
    }
    this.follow();
    return true;
  }

  /** A lesson of before the page was loaded. */
  async resume() {
    if (this.id) await this.follow();
  }

  async commit(force) {
    try {
      this.took(await post(`/lessons/${this.id}/commit`, { force }));
    } catch (error) {
      complain(error);
      // After a 409 the server weighs it anew, for the model has changed: the cost is another now.
      if (!(error instanceof Refused && error.status === 409)) return this.show(this.lesson);
    }
    await this.follow();
  }

  /** Leave it, be it decided on, at work or still on its way to the server. */
  async leave() {
    if (this.sending) return this.sending.abort();
    try {
      this.took(await remove(`/lessons/${this.id}`));
    } catch (error) {
      if (error instanceof Refused && error.status === 404) return this.gone();
      complain(error);
    }
  }

  /** The page is through with it. */
  close() {
    sessionStorage.removeItem(KEPT);
    this.lesson = null;
  }

  gone() {
    this.close();
    this.show(null);
  }

  took(lesson) {
    this.lesson = lesson;
    sessionStorage.setItem(KEPT, lesson.id);
    this.show(lesson);
  }

  /** Look until it waits for somebody, or is over. One at a time. */
  async follow() {
    if (this.following) return;
    this.following = true;
    try {
      while (this.id && (await this.look())) await later(EVERY);
    } finally {
      this.following = false;
    }
  }

  /** Whether there is something to wait for. */
  async look() {
    const id = this.id;
    try {
      const lesson = await get(`/lessons/${id}`);
      found();
      if (id !== this.id) return false;
      this.took(lesson);
      return atWork(lesson);
    } catch (error) {
      if (error instanceof Lost) {
        lost(error);
        await later(2000);
        return true;
      }
      if (error instanceof Refused && error.status === 404) this.gone();
      else complain(error);
      return false;
    }
  }
}
