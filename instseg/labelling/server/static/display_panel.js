// How the image and its labels are shown: channels, levels, gamma, outlines, fills, colours. The tab remembers it.

import { STATE_COLOURS } from "./overlay.js";

const STORE = "instseg-display";
const by = (id) => document.getElementById(id);
const COLOURS = { 1: ["ffffff"], 2: ["ff00ff", "00ff00"], 3: ["ff0000", "00ff00", "0000ff"] };
const MORE = ["ff0000", "00ff00", "0000ff", "ffffff", "ff00ff", "00ffff", "ffff00"];

export class DisplayPanel {
  #picture;
  #say;
  #channels = [];
  #settings = { fill: false, outline: true, opacity: 0.3, by: "state", gamma: 0 };
  #kept = new Map();
  #timer = 0;

  constructor(picture, say) {
    this.#picture = picture;
    this.#say = say;
    Object.assign(this.#settings, JSON.parse(localStorage.getItem(STORE) ?? "{}"));
    by("outlines").addEventListener("click", () => this.toggle("outline"));
    by("fills").addEventListener("click", () => this.toggle("fill"));
    by("opacity").addEventListener("input", (event) => this.#set({ opacity: Number(event.target.value), fill: true }));
    by("colour-by").addEventListener("change", (event) => this.#set({ by: event.target.value }));
    by("gamma").addEventListener("input", (event) => this.#set({ gamma: Number(event.target.value) }));
    by("auto").addEventListener("click", () => this.levels("auto"));
    by("full").addEventListener("click", () => this.levels("full"));
    this.#style();
  }

  /** Takes the channels of an image; what was set for another image of as many channels stays where `#kept` has it. */
  show(image) {
    const count = image.channels.length;
    const kept = this.#kept.get(count);
    this.#channels = image.channels.map((channel, index) => ({
      ...channel,
      auto: [channel.low, channel.high],
      low: kept?.[index].own ? kept[index].low : channel.low,
      high: kept?.[index].own ? kept[index].high : channel.high,
      own: kept?.[index].own ?? false,
      on: kept?.[index].on ?? index < Math.max(3, 1),
      color: kept?.[index].color ?? channel.color ?? (COLOURS[count] ?? MORE)[index % MORE.length],
    }));
    this.#writeChannels();
    this.#apply();
  }

  toggle(name) {
    this.#set({ [name]: !this.#settings[name] });
    const words = { outline: "Outlines", fill: "Fills" };
    this.#say(`${words[name]} are ${this.#settings[name] ? "shown" : "hidden"}.`);
  }

  /** Hides all labels while `hidden`. */
  peek(hidden) {
    this.#picture.setStyle(hidden ? { fill: 0, outline: false } : this.#styleOf());
  }

  levels(kind) {
    for (const channel of this.#channels) {
      [channel.low, channel.high] = kind === "auto" ? channel.auto : [channel.min, channel.max];
      channel.own = kind !== "auto";
    }
    if (kind === "auto") this.#set({ gamma: 0 });
    this.#writeChannels();
    this.#apply();
    this.#say(kind === "auto" ? "Contrast of the image itself." : "The whole range of values.");
  }

  #set(changes) {
    Object.assign(this.#settings, changes);
    localStorage.setItem(STORE, JSON.stringify(this.#settings));
    this.#style();
    this.#apply();
  }

  #styleOf() {
    const { fill, outline, opacity, by: colours } = this.#settings;
    return { fill: fill ? opacity : 0, outline, by: colours };
  }

  #style() {
    const { fill, outline, opacity, by: colours, gamma } = this.#settings;
    by("outlines").setAttribute("aria-pressed", String(outline));
    by("fills").setAttribute("aria-pressed", String(fill));
    by("opacity").value = opacity;
    by("colour-by").value = colours;
    by("gamma").value = gamma;
    by("gamma-value").textContent = (2 ** (gamma * 2)).toFixed(2);
    this.#legend(colours);
    this.#picture.setStyle(this.#styleOf());
  }

  #legend(colours) {
    const rows = colours === "state" ? [["model", "of the model, not confirmed"], ["confirmed", "confirmed"]] : [];
    const items = rows.map(([state, text]) => legendRow(text, (sample) => {
      sample.style.borderColor = `rgb(${STATE_COLOURS[state].join(" ")})`;
      sample.style.background = `rgb(${STATE_COLOURS[state].join(" ")} / .3)`;
    }));
    items.push(legendRow("unknown, not trained on", (sample) => sample.classList.add("veil")));
    by("legend").replaceChildren(...items);
  }

  #writeChannels() {
    by("channels").replaceChildren(...this.#channels.map((channel, index) => this.#channelRow(channel, index)));
  }

  #channelRow(channel, index) {
    const row = element("div", { className: "channel" });
    const name = channel.name ?? `channel ${index + 1}`;
    const on = element("input", { type: "checkbox", checked: channel.on });
    const label = element("label", {}, on, name);
    const color = element("input", { type: "color", value: `#${channel.color}`, title: `Colour of ${name}` });
    color.setAttribute("aria-label", `Colour of ${name}`);
    on.addEventListener("change", () => this.#change(channel, { on: on.checked }));
    color.addEventListener("input", () => this.#change(channel, { color: color.value.slice(1) }));
    row.append(element("div", { className: "row" }, label, color), this.#level(channel, name, "low"), this.#level(channel, name, "high"));
    return row;
  }

  #level(channel, name, end) {
    const whole = Number.isInteger(channel.min) && Number.isInteger(channel.max) && channel.max - channel.min > 20;
    const range = { min: channel.min, max: channel.max, step: whole ? 1 : (channel.max - channel.min) / 1000 || "any" };
    const slider = element("input", { type: "range", ...range, value: channel[end] });
    const number = element("input", { type: "number", step: "any", value: Number(channel[end].toPrecision(5)) });
    slider.setAttribute("aria-label", `${end} level of ${name}`);
    number.setAttribute("aria-label", `${end} level of ${name} as a number`);
    const take = (value, other) => {
      if (!Number.isFinite(value)) return;
      other.value = Number(value.toPrecision(5));
      this.#change(channel, { [end]: value, own: true });
    };
    slider.addEventListener("input", () => take(Number(slider.value), number));
    number.addEventListener("change", () => take(Number(number.value), slider));
    return element("label", { className: "slider" }, end, slider, number);
  }

  #change(channel, changes) {
    Object.assign(channel, changes);
    this.#kept.set(this.#channels.length, this.#channels);
    this.#apply();
  }

  /** Tells the picture which pixels to ask for, at most ten times a second. */
  #apply() {
    clearTimeout(this.#timer);
    const query = this.#query();
    if (this.#picture.pixels.settled) this.#picture.setPixelQuery(query);
    else this.#timer = setTimeout(() => this.#picture.setPixelQuery(query), 100);
  }

  #query() {
    const shown = this.#channels.map((channel, index) => ({ ...channel, index })).filter((channel) => channel.on);
    const list = (value) => shown.map(value).join(",");
    if (!shown.length) return `?channels=0&low=1e30&high=2e30&gamma=1&colors=000000`;
    // Above 1 dark parts become brighter; the server takes the exponent.
    const exponent = (2 ** (-2 * this.#settings.gamma)).toFixed(3);
    return `?channels=${list((one) => one.index)}&low=${list((one) => one.low)}&high=${list((one) => one.high)}&gamma=${list(() => exponent)}&colors=${list((one) => one.color)}`;
  }
}

function element(tag, properties, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

function legendRow(text, paint) {
  const sample = document.createElement("i");
  paint(sample);
  return element("li", {}, sample, text);
}
