// Begins the page: builds what shortcuts.js lists, and connects buttons and keys with it.

import { say } from "./messages.js";
import { Page } from "./page.js";
import { listenToKeys } from "./keyboard.js";
import { DEEDS, TOOLS, writeSheet, writeToolBar } from "./shortcuts.js";

const by = (id) => document.getElementById(id);
writeSheet(by("help-keys"));
const page = new Page();
const { picture, tools } = page;

writeToolBar(
  by("tools"),
  (name) => tools.choose(name),
  (name) => (tools.target() ? page.actOnTarget({ kind: name }) : say(`Select an object first. ${DEEDS.find((deed) => deed.name === name).title} by its key.`)),
);

page.onTools = (tool, added) => {
  const hint = TOOLS.find((one) => one.name === tool).hint;
  const radius = tool === "brush" || tool === "eraser" ? ` Radius ${tools.radius.toFixed(1)} px.` : "";
  by("hint").textContent = tool === "add" && added ? `Reach ${added.reach}. [ ] or Shift-wheel changes it. Shift-click adds a place or takes one away.` : hint + radius;
  showPlace();
};

/** What is under the pointer: in the line at the bottom, and its number beside the pointer. */
function showPlace() {
  const tag = by("tag");
  const at = tools.pointer;
  const image = page.image;
  tag.hidden = !at || !picture.hovered;
  if (!at || !image) {
    by("where").textContent = image ? `${image.height} x ${image.width}` : "";
    return;
  }
  const [row, column] = picture.viewport.toImage(...at).map(Math.floor);
  const object = picture.objects.get(picture.hovered);
  const score = object?.score == null ? "" : `, score ${object.score.toFixed(2)}`;
  const kind = object ? (object.confirmed ? "confirmed" : `of the model${score}`) : "";
  const name = object?.class ? (page.classes.nameOf(object.class) ?? `class ${object.class}`) : "";
  const words = picture.hovered ? [`object ${picture.hovered}`, kind, name].filter(Boolean).join(", ") : "";
  const place = picture.viewport.contains([row, column]) ? `row ${row}, column ${column}` : "";
  by("where").textContent = [words, place].filter(Boolean).join(" · ");
  tag.textContent = [picture.hovered, name].filter(Boolean).join(" ");
  tag.style.transform = `translate(${at[0] / picture.ratio + 14}px, ${at[1] / picture.ratio - 26}px)`;
  if (!by("busy").hidden) page.placeBusy();
}

const showView = picture.onView;
picture.onView = (box) => {
  by("zoom-fit").textContent = `${Math.round((100 * picture.viewport.scale) / picture.ratio)} %`;
  showView(box);
};

const middle = () => [picture.viewport.width / 2, picture.viewport.height / 2];
const zoom = (factor) => {
  if (factor) picture.viewport.zoom(factor, ...middle(), true);
  else picture.viewport.fit();
  picture.redraw();
};
const presses = {
  previous: () => page.list.step(-1),
  next: () => page.list.step(1),
  undo: () => page.act({ kind: "undo" }),
  redo: () => page.act({ kind: "redo" }),
  accept: () => page.accept(),
  reopen: () => page.reopen(),
  "help-open": () => by("help").showModal(),
  "zoom-in": () => zoom(1.5),
  "zoom-out": () => zoom(1 / 1.5),
  "zoom-fit": () => zoom(0),
};
for (const [id, press] of Object.entries(presses)) by(id).addEventListener("click", press);

listenToKeys(page);
page.showTools();
page.begin();
