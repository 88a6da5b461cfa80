// The list of images: their states, their order, search.

const STATES = { new: "not yet labelled", partly: "partly labelled", accepted: "accepted" };
const ORDER = { partly: 0, new: 1, accepted: 2 };
const collator = new Intl.Collator("en", { numeric: true });

export class ImageList {
  images = [];
  current = null;
  #shown = [];
  #open;

  /** `open(index)` shows an image. */
  constructor(open) {
    this.#open = open;
    this.element = document.getElementById("list");
    this.search = document.getElementById("search");
    this.order = document.getElementById("order");
    this.search.addEventListener("input", () => this.#write());
    this.search.addEventListener("keydown", (event) => {
      if (event.key === "Escape") this.search.blur();
      if (event.key !== "Enter" || !this.#shown.length) return;
      this.search.blur();
      this.#open(this.#shown[0].index);
    });
    this.order.addEventListener("change", () => this.#write());
    this.element.addEventListener("click", (event) => {
      const row = event.target.closest("li");
      if (row) this.#open(Number(row.dataset.index));
    });
    this.element.addEventListener("keydown", (event) => {
      const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
      // With Shift, arrows move the view.
      if (!step || event.shiftKey) return;
      event.preventDefault();
      this.step(step);
    });
  }

  show(folder) {
    this.images = folder.images;
    document.getElementById("folder").textContent = folder.folder.split(/[\\/]/).filter(Boolean).at(-1) ?? folder.folder;
    document.getElementById("folder").title = folder.folder;
    this.#write();
  }

  /** What an action has made of an image, before the folder is asked for. */
  update(index, changes) {
    const image = this.images.find((one) => one.index === index);
    if (!image) return;
    const same = Object.entries(changes).every(([name, value]) => image[name] === value);
    Object.assign(image, changes);
    if (same) return;
    this.#summary();
    const row = this.element.querySelector(`[data-index="${index}"]`);
    if (row) row.replaceWith(this.#row(image));
  }

  choose(index) {
    this.current = index;
    for (const row of this.element.children) row.setAttribute("aria-selected", String(Number(row.dataset.index) === index));
    const row = this.element.querySelector(`[data-index="${index}"]`);
    if (row) {
      this.element.setAttribute("aria-activedescendant", row.id);
      row.scrollIntoView({ block: "nearest" });
    }
  }

  /** The image to begin with: what comes first of those that are not accepted. */
  first() {
    const ready = this.#shown.filter((image) => !image.error);
    return (ready.find((image) => image.state !== "accepted") ?? ready[0])?.index ?? null;
  }

  /** Opens the next (1) or previous (-1) image of the list, which goes round. */
  step(step) {
    const at = this.#shown.findIndex((image) => image.index === this.current);
    const count = this.#shown.length;
    const next = this.#shown[at < 0 ? 0 : (at + step + count) % count];
    if (next && next.index !== this.current) this.#open(next.index);
  }

  /** Opens the next image that is not accepted; whether there is one. */
  nextOpen() {
    const at = this.#shown.findIndex((image) => image.index === this.current);
    const after = [...this.#shown.slice(at + 1), ...this.#shown.slice(0, Math.max(at, 0))];
    const next = after.find((image) => image.state !== "accepted" && !image.error);
    if (next) this.#open(next.index);
    return next !== undefined;
  }

  #sorted() {
    const words = this.search.value.trim().toLowerCase();
    const shown = this.images.filter((image) => image.name.toLowerCase().includes(words));
    const byName = (one, other) => collator.compare(one.name, other.name);
    const rank = (image) => (image.error ? 3e9 : image.state === "accepted" ? 2e9 : (image.rank ?? 1e9));
    const compare = {
      name: byName,
      state: (one, other) => ORDER[one.state] - ORDER[other.state] || byName(one, other),
      next: (one, other) => rank(one) - rank(other) || byName(one, other),
    }[this.order.value];
    return shown.sort(compare);
  }

  #write() {
    this.#shown = this.#sorted();
    this.element.replaceChildren(...this.#shown.map((image) => this.#row(image)));
    this.#summary();
    if (this.current !== null) this.choose(this.current);
  }

  #row(image) {
    const row = document.createElement("li");
    const dot = document.createElement("span");
    const name = document.createElement("span");
    const number = document.createElement("span");
    const state = image.error ? "error" : image.state;
    row.id = `image-${image.index}`;
    row.dataset.index = image.index;
    row.setAttribute("role", "option");
    row.setAttribute("aria-selected", String(image.index === this.current));
    row.title = image.error ? `${image.name} cannot be read: ${image.error}` : `${image.name}: ${STATES[image.state]}, ${image.height} x ${image.width}`;
    row.setAttribute("aria-label", row.title);
    row.className = state;
    dot.className = `dot ${state}`;
    name.className = "name";
    name.textContent = image.name;
    number.className = "number";
    if (image.ap != null) {
      number.textContent = `AP ${image.ap.toFixed(2)}`;
      number.title = "AP at IoU 0.5 of the model that had not learnt from this image";
    } else number.textContent = image.error ? "unreadable" : image.predicted || image.state !== "new" ? String(image.objects || "") : "…";
    row.append(dot, name, number);
    return row;
  }

  #summary() {
    const count = (state) => this.images.filter((image) => !image.error && image.state === state).length;
    const [accepted, partly, all] = [count("accepted"), count("partly"), this.images.length];
    document.getElementById("folder-summary").textContent = `${accepted} of ${all} accepted${partly ? `, ${partly} partly labelled` : ""}`;
    document.getElementById("meter-accepted").style.width = `${(100 * accepted) / Math.max(all, 1)}%`;
    document.getElementById("meter-partly").style.width = `${(100 * partly) / Math.max(all, 1)}%`;
  }
}
