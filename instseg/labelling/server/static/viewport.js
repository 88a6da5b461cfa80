// Where the image is on the screen: `scale` is device pixels per image pixel, (`left`, `top`) the image's corner in device pixels.

const MAX_SCALE = 64;
const EASE = 0.35;

export class Viewport {
  scale = 1;
  left = 0;
  top = 0;
  width = 1;
  height = 1;
  #image = { height: 1, width: 1 };
  #target = null;
  #fitted = true;

  resize(width, height) {
    const fitted = this.#fitted;
    this.left += (width - this.width) / 2;
    this.top += (height - this.height) / 2;
    this.width = width;
    this.height = height;
    if (fitted) this.fit();
  }

  show(image) {
    this.#image = image;
    this.fit();
  }

  get fitScale() {
    return Math.min(this.width / this.#image.width, this.height / this.#image.height) * 0.97;
  }

  fit() {
    this.#target = null;
    this.scale = Math.min(this.fitScale, MAX_SCALE);
    this.left = (this.width - this.#image.width * this.scale) / 2;
    this.top = (this.height - this.#image.height * this.scale) / 2;
    this.#fitted = true;
  }

  /** Zooms so that the image's point under (x, y) stays there; `smooth` has `step` go there in some frames. */
  zoom(factor, x, y, smooth) {
    const from = this.#target ? this.#target.scale : this.scale;
    const scale = Math.min(Math.max(from * factor, this.fitScale / 2, 0.002), MAX_SCALE);
    this.#fitted = false;
    this.#target = { scale, x, y };
    if (!smooth) this.#go(scale, x, y);
  }

  #go(scale, x, y) {
    this.left = x - ((x - this.left) * scale) / this.scale;
    this.top = y - ((y - this.top) * scale) / this.scale;
    this.scale = scale;
    if (this.#target && scale === this.#target.scale) this.#target = null;
    this.#keepInSight();
  }

  /** One frame of a smooth zoom; whether there are more to come. */
  step() {
    if (!this.#target) return false;
    const { scale, x, y } = this.#target;
    const near = Math.abs(Math.log(scale / this.scale)) < 0.004;
    this.#go(near ? scale : this.scale * (scale / this.scale) ** EASE, x, y);
    return this.#target !== null;
  }

  pan(dx, dy) {
    this.#target = null;
    this.#fitted = false;
    this.left += dx;
    this.top += dy;
    this.#keepInSight();
  }

  #keepInSight() {
    const margin = 60;
    this.left = Math.min(Math.max(this.left, margin - this.#image.width * this.scale), this.width - margin);
    this.top = Math.min(Math.max(this.top, margin - this.#image.height * this.scale), this.height - margin);
  }

  /** The image's (row, column) at a place on the screen, in device pixels. */
  toImage(x, y) {
    return [(y - this.top) / this.scale, (x - this.left) / this.scale];
  }

  /** The place on the screen of the image's (row, column). */
  toScreen([row, column]) {
    return [this.left + column * this.scale, this.top + row * this.scale];
  }

  contains([row, column]) {
    return row >= 0 && column >= 0 && row < this.#image.height && column < this.#image.width;
  }

  /** The part of the image on the screen: [top, left, bottom, right]. */
  get box() {
    const [top, left] = this.toImage(0, 0);
    const [bottom, right] = this.toImage(this.width, this.height);
    const within = (value, end) => Math.min(Math.max(Math.round(value), 0), end);
    return [
      within(Math.floor(top), this.#image.height),
      within(Math.floor(left), this.#image.width),
      within(Math.ceil(bottom), this.#image.height),
      within(Math.ceil(right), this.#image.width),
    ];
  }

  /** The level whose pixels are not smaller than those of the screen by more than a half. */
  level(levels) {
    return Math.min(Math.max(Math.floor(Math.log2(1 / this.scale) + 0.01), 0), levels - 1);
  }
}
