// The canvas: one image with its labels, drawn from tiles whenever something has changed, one frame at a time.

import { getLabels, getPixels } from "./api.js";
import { colourOf, eachOutline, neighbours, objectPath, paintTile } from "./overlay.js";
import { TileCache, tilesOf } from "./tiles.js";
import { Viewport } from "./viewport.js";

const PIXEL_TILES = 160;
const LABEL_TILES = 96;
/** From this scale on, outlines are paths, which stay sharp; below it they are pixels of the labels. */
const SHARP = 2;
/** Milliseconds of one frame for bitmaps of labels; the others wait for the next. */
const PAINTING = 12;
const AROUND = [[-1, 0], [1, 0], [0, -1], [0, 1]];

export class Picture {
  viewport = new Viewport();
  image = null;
  objects = new Map();
  style = { fill: 0, outline: true, by: "state" };
  selected = null;
  /** Where it was clicked, (row, column). */
  selectedAt = null;
  hovered = null;
  /** Draws what a tool has in hand, above all else: `(context, viewport) => void`. */
  drawTool = () => {};
  onView = () => {};
  onTrouble = () => {};
  #pixelQuery = "";
  #frame = 0;
  #marks = new Map();

  constructor(canvas) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d", { alpha: false });
    const common = { arrived: (tile) => this.#arrived(tile), failed: (error) => this.#failed(error) };
    this.pixels = new TileCache({ ...common, limit: PIXEL_TILES, load: (...tile) => this.#loadPixels(...tile) });
    this.labels = new TileCache({ ...common, limit: LABEL_TILES, load: (...tile) => this.#loadLabels(...tile) });
    new ResizeObserver(() => this.#resize()).observe(canvas);
    this.#resize();
  }

  /** Shows an image as /api/images/I describes it, from its first tile on; null shows nothing. */
  show(image) {
    this.image = image;
    this.pixels.clear();
    this.labels.clear();
    this.objects = new Map();
    this.#marks.clear();
    this.selected = this.selectedAt = this.hovered = null;
    if (image) this.viewport.show(image);
    this.redraw();
  }

  setPixelQuery(query) {
    if (query === this.#pixelQuery) return;
    this.#pixelQuery = query;
    this.pixels.expire();
    this.redraw();
  }

  /** What is known of the objects by now: id to { confirmed, class }. */
  setObjects(objects) {
    this.objects = objects;
    this.restyle();
  }

  setStyle(style) {
    this.style = { ...this.style, ...style };
    this.restyle();
  }

  restyle() {
    for (const tile of this.labels.values()) this.#repaint(tile);
    this.redraw();
  }

  /** Labels within boxes of the image have changed, or all of them where there are no boxes. */
  expireLabels(boxes) {
    const tile = this.image.tile;
    const touches = ({ level, row, column }) => {
      const side = tile * 2 ** level;
      return boxes.some(
        ([top, left, bottom, right]) =>
          top < (row + 1) * side && bottom > row * side && left < (column + 1) * side && right > column * side,
      );
    };
    this.labels.expire(boxes ? touches : undefined);
    this.redraw();
  }

  /** Waits until all labels on the screen are drawn as they are now; at most some seconds. */
  async labelsSettle() {
    for (let frame = 0; frame < 300; frame += 1) {
      await new Promise((resolve) => requestAnimationFrame(resolve));
      if (!this.#frame && this.labels.settled) return;
    }
  }

  /** The label at (row, column) of the image, as far as it is on the screen; 0 is background or unknown. */
  idAt([row, column]) {
    if (!this.image || !this.viewport.contains([row, column])) return 0;
    for (let level = 0; level < this.image.levels; level += 1) {
      const side = this.image.tile * 2 ** level;
      const tile = this.labels.peek(level, Math.floor(row / side), Math.floor(column / side));
      if (!tile) continue;
      const y = Math.min(Math.floor((row % side) / 2 ** level), tile.height - 1);
      const x = Math.min(Math.floor((column % side) / 2 ** level), tile.width - 1);
      return Math.max(tile.data[y * tile.width + x], 0);
    }
    return 0;
  }

  get level() {
    return this.image ? this.viewport.level(this.image.levels) : 0;
  }

  redraw() {
    if (this.#frame) return;
    this.#frame = requestAnimationFrame(() => {
      this.#frame = 0;
      this.#draw();
    });
  }

  #loadPixels(level, row, column, signal) {
    const query = this.#pixelQuery;
    return getPixels(`/api/images/${this.image.index}/pixels/${level}/${row}/${column}${query}`, signal).then((bitmap) => ({
      bitmap,
      close: () => bitmap.close(),
    }));
  }

  #loadLabels(level, row, column, signal) {
    return getLabels(`/api/images/${this.image.index}/labels/${level}/${row}/${column}?version=${this.image.version}`, signal);
  }

  #arrived(tile) {
    if (tile.data) {
      this.#repaint(tile);
      this.#marks.clear();
      for (const [down, right] of AROUND) {
        const other = this.labels.peek(tile.level, tile.row + down, tile.column + right);
        if (other) this.#repaint(other);
      }
    }
    this.redraw();
  }

  #failed(error) {
    this.onTrouble(error);
    this.redraw();
  }

  #repaint(tile) {
    tile.painted = null;
    tile.blocks = [];
  }

  #resize() {
    const ratio = window.devicePixelRatio || 1;
    this.canvas.width = Math.max(Math.round(this.canvas.clientWidth * ratio), 1);
    this.canvas.height = Math.max(Math.round(this.canvas.clientHeight * ratio), 1);
    this.ratio = ratio;
    this.viewport.resize(this.canvas.width, this.canvas.height);
    this.redraw();
  }

