// All keys of the page, in one table: what they do, and the sheet that says so.

/** Tools: what a drag or a click on the image does. `key` chooses one; held while it is used, it is chosen for that use alone. */
export const TOOLS = [
  { name: "add", key: "a", label: "Add", hint: "Click a missing object to add it; click an object to select it. Point and press D, C, H or a number.", icon: "M10 3v14M3 10h14" },
  { name: "delete", key: "d", label: "Delete", hint: "Click an object to delete it; drag across several to delete all that the line crosses.", icon: "M4 6h12M8 6V4h4v2M6 6l1 11h6l1-11" },
  { name: "join", key: "j", label: "Join", hint: "Drag across objects: all that the line crosses become one.", icon: "M8 6a4 4 0 1 0 0 8M12 6a4 4 0 1 1 0 8M6 10h8" },
  { name: "split", key: "s", label: "Split", hint: "Drag a line through an object: its two sides become two objects.", icon: "M8 5a5 5 0 0 0 0 10M12 5a5 5 0 0 1 0 10M10 2v16" },
  { name: "brush", key: "b", label: "Brush", hint: "Paint a new object; begin on an object to extend it. [ ] or Shift-wheel: size.", icon: "M16 4 9 11l2 2 6-8zM8 12c-3 0-2 4-5 4 3 2 7 1 7-2z" },
  { name: "eraser", key: "e", label: "Eraser", hint: "Begin on an object: only this one is erased; else all are. [ ] or Shift-wheel: size.", icon: "m8 16-5-5 8-8 6 6-7 7zM8 16h9M6 8l6 6" },
  { name: "polygon", key: "p", label: "Polygon", hint: "Click the corners, or drag along the outline. Enter closes it, Backspace takes a corner back.", icon: "m10 3 7 5-3 8H6L3 8z" },
  { name: "rectangle", key: "r", label: "Accept area", hint: "Drag a rectangle: all in it is right, objects and background.", icon: "M3 5h14v10H3zM7 10l2 2 4-4" },
];

/** What is done at once, to the object under the pointer. */
export const DEEDS = [
  { name: "confirm", key: "c", label: "Confirm", title: "Confirm the object under the pointer", icon: "m4 10 4 4 8-8" },
  { name: "fill_holes", key: "h", label: "Fill holes", title: "Fill the holes of the object under the pointer", icon: "M10 3a7 7 0 1 0 0 14 7 7 0 0 0 0-14M10 7.5v5M7.5 10h5" },
];

const SHEET = [
  ["Objects", [
    ["Click", "add a missing object; select one that is there"],
    ["Shift-click", "add this place to the selected object, or take it away"],
    ["[ ]  Shift-wheel", "smaller or larger reach; size of brush and eraser"],
    ["D  right click", "delete the object under the pointer"],
    ["Right-drag", "delete all objects that the line crosses"],
    ["X", "delete all that are hatched in red: the model's with a score below that of the slider"],
    ["C", "confirm the object under the pointer: it is right"],
    ["H", "fill its holes"],
    ["1 … 9, 0", "give it a class; 0 takes the class away"],
    ["Ctrl-Z", "undo"],
    ["Ctrl-Shift-Z  Ctrl-Y", "redo"],
    ["Esc", "give up a line or a polygon; select nothing"],
  ]],
  ["Tools", TOOLS.map(({ key, label, hint }) => [key.toUpperCase(), `${label}: ${hint}`])],
  ["Images", [
    ["Enter", "accept the image: all that is not yet confirmed is right; once more for the next one"],
    ["Shift-Enter", "accept the image and open the next one"],
    ["→  N", "next image of the list"],
    ["←  Shift-N", "previous image"],
    ["/", "search in the list"],
  ]],
  ["View", [
    ["Wheel", "zoom to the pointer; two fingers move the view"],
    ["Space-drag", "move the view; so do the middle button and a drag with Add"],
    ["Shift-arrows", "move the view; keys act at the cross in its middle"],
    ["+  −  Home", "zoom; the whole image"],
    ["O  F", "outlines, fills on or off"],
    ["L", "automatic contrast"],
    ["V", "labels away while the key is held"],
    ["?", "this sheet"],
  ]],
];

export function writeSheet(element) {
  for (const [heading, keys] of SHEET) {
    const section = document.createElement("section");
    const title = document.createElement("h3");
    title.textContent = heading;
    const list = document.createElement("dl");
    for (const [names, text] of keys) {
      const term = document.createElement("dt");
      for (const name of names.split("  ")) {
        const key = document.createElement("kbd");
        key.textContent = name;
        term.append(key, " ");
      }
      const meaning = document.createElement("dd");
      meaning.textContent = text;
      list.append(term, meaning);
    }
    section.append(title, list);
    element.append(section);
  }
}

/** The bar of tools; calls `choose(name)` and `act(name)`. One tab stop, arrows move within it. */
export function writeToolBar(element, choose, act) {
  const buttons = TOOLS.map((tool) => toolButton({ ...tool, title: `${tool.label} (${tool.key.toUpperCase()}). ${tool.hint}` }, choose));
  const deeds = DEEDS.map((deed) => toolButton({ ...deed, title: `${deed.title} (${deed.key.toUpperCase()})` }, act));
  for (const button of buttons) button.setAttribute("aria-pressed", "false");
  element.append(...buttons, document.createElement("hr"), ...deeds);
  const all = [...buttons, ...deeds];
  all.forEach((button, index) => {
    button.tabIndex = index ? -1 : 0;
  });
  element.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step || event.shiftKey) return;
    event.preventDefault();
    event.stopPropagation();
    const to = all[(all.indexOf(document.activeElement) + step + all.length) % all.length];
    for (const button of all) button.tabIndex = button === to ? 0 : -1;
    to.focus();
  });
}

function toolButton({ name, key, label, title, icon }, press) {
  const button = document.createElement("button");
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  const letter = document.createElement("kbd");
  svg.setAttribute("viewBox", "0 0 20 20");
  svg.setAttribute("aria-hidden", "true");
  path.setAttribute("d", icon);
  svg.append(path);
  letter.textContent = key.toUpperCase();
  button.append(svg, label, letter);
  button.title = title;
  button.dataset.name = name;
  button.setAttribute("aria-keyshortcuts", key);
  button.addEventListener("click", () => press(name));
  return button;
}
