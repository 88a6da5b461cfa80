// The classes of objects: their names, their colours, their keys.

import { CLASS_COLOURS } from "./overlay.js";

export class ClassPanel {
  classes = [];
  #save;

  /** `save(classes)` sends them to the server. */
  constructor(save) {
    this.#save = save;
    document.getElementById("class-form").addEventListener("submit", (event) => {
      event.preventDefault();
      const field = document.getElementById("class-name");
      const name = field.value.trim();
      if (!name || this.classes.some((one) => one.name === name)) return;
      const id = Math.max(0, ...this.classes.map((one) => one.id)) + 1;
      field.value = "";
      this.#save([...this.classes, { id, name }]);
    });
  }

  nameOf(id) {
    return this.classes.find((one) => one.id === id)?.name ?? null;
  }

  show(classes) {
    this.classes = classes;
    const rows = classes.map(({ id, name }) => {
      const row = document.createElement("li");
      const swatch = document.createElement("i");
      const text = document.createElement("span");
      swatch.className = "swatch";
      swatch.style.background = `rgb(${CLASS_COLOURS[(id - 1) % CLASS_COLOURS.length].join(" ")})`;
      text.className = "name";
      text.textContent = name;
      row.append(swatch, text);
      if (id < 10) {
        const key = document.createElement("kbd");
        key.textContent = id;
        row.append(key);
      }
      return row;
    });
    if (!rows.length) {
      const none = document.createElement("li");
      none.className = "none";
      none.textContent = "None. Objects need no class; give names here to have the model learn classes.";
      rows.push(none);
    }
    document.getElementById("classes").replaceChildren(...rows);
  }
}
