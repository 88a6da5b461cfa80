// The pointer and what it has in hand: clicks, lines, brush and polygon become actions.

import { LAST_ADDED } from "./queue.js";
import { drawTools } from "./tool_drawing.js";

/** The reach of an added object, in steps of the wheel. */
export const REACHES = [0.35, 0.5, 0.7, 1, 1.4, 2, 2.8, 4];
const CLICK = 4;
const CLOSE = 10;

export class Tools {
  tool = "add";
  /** Where the pointer is, in device pixels of the canvas; null while it is not over it. */
  pointer = null;
  radius = 6;
  #picture;
  #act;
  #say;
  #stroke = null;
  #polygon = null;
  #added = null;
  #refused = null;
  #fingers = new Map();
  #space = false;
  #held = null;
  #strokesAtWork = [];

  /** `act(action)` sends an action; `say(text)` tells what happened; `changed()` is called where hints have to change. */
  constructor(picture, { act, say, changed }) {
    this.#picture = picture;
    this.#act = act;
    this.#say = say;
    this.changed = changed;
    picture.drawTool = (context, viewport) => this.#draw(context, viewport);
    const canvas = picture.canvas;
    const listen = (type, call) => canvas.addEventListener(type, (event) => call.call(this, event), { passive: false });
    listen("pointerdown", this.#down);
    listen("pointermove", this.#move);
    listen("pointerup", this.#up);
    listen("pointercancel", this.#cancelPointer);
    listen("pointerleave", this.#leave);
    listen("wheel", this.#wheel);
    listen("dblclick", () => this.tool === "polygon" && this.finish());
    listen("pointerenter", () => {
      // Keys are meant for the image now, not for the field that had been typed in.
      if (document.activeElement?.matches("input, select")) document.activeElement.blur();
    });
    listen("blur", () => canvas.classList.remove("by-pointer"));
    listen("contextmenu", (event) => event.preventDefault());
  }

  get viewport() {
    return this.#picture.viewport;
  }

  /** Where keys act: the pointer, or the middle of the view while there is none. */
  get place() {
    const [x, y] = this.pointer ?? [this.viewport.width / 2, this.viewport.height / 2];
    return this.viewport.toImage(x, y);
  }

  /** What is added and can be changed by the reach, or null. */
  get added() {
    return this.#added;
  }

  /** The object that keys are meant for: the one under the pointer, else the selected one as a point within it; or null. */
  target() {
    if (this.#picture.idAt(this.place)) return this.place;
    return this.#added?.inside[0] ?? this.#picture.selectedAt ?? null;
  }

  choose(tool) {
    if (this.tool === tool) return;
    this.cancel();
    this.tool = tool;
    this.changed();
    this.#picture.redraw();
  }

  /** Whether a line or a polygon is in hand. */
  get isDrawing() {
    return this.#stroke !== null || this.#polygon !== null;
  }

  /** A tool's key goes down: the tool is chosen; it goes up: the one before is back if this one has been used meanwhile. */
  hold(tool, key, used = false) {
    this.#held = { key, before: this.tool, used };
    this.choose(tool);
  }

  release(key) {
    if (this.#held?.key !== key) return;
    const { before, used } = this.#held;
    this.#held = null;
    if (used) this.choose(before);
  }

  space(down) {
    this.#space = down;
    this.#picture.canvas.classList.toggle("grab", down);
  }

  /** Gives up what is in hand; whether there was anything. */
  cancel() {
    const any = this.isDrawing;
    this.#stroke = this.#polygon = null;
    this.#picture.redraw();
    return any;
  }

  /** Nothing is selected, nothing added can be changed any more. */
  forget() {
    this.#added = null;
    this.#picture.selected = null;
    this.#picture.selectedAt = null;
    this.#strokesAtWork = [];
    this.#picture.redraw();
    this.changed();
  }

  /** Something else is done: what was added cannot be changed by the reach any more. The object stays selected where `keep`. */
  settle(keep) {
    this.#added = null;
    if (!keep) this.#picture.selected = this.#picture.selectedAt = null;
    this.changed();
  }

  /** The answer to an action has come, and what it changed is drawn. */
  answered(action, outcome) {
    this.#strokesAtWork = this.#strokesAtWork.filter((stroke) => stroke.action !== action);
    if (action.kind !== "add") return;
    this.#refused = outcome && !outcome.selected ? action.inside[0] : null;
    if (!this.#added || this.#added.inside[0][0] !== action.inside[0][0] || this.#added.inside[0][1] !== action.inside[0][1]) return;
    if (outcome?.selected) {
      this.#added.id = outcome.selected;
      this.#picture.selected = outcome.selected;
      this.#picture.selectedAt = this.#added.inside[0];
    } else if (this.#added.id === null) this.#added = null;
    this.changed();
  }

  /** Adds at a place, or selects what is there; `more` changes the selected object instead. */
  click(place, more) {
    if (!this.viewport.contains(place)) return;
    const id = this.#picture.idAt(place);
    if (more) return this.#change(place, id);
    if (!id) {
      this.#added = { inside: [place], outside: [], reach: 1, id: null, anyway: this.#isNear(this.#refused, place) };
      this.#send(null);
    } else if (this.#added && id === this.#added.id && this.#added.id !== null) {
      this.#added.inside.push(place);
      this.#send(LAST_ADDED);
    } else {
      this.#added = null;
      this.#picture.selected = id;
      this.#picture.selectedAt = place;
      this.#say(`Object ${id} is selected.`);
    }
    this.changed();
    this.#picture.redraw();
  }

  /** Shift-click: a place outside of the selected object is added to it, a place in it is taken away. */
  #change(place, id) {
    const selected = this.#adopt();
    if (!selected) return this.#say("Select an object first, or add one: Shift-click changes it.");
    (id && id === selected.id ? selected.outside : selected.inside).push(place);
    this.#send(selected.fresh ? selected.id : LAST_ADDED);
    this.changed();
  }

  /** The selected object as one that has been added, so that clicks and the reach can change it. */
  #adopt() {
    if (this.#added) return this.#added;
    if (!this.#picture.selected) return null;
    this.#added = { inside: [this.#picture.selectedAt], outside: [], reach: 1, id: this.#picture.selected, fresh: true };
    return this.#added;
  }

  /** One step more (1) or less (-1) of reach, or of the radius of brush and eraser. */
  grow(step) {
    if (this.tool === "brush" || this.tool === "eraser") {
      this.radius = Math.min(Math.max(this.radius * 1.25 ** step, 0.5), 200);
      this.#say(`Radius ${this.radius.toFixed(1)} pixels.`);
    } else if (this.#adopt()) {
      const added = this.#added;
      const index = REACHES.indexOf(added.reach) + step;
      if (index < 0 || index >= REACHES.length) return this.#say(`Reach ${added.reach} is as far as it goes.`);
      added.reach = REACHES[index];
      this.#send(added.fresh ? added.id : LAST_ADDED);
    } else this.#say("Add or select an object first: then its reach can be changed.");
    this.changed();
    this.#picture.redraw();
    return undefined;
  }

  #send(replace) {
    const { inside, outside, reach, anyway } = this.#added;
    this.#added.fresh = false;
    this.#act({ kind: "add", inside: [...inside], outside: [...outside], reach, replace, ...(anyway && { anyway }) });
  }

  /** Whether a place that has been clicked is clicked again. */
  #isNear(one, other) {
    return one !== null && Math.hypot(one[0] - other[0], one[1] - other[1]) * this.viewport.scale < 2 * CLICK * this.#picture.ratio;
  }

  #at(event) {
    const bounds = this.#picture.canvas.getBoundingClientRect();
    return [(event.clientX - bounds.left) * this.#picture.ratio, (event.clientY - bounds.top) * this.#picture.ratio];
  }

  #down(event) {
    const at = this.#at(event);
    this.#picture.canvas.classList.add("by-pointer");
    this.#picture.canvas.focus({ preventScroll: true });
    this.#picture.canvas.setPointerCapture(event.pointerId);
    event.preventDefault();
    if (event.pointerType === "touch") {
      this.#fingers.set(event.pointerId, at);
      if (this.#fingers.size > 1) {
        this.#stroke = null;
        return;
      }
    }
    this.pointer = at;
    const place = this.viewport.toImage(...at);
    if (event.button > 2) return;
    const pan = event.button === 1 || this.#space;
    const tool = event.button === 2 ? "delete" : this.tool;
    if (tool === "polygon" && !pan) this.#corner(place, at);
    this.#stroke = { tool, from: at, at, pan, moved: false, shift: event.shiftKey, line: [place], to: place, id: this.#picture.idAt(place) };
    this.#picture.redraw();
  }

  #move(event) {
    const at = this.#at(event);
    if (this.#fingers.size > 1 && this.#fingers.has(event.pointerId)) return this.#pinch(event.pointerId, at);
    this.pointer = at;
    const stroke = this.#stroke;
    if (stroke) {
      stroke.moved ||= Math.hypot(at[0] - stroke.from[0], at[1] - stroke.from[1]) > CLICK * this.#picture.ratio;
      if (stroke.pan || (stroke.tool === "add" && stroke.moved)) this.viewport.pan(at[0] - stroke.at[0], at[1] - stroke.at[1]);
      else for (const one of event.getCoalescedEvents?.() ?? [event]) this.#extend(stroke, this.viewport.toImage(...this.#at(one)));
      stroke.at = at;
      stroke.to = this.viewport.toImage(...at);
    }
    this.hover();
    this.#picture.redraw();
    return undefined;
  }

  #extend(stroke, place) {
    const last = stroke.line.at(-1);
    const step = Math.max(0.5, 1.5 / this.viewport.scale);
    if (Math.hypot(place[0] - last[0], place[1] - last[1]) < step) return;
    stroke.line.push(place);
    if (stroke.tool === "polygon" && this.#polygon && stroke.moved) this.#polygon.push(place);
  }

  #pinch(id, at) {
    const others = [...this.#fingers].filter(([other]) => other !== id).map(([, one]) => one);
    const before = this.#fingers.get(id);
    const other = others[0];
    const apart = (one) => Math.hypot(one[0] - other[0], one[1] - other[1]) || 1;
    this.viewport.pan((at[0] - before[0]) / 2, (at[1] - before[1]) / 2);
    this.viewport.zoom(apart(at) / apart(before), (at[0] + other[0]) / 2, (at[1] + other[1]) / 2, false);
    this.#fingers.set(id, at);
    this.#picture.redraw();
  }

  #up(event) {
    this.#fingers.delete(event.pointerId);
    const stroke = this.#stroke;
    this.#stroke = null;
    this.#picture.redraw();
    if (!stroke || (stroke.pan && (stroke.moved || event.button === 1))) return;
    if (this.#held && event.button !== 2) this.#held.used = true;
    this.#finishStroke(stroke);
  }

  #finishStroke(stroke) {
    const { tool, line, id, moved } = stroke;
    if (tool === "add") {
      if (!moved) this.click(line[0], stroke.shift);
    } else if (tool === "delete") {
      if (moved && line.length > 1) this.#actWith(stroke, { kind: "delete", line });
      else if (id) this.#act({ kind: "delete", point: line[0] });
      else this.#say("There is no object here.");
    } else if (tool === "join" || tool === "split") {
      if (line.length > 1) this.#actWith(stroke, { kind: tool, line });
    } else if (tool === "brush" || tool === "eraser") {
      if (tool === "brush") this.#actWith(stroke, { kind: "paint", line, radius: this.radius, id: (stroke.shift && this.#picture.selected) || id || null });
      else this.#actWith(stroke, { kind: "erase", line, radius: this.radius, id: stroke.shift ? null : id || null });
    } else if (tool === "rectangle") {
      const box = this.#boxOf(stroke);
      if (box) this.#actWith(stroke, { kind: "accept_box", box });
    } else if (tool === "polygon" && moved) this.finish();
  }

  /** What was drawn stays until the answer is. */
  #actWith(stroke, action) {
    this.#strokesAtWork.push({ tool: stroke.tool, line: stroke.line, to: stroke.to, radius: this.radius, action });
    this.#act(action);
  }

  #boxOf({ line, to }) {
    const { height, width } = this.#picture.image;
    const from = line[0];
    const within = (value, end) => Math.min(Math.max(value, 0), end);
    const box = [
      within(Math.floor(Math.min(from[0], to[0])), height),
      within(Math.floor(Math.min(from[1], to[1])), width),
      within(Math.ceil(Math.max(from[0], to[0])), height),
      within(Math.ceil(Math.max(from[1], to[1])), width),
    ];
    return box[2] - box[0] > 1 && box[3] - box[1] > 1 ? box : null;
  }

  #corner(place, at) {
    this.#polygon ??= [];
    if (this.#polygon.length > 2) {
      const first = this.viewport.toScreen(this.#polygon[0]);
      if (Math.hypot(first[0] - at[0], first[1] - at[1]) < CLOSE * this.#picture.ratio) return this.finish();
    }
    this.#polygon.push(place);
    return undefined;
  }

  /** Closes the polygon; whether there was one in hand. */
  finish() {
    const points = this.#polygon;
    if (!points) return false;
    this.#polygon = null;
    if (points.length > 2) this.#actWith({ tool: "polygon", line: [...points, points[0]] }, { kind: "polygon", points, id: null });
    if (this.#held) this.#held.used = true;
    this.#picture.redraw();
    return true;
  }

  /** Takes the last corner of the polygon back; whether there was one. */
  back() {
    if (!this.#polygon) return false;
    this.#polygon.pop();
    if (!this.#polygon.length) this.#polygon = null;
    this.#picture.redraw();
    return true;
  }

  #cancelPointer(event) {
    this.#fingers.delete(event.pointerId);
    this.#stroke = null;
  }

  #leave() {
    if (this.#stroke) return;
    this.pointer = null;
    this.hover();
    this.#picture.redraw();
  }

  #wheel(event) {
    event.preventDefault();
    const at = this.#at(event);
    const delta = (event.deltaY || event.deltaX) * (event.deltaMode ? 30 : 1);
    if ((event.shiftKey || event.altKey) && !event.ctrlKey) {
      if (delta) this.grow(delta < 0 ? 1 : -1);
    } else if (!event.ctrlKey && !event.deltaMode && (event.deltaX || Math.abs(event.deltaY) < 30)) {
      // Two fingers on a pad: small steps, to all sides. A mouse's wheel makes large ones, up and down.
      this.viewport.pan(-event.deltaX * this.#picture.ratio, -event.deltaY * this.#picture.ratio);
    } else this.viewport.zoom(Math.exp(-delta * (event.ctrlKey ? 0.01 : 0.0025)), ...at, !event.ctrlKey);
    this.#picture.redraw();
  }

  /** Finds out what is under the pointer. */
  hover() {
    const id = this.pointer ? this.#picture.idAt(this.viewport.toImage(...this.pointer)) : 0;
    if (id !== this.#picture.hovered) {
      this.#picture.hovered = id;
      this.#picture.redraw();
    }
    this.changed();
  }

  #draw(context, viewport) {
    drawTools(context, viewport, {
      ratio: this.#picture.ratio,
      tool: this.tool,
      stroke: this.#stroke?.pan ? null : this.#stroke,
      atWork: this.#strokesAtWork,
      polygon: this.#polygon,
      pointer: this.pointer,
      radius: this.radius,
      added: this.#added,
      cross: !this.pointer && this.#picture.canvas.matches(":focus-visible:not(.by-pointer)"),
    });
  }
}
