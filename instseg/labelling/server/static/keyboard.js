// Keys of the whole page: those of shortcuts.js, wherever the focus is but in a field.

import { TOOLS } from "./shortcuts.js";

const PAN = 80;
const TYPED = "input:not([type=checkbox]):not([type=range]):not([type=color]), select, textarea";
/** Where a key of the page would take away what the key does in the element itself. */
const OWN = { Enter: "button, a, [type=checkbox]", " ": "button, [type=checkbox]", ArrowLeft: "[type=range]", ArrowRight: "[type=range]" };

/** Listens to keys; `page` has the tools, the list and what else keys do. */
export function listenToKeys(page) {
  const help = document.getElementById("help");
  document.addEventListener("keydown", (event) => {
    if (help.open || event.target.closest?.(TYPED)) return;
    if (event.target.closest?.(OWN[event.key] ?? "none")) return;
    if (event.ctrlKey || event.metaKey) {
      if (historyKey(event, page)) event.preventDefault();
    } else if (!event.altKey && key(event, page)) event.preventDefault();
  });
  document.addEventListener("keyup", (event) => {
    if (event.key === " ") page.tools.space(false);
    if (event.key.toLowerCase() === "v") page.display.peek(false);
    page.tools.release(event.key.toLowerCase());
  });
  window.addEventListener("blur", () => page.tools.space(false));
}

function historyKey(event, page) {
  const name = event.key.toLowerCase();
  if (name === "z") page.act({ kind: event.shiftKey ? "redo" : "undo" });
  else if (name === "y") page.act({ kind: "redo" });
  else return false;
  return true;
}

/** Does what a key without Ctrl means; whether it means anything. */
function key(event, page) {
  const { tools, picture } = page;
  const middle = tools.pointer ?? [picture.viewport.width / 2, picture.viewport.height / 2];
  const pan = { ArrowLeft: [PAN, 0], ArrowRight: [-PAN, 0], ArrowUp: [0, PAN], ArrowDown: [0, -PAN] }[event.key];
  if (event.shiftKey && pan) {
    picture.viewport.pan(...pan.map((step) => step * picture.ratio));
    picture.redraw();
    return true;
  }
  if (event.key === "N") return page.list.step(-1), true;
  const tool = TOOLS.find((one) => one.key === event.key.toLowerCase());
  if (tool) {
    if (!event.repeat) page.toolKey(tool);
    return true;
  }
  if (/^[0-9]$/.test(event.key)) return page.actOnTarget({ kind: "class", class: Number(event.key) }), true;
  const does = {
    Enter: () => tools.finish() || page.accept(event.shiftKey),
    Escape: () => tools.cancel() || tools.forget(),
    Backspace: () => tools.back(),
    Delete: () => page.actOnTarget({ kind: "delete" }),
    " ": () => tools.space(true),
    "[": () => tools.grow(-1),
    "]": () => tools.grow(1),
    "+": () => picture.viewport.zoom(1.5, ...middle, true),
    "=": () => picture.viewport.zoom(1.5, ...middle, true),
    "-": () => picture.viewport.zoom(1 / 1.5, ...middle, true),
    Home: () => picture.viewport.fit(),
    ArrowLeft: () => page.list.step(-1),
    ArrowRight: () => page.list.step(1),
    n: () => page.list.step(1),
    c: () => page.actOnTarget({ kind: "confirm" }),
    h: () => page.actOnTarget({ kind: "fill_holes" }),
    x: () => page.scores.remove(),
    o: () => page.display.toggle("outline"),
    f: () => page.display.toggle("fill"),
    l: () => page.display.levels("auto"),
    v: () => page.display.peek(true),
    "/": () => page.list.search.focus(),
    "?": () => document.getElementById("help").showModal(),
  }[event.key];
  if (!does) return false;
  does();
  picture.redraw();
  return true;
}
