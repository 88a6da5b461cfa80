// Actions in the order in which they were made: sent one after the other, kept until the server has answered.
//
// What is not sent yet is in the tab's storage, too, so that a reloaded page sends it. Each action has a name of its own:
// where the answer to one was lost, it is sent again, and the server does not do it twice.

import { Refused, Unreachable, postJson, randomName } from "./api.js";

const STORE = "instseg-unsent";
const RETRY = 1000;

// So often an action is tried that the server fails at; then it is given up, so that those after it are done.
const MOST_FAILURES = 3;

/** Whether an action can be done later: the server is away, another page writes, a new server wants its token, the disc is full. */
function waits(error) {
  return error instanceof Unreachable || error.status === 403 || error.status === 409 || error.status >= 500;
}

/** What stands for the object that the last `add` made while its id is not known. */
export const LAST_ADDED = "last";

export class ActionQueue extends EventTarget {
  #items = [];
  #running = false;
  #lastAdded = null;
  #wake = null;

  constructor() {
    super();
    try {
      const kept = JSON.parse(sessionStorage.getItem(STORE));
      this.#items = kept?.items ?? [];
      this.#lastAdded = kept?.lastAdded ?? null;
    } catch {
      this.#items = [];
    }
  }

  get length() {
    return this.#items.length;
  }

  /** The actions of an image that wait. */
  waiting(image) {
    return this.#items.filter((item) => item.image === image).length;
  }

  push(image, action) {
    const last = this.#items.at(-1);
    const waits = last && !(this.#running && this.#items.length === 1);
    if (waits && last.image === image && action.kind === "add" && action.replace === LAST_ADDED && last.action.kind === "add") {
      // A wheel turns faster than answers come: only where it stops counts.
      last.action = { ...action, replace: last.action.replace };
      this.#keep();
      return;
    }
    this.#items.push({ image, action, name: randomName() });
    this.#keep();
    this.run();
  }

  /** Sends what waits now, not at the next attempt. */
  retry() {
    if (this.#wake) this.#wake();
    this.run();
  }

  async run() {
    if (this.#running) return;
    this.#running = true;
    while (this.#items.length) {
      const item = this.#items[0];
      const started = performance.now();
      let result;
      try {
        result = { outcome: await this.#send(item) };
      } catch (error) {
        if (!(error instanceof Refused || error instanceof Unreachable)) throw error;
        item.failures = (item.failures ?? 0) + (error.status === 500);
        if (waits(error) && item.failures < MOST_FAILURES) {
          this.#emit("blocked", { error, item });
          await this.#pause();
          continue;
        }
        result = { error };
      }
      this.#items.shift();
      this.#keep();
      this.#emit("answered", { ...result, item, milliseconds: performance.now() - started });
    }
    this.#running = false;
  }

  async #send({ image, action, name }) {
    const replace = action.replace === LAST_ADDED ? this.#lastAdded : (action.replace ?? null);
    const body = action.kind === "add" ? { ...action, replace } : action;
    const outcome = await postJson(`/api/images/${image}/actions`, body, { "X-Action": name });
    if (action.kind === "add") this.#lastAdded = outcome.selected;
    return outcome;
  }

  #pause() {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, RETRY);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  #keep() {
    sessionStorage.setItem(STORE, JSON.stringify({ items: this.#items, lastAdded: this.#lastAdded }));
  }

  #emit(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}
