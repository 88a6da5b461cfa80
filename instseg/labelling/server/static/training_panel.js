// Training from the page: its button, how far it is, its curve, what each round gained.

import { sentence } from "./messages.js";

const by = (id) => document.getElementById(id);
const AT_WORK = ["starting", "running"];

export class TrainingPanel {
  #accepted = 0;
  #partly = 0;
  #state = null;

  /** `start(minutes)` and `stop()` ask the server; they may fail, which is said elsewhere. */
  constructor(start, stop) {
    by("train-form").addEventListener("submit", (event) => {
      event.preventDefault();
      start(Number(by("minutes").value));
    });
    by("train-stop").addEventListener("click", stop);
    by("minutes").value = localStorage.getItem("instseg-minutes") ?? "2";
    by("minutes").addEventListener("change", () => localStorage.setItem("instseg-minutes", by("minutes").value));
  }

  /** What there is to learn from. */
  showImages(images) {
    this.#accepted = images.filter((image) => image.state === "accepted").length;
    this.#partly = images.filter((image) => image.state === "partly").length;
    this.#advise();
  }

  showRounds(rounds) {
    by("rounds").hidden = !rounds.length;
    by("rounds").tBodies[0].replaceChildren(...rounds.map(roundRow));
    by("round-words").hidden = !rounds.length;
    by("round-words").textContent = rounds.length ? words(rounds.at(-1)) : "";
  }

  /** The training of /api/status; says what to tell the person when it ends, or null. */
  showStatus(training) {
    const before = this.#state;
    this.#state = training?.state ?? null;
    const runs = AT_WORK.includes(this.#state);
    by("train").hidden = by("minutes").parentElement.hidden = runs;
    by("train-stop").hidden = !runs;
    by("train-progress").hidden = !runs;
    if (training?.share > 0) by("train-progress").value = training.share;
    else by("train-progress").removeAttribute("value");
    const text = sentence(runs ? training.text : (training?.result ?? training?.text));
    // What went well is in the table of rounds.
    by("train-phase").hidden = !text || this.#state === "done";
    by("train-phase").textContent = text ?? "";
    this.#drawCurve((runs && training.curve) || [], training?.measure ?? "loss");
    this.#advise();
    return AT_WORK.includes(before) && !runs ? (text ?? "The training has ended.") : null;
  }

  #advise() {
    const runs = AT_WORK.includes(this.#state);
    const some = this.#accepted + this.#partly > 0;
    by("train").disabled = !some;
    const images = (count) => `${count} ${count === 1 ? "image" : "images"}`;
    const learns = `${images(this.#accepted)} accepted${this.#partly ? `, ${this.#partly} partly labelled` : ""} to learn from.`;
    const more = this.#accepted < 3 ? " Three to five are a good beginning." : "";
    by("training-advice").textContent = runs
      ? "You can go on labelling meanwhile."
      : some
        ? learns + more
        : "Accept an image or two (Enter): the model then learns from them, and segments the others anew.";
  }

  #drawCurve(points, measure) {
    const svg = by("curve");
    const known = points.filter(([x, y]) => Number.isFinite(x) && Number.isFinite(y));
    // SVG has the attribute, and no property of this name.
    svg.toggleAttribute("hidden", known.length < 2);
    if (known.length < 2) return;
    const [left, top, right, bottom] = [30, 6, 236, 80];
    const [xs, ys] = [known.map(([x]) => x), known.map(([, y]) => y)];
    const [low, high] = [Math.min(...ys), Math.max(...ys)];
    const [from, to] = [Math.min(...xs), Math.max(...xs)];
    const place = ([x, y]) => [
      left + ((x - from) / (to - from || 1)) * (right - left),
      bottom - ((y - low) / (high - low || 1)) * (bottom - top),
    ];
    const line = known.map(place).map((point) => point.map((value) => value.toFixed(1)).join(","));
    const text = (x, y, words, anchor) => shape("text", { x, y, "text-anchor": anchor }, words);
    svg.replaceChildren(
      shape("path", { class: "axis", d: `M${left} ${top}V${bottom}H${right}` }),
      shape("polyline", { class: "line", points: line.join(" ") }),
      text(left - 3, top + 6, short(high), "end"),
      text(left - 3, bottom, short(low), "end"),
      text(left, bottom + 12, short(from), "start"),
      text(right, bottom + 12, short(to), "end"),
      text(right, top + 6, measure, "end"),
    );
    svg.setAttribute("aria-label", `Curve of the training, ${measure}: from ${short(ys[0])} to ${short(ys.at(-1))}`);
  }
}

const short = (value) => String(Number(value.toPrecision(3)));

function shape(name, attributes, words) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (words !== undefined) made.textContent = words;
  return made;
}

const rounded = (value) => (value == null ? "–" : value.toFixed(2));
const signed = (value) => `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(2)}`;

function roundRow(round) {
  const row = document.createElement("tr");
  const cell = (text) => {
    const made = document.createElement("td");
    made.textContent = text;
    row.append(made);
    return made;
  };
  cell(round.round === 0 ? "start" : round.round);
  cell(round.round === 0 ? "–" : round.images);
  const score = cell(round.state === "failed" ? "failed" : rounded(round.ap_after));
  if (round.gained != null) {
    const gain = document.createElement("span");
    gain.className = round.gained < 0 ? "loss" : "gain";
    gain.textContent = ` ${signed(round.gained)}`;
    score.append(gain);
  }
  row.title = words(round);
  return row;
}

/** What a round is worth, as a sentence. */
function words(round) {
  if (round.message) return `Round ${round.round}: ${round.message}`;
  const name = round.round === 0 ? "The model of the beginning" : `Round ${round.round}, from ${round.images} ${round.images === 1 ? "image" : "images"},`;
  const aside = round.validation == null ? "" : ` has AP ${rounded(round.validation)} on images it kept aside;`;
  if (!round.scored_on) return `${name}${aside} accept more images to see how good it is in new ones.`;
  const gain = round.gained == null ? "" : `, ${signed(round.gained)} to the model before`;
  return `${name}${aside} has AP ${rounded(round.ap_after)} on the ${round.scored_on} accepted after it${gain}.`;
}