  #draw() {
    const { context, viewport, image } = this;
    const moving = viewport.step();
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.fillStyle = getComputedStyle(this.canvas.parentElement).backgroundColor;
    context.fillRect(0, 0, this.canvas.width, this.canvas.height);
    if (!image) return;
    const level = this.level;
    const box = viewport.box;
    const tiles = tilesOf(box, level, image.tile, image.height, image.width);
    this.#drawPixels(level, tiles);
    const late = this.#drawLabels(level, tiles);
    context.setTransform(1, 0, 0, 1, 0, 0);
    this.drawTool(context, viewport);
    this.#want(level, tiles);
    this.onView(box);
    if (moving || late) this.redraw();
  }

  #want(level, tiles) {
    const coarsest = this.image.levels - 1;
    const here = tiles.map(([row, column]) => [level, row, column]);
    this.pixels.want(level === coarsest ? here : [[coarsest, 0, 0], ...here]);
    this.labels.want(here);
  }

  /** The transformation under which pixels of a tile are drawn; its corner is put on a pixel of the screen, so that tiles show no seam. */
  #place(tile) {
    const side = this.image.tile * 2 ** tile.level;
    const scale = this.viewport.scale * 2 ** tile.level;
    const [x, y] = this.viewport.toScreen([tile.row * side, tile.column * side]);
    this.context.setTransform(scale, 0, 0, scale, x, y);
  }

  #drawPixels(level, tiles) {
    const { context, viewport, image } = this;
    context.imageSmoothingEnabled = viewport.scale * 2 ** level < 3;
    const missing = tiles.some(([row, column]) => !this.pixels.peek(level, row, column));
    if (missing)
      // What is there of coarser levels stands in for what is on its way.
      for (let coarse = image.levels - 1; coarse > level; coarse -= 1)
        for (const [row, column] of tilesOf(viewport.box, coarse, image.tile, image.height, image.width)) this.#drawBitmap(coarse, row, column);
    for (const [row, column] of tiles) this.#drawBitmap(level, row, column);
  }

  #drawBitmap(level, row, column) {
    const tile = this.pixels.get(level, row, column);
    if (!tile) return;
    const side = this.image.tile * 2 ** level;
    const [x, y] = this.viewport.toScreen([row * side, column * side]).map(Math.round);
    const end = this.viewport.toScreen([
      Math.min((row + 1) * side, this.image.height),
      Math.min((column + 1) * side, this.image.width),
    ]);
    this.context.setTransform(1, 0, 0, 1, 0, 0);
    this.context.drawImage(tile.bitmap, x, y, Math.round(end[0]) - x, Math.round(end[1]) - y);
  }

  /** Whether bitmaps wait for another frame. */
  #drawLabels(level, tiles) {
    const { context, viewport } = this;
    const sharp = level === 0 && viewport.scale >= SHARP;
    const style = { ...this.style, outline: this.style.outline && !sharp };
    const name = JSON.stringify(style);
    const until = performance.now() + PAINTING;
    let late = false;
    const present = tiles.map((place) => this.labels.get(level, ...place)).filter(Boolean);
    context.imageSmoothingEnabled = false;
    for (const tile of present) {
      if (tile.painted !== name) {
        if (performance.now() < until) {
          paintTile(tile, neighbours(this.labels, tile), this.objects, style);
          tile.painted = name;
        } else late = true;
      }
      this.#place(tile);
      if (tile.canvas) context.drawImage(tile.canvas, 0, 0);
    }
    if (sharp && this.style.outline) for (const tile of present) this.#drawOutlines(tile);
    for (const [id, strength] of [[this.hovered, 0.75], [this.selected, 1]]) if (id) for (const tile of present) this.#mark(tile, id, strength);
    return late;
  }

  #drawOutlines(tile) {
    const { context, viewport, ratio } = this;
    this.#place(tile);
    const [top, left] = [viewport.toImage(0, 0), [tile.row * this.image.tile, tile.column * this.image.tile]].reduce(([a, b], [c, d]) => [a - c, b - d]);
    const seen = [top, left, top + viewport.height / viewport.scale, left + viewport.width / viewport.scale];
    const width = (1.6 * ratio) / viewport.scale;
    context.lineCap = "square";
    eachOutline(tile, neighbours(this.labels, tile), this.objects, this.style.by, seen, (path, colour) => {
      context.strokeStyle = "rgb(0 0 0 / .55)";
      context.lineWidth = width * 2.2;
      context.stroke(path);
      context.strokeStyle = colour;
      context.lineWidth = width;
      context.stroke(path);
    });
  }

  /** The outline of the object under the pointer, or of the selected one. */
  #mark(tile, id, strength) {
    const key = `${id} ${TileCache.key(tile.level, tile.row, tile.column)}`;
    if (!this.#marks.has(key)) {
      if (this.#marks.size > 200) this.#marks.clear();
      this.#marks.set(key, objectPath(tile, id));
    }
    const path = this.#marks.get(key);
    if (!path) return;
    const { context } = this;
    this.#place(tile);
    const width = this.ratio / (this.viewport.scale * 2 ** tile.level);
    context.lineCap = "square";
    if (strength === 1) {
      context.strokeStyle = "rgb(0 0 0 / .7)";
      context.lineWidth = width * 4;
      context.stroke(path);
      context.strokeStyle = "#fff";
      context.lineWidth = width * 2;
    } else {
      context.strokeStyle = `rgb(${colourOf(id, this.objects.get(id), this.style.by).join(" ")})`;
      context.lineWidth = width * 3;
    }
    context.globalAlpha = strength;
    context.stroke(path);
    context.globalAlpha = 1;
  }
}
