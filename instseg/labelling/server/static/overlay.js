// Labels to what is drawn over the image: bitmaps of fills and thin outlines, and paths of sharp outlines for larger scales.

const BLOCK = 128;

/** Colours [red, green, blue] by what an object is; Okabe and Ito's, which the colour-blind tell apart. */
export const STATE_COLOURS = { model: [255, 176, 0], confirmed: [47, 211, 201] };
export const CLASS_COLOURS = [
  [86, 180, 233], [230, 120, 20], [0, 190, 130], [240, 228, 66], [213, 80, 80], [204, 121, 167], [150, 130, 255], [160, 200, 60], [200, 200, 200],
];
const DOUBTFUL = [255, 77, 61];
const UNCLASSED = [170, 176, 186];
const VEIL = [150, 152, 165];

/** The colour of an object by what the page colours by. */
export function colourOf(id, object, by) {
  if (object?.doubtful) return DOUBTFUL;
  if (by === "class") return object?.class ? CLASS_COLOURS[(object.class - 1) % CLASS_COLOURS.length] : UNCLASSED;
  if (by === "object") return hue((id * 0.618034) % 1, (id * 0.377) % 1);
  return object && !object.confirmed ? STATE_COLOURS.model : STATE_COLOURS.confirmed;
}

function hue(turn, light) {
  const channel = (shift) => Math.round(255 * (0.45 + 0.2 * light + 0.35 * Math.cos(2 * Math.PI * (turn + shift))));
  return [channel(0), channel(-1 / 3), channel(1 / 3)];
}

const pack = ([red, green, blue], alpha) => ((Math.round(alpha * 255) << 24) | (blue << 16) | (green << 8) | red) >>> 0;

/** The labels around a pixel that lies outside of `tile`, which are in its neighbours; the pixel's own where they are not here. */
export function neighbours(cache, tile) {
  const side = (down, right) => cache.peek(tile.level, tile.row + down, tile.column + right);
  const [above, below, before, after] = [side(-1, 0), side(1, 0), side(0, -1), side(0, 1)];
  return {
    above: above && ((x) => above.data[(above.height - 1) * above.width + x]),
    below: below && ((x) => below.data[x]),
    before: before && ((y) => before.data[y * before.width + before.width - 1]),
    after: after && ((y) => after.data[y * after.width]),
  };
}

/**
 * Draws a tile's labels into its own canvas: fills where `style.fill` is above 0, outlines of one pixel where `style.outline`, a veil
 * where nothing is known, hatches on what is doubtful. One pass over the pixels; colours are looked up once an object.
 */
export function paintTile(tile, around, objects, style) {
  const { data, height, width } = tile;
  tile.canvas ??= Object.assign(document.createElement("canvas"), { width, height });
  const context = tile.canvas.getContext("2d");
  const image = context.createImageData(width, height);
  const pixels = new Uint32Array(image.data.buffer);
  const colours = new Map();
  const veil = [pack(VEIL, 0.22), pack(VEIL, 0.6)];
  let last = 0;
  let colour = [0, 0];
  for (let y = 0, i = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1, i += 1) {
      const id = data[i];
      if (id === 0) continue;
      if (id < 0) {
        pixels[i] = veil[((x + y) & 15) < 2 ? 1 : 0];
        continue;
      }
      if (id !== last) {
        last = id;
        colour = colours.get(id);
        if (!colour) {
          const rgb = colourOf(id, objects.get(id), style.by);
          const doubtful = objects.get(id)?.doubtful;
          colour = [pack(rgb, style.fill), pack(rgb, 1), doubtful && pack(rgb, 0.75)];
          colours.set(id, colour);
        }
      }
      pixels[i] = colour[2] && ((x - y) & 7) < 2 ? colour[2] : colour[0];
      if (!style.outline) continue;
      const up = y > 0 ? data[i - width] : around.above ? around.above(x) : id;
      const down = y < height - 1 ? data[i + width] : around.below ? around.below(x) : id;
      const back = x > 0 ? data[i - 1] : around.before ? around.before(y) : id;
      const on = x < width - 1 ? data[i + 1] : around.after ? around.after(y) : id;
      if (up !== id || down !== id || back !== id || on !== id) pixels[i] = colour[1];
    }
  }
  context.putImageData(image, 0, 0);
}

/** The outlines of a block of a tile, one Path2D a colour, in pixels of the tile. Edges are those above and before each pixel. */
function blockPaths(tile, around, objects, by, top, left) {
  const { data, height, width } = tile;
  const paths = new Map();
  const path = (one, other) => {
    const id = Math.max(one, 0) && (!(other > 0) || objects.get(one)?.confirmed) ? one : Math.max(other, one);
    const colour = `rgb(${colourOf(id, objects.get(id), by).join(" ")})`;
    if (!paths.has(colour)) paths.set(colour, new Path2D());
    return paths.get(colour);
  };
  const bottom = Math.min(top + BLOCK, height);
  const right = Math.min(left + BLOCK, width);
  const differ = (one, other) => one !== other && (one > 0 || other > 0);
  for (let y = top; y < bottom; y += 1)
    for (let x = left; x < right; x += 1) {
      const id = data[y * width + x];
      const up = y > 0 ? data[(y - 1) * width + x] : around.above ? around.above(x) : id;
      if (differ(id, up)) edge(path(id, up), x, y, 1, 0);
      const back = x > 0 ? data[y * width + x - 1] : around.before ? around.before(y) : id;
      if (differ(id, back)) edge(path(id, back), x, y, 0, 1);
    }
  return paths;
}

function edge(path, x, y, right, down) {
  path.moveTo(x, y);
  path.lineTo(x + right, y + down);
}

/** Calls `draw(path, colour)` for the outlines within (top, left, bottom, right) of a tile; those of a block are made once. */
export function eachOutline(tile, around, objects, by, [top, left, bottom, right], draw) {
  const columns = Math.ceil(tile.width / BLOCK);
  if (tile.pathsBy !== by) {
    tile.pathsBy = by;
    tile.blocks = [];
  }
  for (let row = Math.max(Math.floor(top / BLOCK), 0); row * BLOCK < Math.min(bottom, tile.height); row += 1)
    for (let column = Math.max(Math.floor(left / BLOCK), 0); column * BLOCK < Math.min(right, tile.width); column += 1) {
      const index = row * columns + column;
      tile.blocks[index] ??= blockPaths(tile, around, objects, by, row * BLOCK, column * BLOCK);
      for (const [colour, path] of tile.blocks[index]) draw(path, colour);
    }
}

/** The outline of one object in a tile, in pixels of the tile, and its fill; null where it is not in there. */
export function objectPath(tile, id) {
  const { data, height, width } = tile;
  const outline = new Path2D();
  let found = false;
  for (let i = data.indexOf(id); i >= 0 && i < data.length; i += 1) {
    if (data[i] !== id) continue;
    found = true;
    const y = Math.floor(i / width);
    const x = i - y * width;
    if (y > 0 && data[i - width] !== id) edge(outline, x, y, 1, 0);
    if (y < height - 1 && data[i + width] !== id) edge(outline, x, y + 1, 1, 0);
    if (x > 0 && data[i - 1] !== id) edge(outline, x, y, 0, 1);
    if (x < width - 1 && data[i + 1] !== id) edge(outline, x + 1, y, 0, 1);
  }
  return found ? outline : null;
}
