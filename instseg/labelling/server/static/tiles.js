// Tiles of an image by level, row and column: fetched for what is on the screen, kept within bounds.

const PARALLEL = 5;
/** Milliseconds before a tile that could not be fetched is asked for again. */
const REST = 2000;

/** The tiles of `level` that a box of the image touches: [row, column] each, those of its middle first. */
export function tilesOf(box, level, tile, height, width) {
  const side = tile * 2 ** level;
  const [top, left, bottom, right] = box;
  const tiles = [];
  for (let row = Math.floor(top / side); row * side < Math.min(bottom, height); row += 1)
    for (let column = Math.floor(left / side); column * side < Math.min(right, width); column += 1) tiles.push([row, column]);
  const middle = [(top + bottom) / 2 / side - 0.5, (left + right) / 2 / side - 0.5];
  const distance = ([row, column]) => (row - middle[0]) ** 2 + (column - middle[1]) ** 2;
  return tiles.sort((one, other) => distance(one) - distance(other));
}

/**
 * A cache of tiles. `load(level, row, column, signal)` fetches one, `arrived(tile)` is called for each that came, `failed(error)` a
 * while after one did not. A tile out of date stays until a new one is there, so that nothing flickers.
 */
export class TileCache {
  #tiles = new Map();
  #wanted = [];
  #loading = new Map();
  #load;
  #arrived;
  #failed;
  #limit;
  #resting = new Map();
  #generation = 0;
  #tick = 0;

  constructor({ load, arrived, failed, limit }) {
    this.#load = load;
    this.#arrived = arrived;
    this.#failed = failed;
    this.#limit = limit;
  }

  static key(level, row, column) {
    return `${level}/${row}/${column}`;
  }

  get(level, row, column) {
    const tile = this.#tiles.get(TileCache.key(level, row, column));
    if (tile) tile.used = this.#tick += 1;
    return tile;
  }

  peek(level, row, column) {
    return this.#tiles.get(TileCache.key(level, row, column));
  }

  values() {
    return this.#tiles.values();
  }

  clear() {
    for (const controller of this.#loading.values()) controller.abort();
    for (const tile of this.#tiles.values()) tile.close?.();
    this.#loading.clear();
    this.#tiles.clear();
    this.#resting.clear();
    this.#wanted = [];
    this.#generation += 1;
  }

  /** All tiles are out of date, or those that `touches(tile)` is true of. What is on its way may be of before: it is asked for again. */
  expire(touches = () => true) {
    for (const tile of this.#tiles.values()) if (touches(tile)) tile.stale = true;
    for (const [key, controller] of this.#loading) {
      const [level, row, column] = key.split("/").map(Number);
      if (!touches({ level, row, column })) continue;
      controller.abort();
      this.#loading.delete(key);
    }
  }

  /** Which tiles [level, row, column] are wanted now, the most urgent first; others that wait are dropped. */
  want(tiles) {
    const keys = new Set(tiles.map((one) => TileCache.key(...one)));
    for (const [key, controller] of this.#loading) {
      if (keys.has(key)) continue;
      controller.abort();
      this.#loading.delete(key);
    }
    this.#wanted = tiles.filter((one) => this.#missing(...one));
    this.#next();
  }

  /** Whether all wanted tiles are here and up to date. */
  get settled() {
    return this.#loading.size === 0 && this.#wanted.length === 0;
  }

  #missing(level, row, column) {
    const tile = this.peek(level, row, column);
    const key = TileCache.key(level, row, column);
    return (!tile || tile.stale) && !this.#loading.has(key) && !(performance.now() < this.#resting.get(key));
  }

  #next() {
    while (this.#loading.size < PARALLEL && this.#wanted.length) this.#fetch(...this.#wanted.shift());
  }

  async #fetch(level, row, column) {
    const key = TileCache.key(level, row, column);
    const controller = new AbortController();
    const generation = this.#generation;
    this.#loading.set(key, controller);
    try {
      const tile = await this.#load(level, row, column, controller.signal);
      if (generation !== this.#generation || this.#loading.get(key) !== controller) {
        tile.close?.();
        return;
      }
      this.#tiles.get(key)?.close?.();
      this.#tick += 1;
      Object.assign(tile, { level, row, column, stale: false, used: this.#tick });
      this.#tiles.set(key, tile);
      this.#loading.delete(key);
      this.#bound();
      this.#arrived(tile);
    } catch (error) {
      if (this.#loading.get(key) === controller) this.#loading.delete(key);
      if (error.name !== "AbortError") {
        this.#resting.set(key, performance.now() + REST);
        setTimeout(() => this.#failed(error), REST);
      }
    }
    this.#next();
  }

  #bound() {
    if (this.#tiles.size <= this.#limit) return;
    const oldest = [...this.#tiles].sort(([, one], [, other]) => one.used - other.used);
    for (const [key, tile] of oldest.slice(0, this.#tiles.size - this.#limit)) {
      tile.close?.();
      this.#tiles.delete(key);
    }
  }
}
