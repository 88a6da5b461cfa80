// The page as a whole: which image is open, what actions do to it, and what the server says meanwhile.

import { PAGE, Refused, Unreachable, getJson, postJson } from "./api.js";
import { ClassPanel } from "./class_panel.js";
import { DisplayPanel } from "./display_panel.js";
import { ImageList } from "./image_list.js";
import { notice, say, sentence } from "./messages.js";
import { Picture } from "./picture.js";
import { ActionQueue } from "./queue.js";
import { ScorePanel } from "./score_panel.js";
import { Tools } from "./tools.js";
import { TrainingPanel } from "./training_panel.js";

const by = (id) => document.getElementById(id);
const POLL = 1000;
/** After so many milliseconds something turns at the pointer. */
const PATIENCE = 150;
const ON_OBJECT = ["confirm", "class", "fill_holes"];
const STATES = { new: "not yet labelled", partly: "partly labelled", accepted: "accepted" };
const DONE = {
  add: "Added.", delete: "Deleted.", join: "Joined.", split: "Split.", paint: "Painted.", erase: "Erased.", polygon: "Drawn.",
  fill_holes: "Holes are filled.", class: "Class is set.", confirm: "Confirmed.", accept_box: "The rectangle is accepted.",
  accept: "The image is accepted. Enter once more opens the next one.", reopen: "The image is open again.", undo: "Undone.", redo: "Done again.",
};

export class Page {
  picture = new Picture(by("canvas"));
  queue = new ActionQueue();
  writer = true;
  #folderVersion = null;
  #polls = 0;
  #opening = 0;
  #viewTimer = 0;
  #busyTimer = 0;
  #renewing = null;
  #accepting = null;

  constructor() {
    this.tools = new Tools(this.picture, { act: (action) => this.act(action), say, changed: () => this.showTools() });
    this.list = new ImageList((index) => this.open(index));
    this.display = new DisplayPanel(this.picture, say);
    this.scores = new ScorePanel(this.picture, (action) => this.act(action), say);
    this.classes = new ClassPanel((classes) => this.#ask("/api/classes", { classes }, () => this.readFolder()));
    this.training = new TrainingPanel((minutes) => this.#ask("/api/train", { minutes }, () => this.#poll()), () => this.#ask("/api/train/stop", {}));
    this.picture.onView = (box) => this.#looksAt(box);
    this.picture.onTrouble = (error) => this.#trouble(error);
    this.queue.addEventListener("answered", ({ detail }) => this.#answered(detail));
    this.queue.addEventListener("blocked", ({ detail }) => this.#blocked(detail));
    window.addEventListener("pagehide", () => navigator.sendBeacon("/api/leave", new Blob([JSON.stringify({ page: PAGE })], { type: "application/json" })));
  }

  get image() {
    return this.picture.image;
  }

  async begin() {
    await this.#poll();
    if (this.queue.length) {
      say(`${this.queue.length} actions of before are sent now.`);
      this.queue.run();
    }
    const kept = Number(sessionStorage.getItem("instseg-image") ?? NaN);
    const known = this.list.images.some((image) => image.index === kept && !image.error);
    const index = known ? kept : this.list.first();
    if (index !== null) await this.open(index);
    else this.#empty("There is no image in this folder that can be read.");
    this.#polling();
  }

  async readFolder() {
    try {
      const folder = await getJson("/api/folder");
      this.list.show(folder);
      this.classes.show(folder.classes);
      this.training.showImages(folder.images);
      this.training.showRounds(folder.rounds);
    } catch (error) {
      this.#trouble(error);
    }
  }

  async open(index) {
    const entry = this.list.images.find((image) => image.index === index);
    this.#opening += 1;
    const opening = this.#opening;
    this.list.choose(index);
    this.tools.cancel();
    this.tools.forget();
    sessionStorage.setItem("instseg-image", index);
    if (entry?.error) {
      this.picture.show(null);
      this.#empty(`${entry.name} cannot be read:\n${entry.error}`);
      this.showImage(null, entry.name);
      return;
    }
    try {
      const image = await getJson(`/api/images/${index}`);
      if (opening !== this.#opening) return;
      this.#empty(null);
      this.picture.show(image);
      this.display.show(image);
      this.showImage(image);
      await this.#readObjects();
      say(`${image.name}, ${STATES[image.state]}, ${image.objects} objects.`);
    } catch (error) {
      this.#trouble(error);
    }
  }

  /** Sends an action on the open image. */
  act(action) {
    if (!this.image) return;
    if (!this.writer) {
      say("This page only looks. Take over to label here.");
      return;
    }
    if (action.kind !== "add") this.tools.settle(ON_OBJECT.includes(action.kind));
    this.queue.push(this.image.index, action);
    if (!this.#busyTimer) this.#busyTimer = setTimeout(() => this.#showBusy(), PATIENCE);
  }

  /** Sends an action on the object that is meant: under the pointer, or selected. */
  actOnTarget(action) {
    const point = this.image && this.tools.target();
    if (point) this.act({ ...action, point });
    else say("Point at an object, or select one.");
  }

  /** The key of a tool: Delete acts at once where an object is under the pointer, and goes on while it is held. */
  toolKey({ name, key }) {
    if (name === "delete" && this.picture.idAt(this.tools.place)) {
      this.actOnTarget({ kind: "delete" });
      if (!this.tools.isDrawing) this.tools.hold(name, key, true);
    } else if (name === "add" && this.tools.tool === "add") this.tools.click(this.tools.place, false);
    else this.tools.hold(name, key);
  }

  /** Accepts the image, or opens the next one if it is accepted; both where `thenNext`. */
  accept(thenNext = false) {
    if (!this.image) return;
    if (thenNext) {
      if (this.image.state !== "accepted") this.act({ kind: "accept" });
      if (this.writer && !this.list.nextOpen()) say("All images are accepted.");
    } else if (this.image.state !== "accepted" && this.#accepting !== this.image) {
      this.act({ kind: "accept" });
      this.#accepting = this.image;
    } else if (!this.list.nextOpen()) say("All images are accepted.");
  }

  reopen() {
    this.act({ kind: "reopen" });
  }

  showTools() {
    const { tool, added } = this.tools;
    for (const button of by("tools").querySelectorAll("[aria-pressed]")) button.setAttribute("aria-pressed", String(button.dataset.name === tool));
    this.onTools?.(tool, added);
  }

  showImage(image, name) {
    by("title").textContent = by("title").title = image?.name ?? name ?? "";
    by("state").textContent = image ? STATES[image.state] : "";
    by("state").className = `badge ${image?.state ?? ""}`;
    const confirmed = image?.state === "accepted" ? "" : `, ${image?.confirmed} confirmed`;
    by("counts").textContent = image ? `${image.objects} objects${confirmed}` : "";
    by("undo").disabled = !image?.undo;
    by("redo").disabled = !image?.redo;
    by("accept").disabled = !image;
    const accepted = image?.state === "accepted";
    by("accept").firstChild.textContent = accepted ? "Next image " : "Accept image ";
    by("accept").title = accepted ? "Open the next image that is not accepted (Enter)" : "Everything else in this image is right (Enter)";
    by("reopen").hidden = !accepted;
    by("veil-note").hidden = image?.state !== "partly";
    notice("image", image?.model_error ?? null);
    by("waiting").hidden = !image || image.predicted !== false || image.model_error || image.state !== "new";
  }

  async #answered({ item, outcome, error, milliseconds }) {
    this.lastMilliseconds = milliseconds;
    notice("blocked", null);
    const here = this.image?.index === item.image;
    if (error) {
      say(sentence(error.message));
      notice("refused", error.message, { label: "Close", press: () => notice("refused", null) });
    } else {
      notice("refused", null);
      const { state, objects, confirmed } = outcome;
      this.list.update(item.image, { state, objects, confirmed });
      this.training.showImages(this.list.images);
      if (here) await this.#show(outcome);
      const empty = item.action.kind === "add" && !outcome.selected;
      const many = item.action.ids && `${item.action.ids.length} objects are deleted.`;
      say(sentence(outcome.message) ?? many ?? (empty ? "Nothing was found here. Try the brush, or a polygon." : DONE[item.action.kind]));
    }
    if (here) this.tools.answered(item.action, outcome);
    if (item.action.kind === "accept") this.#accepting = null;
    if (!this.queue.length) this.#idle();
    this.tools.hover();
    this.picture.redraw();
  }

  /** Draws what an action has changed. */
  async #show(outcome) {
    const { boxes, version, state, objects, confirmed, undo, redo } = outcome;
    Object.assign(this.image, { version, state, objects, confirmed, undo, redo });
    this.showImage(this.image);
    await this.#readObjects();
    this.picture.expireLabels(boxes);
    await this.picture.labelsSettle();
  }

  /** Reads which objects there are, once for all that ask while it is on its way. */
  async #readObjects() {
    const image = this.image;
    if (!image) return;
    const { ids, confirmed, classes, scores } = await getJson(`/api/images/${image.index}/objects?version=${image.version}`);
    if (this.image !== image) return;
    const right = new Set(confirmed);
    const objects = new Map(ids.map((id, index) => [id, { confirmed: right.has(id), class: classes[index], score: scores[index] }]));
    this.scores.mark(objects);
    this.picture.setObjects(objects);
  }

  #blocked({ error }) {
    this.#showBusy();
    const waits = `${this.queue.length} ${this.queue.length === 1 ? "action waits and is" : "actions wait and are"} sent as soon as it can be.`;
    if (error instanceof Refused && error.status === 409) this.#lookOnly(waits);
    else notice("blocked", `${error.message} ${waits} Leave this page open.`, { label: "Try now", press: () => this.queue.retry() });
  }

  #lookOnly(waits = "") {
    notice("look-only", `Another page labels this folder; this one only looks. ${waits}`.trim(), { label: "Take over", press: () => this.takeOver() });
  }

  takeOver() {
    this.#ask("/api/take-over", { page: PAGE }, async () => {
      this.writer = true;
      notice("look-only", null);
      say("This page labels the folder now.");
      this.queue.retry();
      await this.#renew();
    });
  }

  #showBusy() {
    this.#busyTimer = 0;
    by("busy").hidden = this.queue.length === 0;
    this.placeBusy();
  }

  #idle() {
    clearTimeout(this.#busyTimer);
    this.#busyTimer = 0;
    by("busy").hidden = true;
  }

  placeBusy() {
    const { ratio, viewport } = this.picture;
    const [x, y] = this.tools.pointer ?? [viewport.width / 2, viewport.height / 2];
    by("busy").style.transform = "none";
    by("busy").style.left = `${x / ratio + 14}px`;
    by("busy").style.top = `${y / ratio + 14}px`;
  }

  /** Embeddings of what is on the screen come first. */
  #looksAt(box) {
    clearTimeout(this.#viewTimer);
    const index = this.image.index;
    const text = JSON.stringify([index, box]);
    if (text === this.viewed) return;
    this.#viewTimer = setTimeout(() => {
      this.viewed = text;
      postJson(`/api/images/${index}/view`, { box }).catch(() => null);
    }, 250);
  }

  async #polling() {
    for (;;) {
      await new Promise((resolve) => setTimeout(resolve, POLL));
      await this.#poll();
    }
  }

  async #poll() {
    let status;
    try {
      status = await getJson(`/api/status?page=${PAGE}`);
    } catch (error) {
      this.#trouble(error);
      return;
    }
    notice("server", null);
    this.#polls += 1;
    this.writer = status.writer !== false;
    if (this.writer) notice("look-only", null);
    else this.#lookOnly();
    const model = status.model;
    notice("model", model && !["ready", "loading"].includes(model) ? `${model} Objects cannot be added by a click; brush and polygon work.` : null);
    by("model-loading").hidden = model !== "loading";
    notice("disc", status.disc ? `Labels cannot be saved: ${status.disc} Nothing is lost while this page and the server stay open; saving is tried again.` : null);
    notice("message", status.message ?? null);
    const looks = status.segmenting && status.segmenting.done < status.segmenting.of;
    by("segmenting").hidden = !looks;
    if (looks) by("segmenting").textContent = `The model looks at the images: ${status.segmenting.done} of ${status.segmenting.of}.`;
    const ended = this.training.showStatus(status.training);
    if (ended) say(ended);
    if (this.#folderVersion !== status.images) {
      this.#folderVersion = status.images;
      await this.readFolder();
    }
    if (this.#polls % 2 === 0) await this.#renew();
  }

  /** Looks whether the open image has changed by others: by another page, or by new instances of the model. */
  #renew() {
    this.#renewing ??= this.#readAgain().finally(() => {
      this.#renewing = null;
    });
    return this.#renewing;
  }

  async #readAgain() {
    const image = this.image;
    if (!image || this.queue.length) return;
    try {
      const now = await getJson(`/api/images/${image.index}`);
      if (this.image !== image || this.queue.length) return;
      if (now.version === image.version && now.predicted === image.predicted) return;
      Object.assign(image, now);
      this.showImage(image);
      await this.#readObjects();
      this.picture.expireLabels();
      await this.picture.labelsSettle();
      this.tools.hover();
    } catch (error) {
      this.#trouble(error);
    }
  }

  async #ask(path, body, then) {
    try {
      await postJson(path, body);
      await then?.();
    } catch (error) {
      if (error instanceof Refused) {
        say(sentence(error.message));
        notice("refused", error.message, { label: "Close", press: () => notice("refused", null) });
      } else this.#trouble(error);
    }
  }

  /** What goes wrong without an action. */
  #trouble(error) {
    if (error instanceof Unreachable)
      notice("server", "The server does not answer. Is `instseg label` still running? What you do is kept in this tab, and sent when it is back.");
    else if (error instanceof Refused && error.status === 403)
      notice("server", "This page is of another session. Open the address that `instseg label` has printed.");
    else if (error instanceof Refused) say(sentence(error.message));
    else throw error;
  }

  #empty(text) {
    by("empty").hidden = !text;
    by("empty").textContent = text ?? "";
  }
}
