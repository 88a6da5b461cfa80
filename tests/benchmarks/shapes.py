"""Draw images of random shapes in random looks, to learn from what outlines are before any real image is seen.

    python tests/benchmarks/shapes.py OUT [--count 1000] [--seed 0] [--varied] [--picture FILE]

Writes OUT/images and OUT/labels, 8-bit and 384 x 384, and on request a picture of the first few. Drawn by chance, and
the same in all of an image, are how large objects are, whether round, spindles, stars or the cells of a tissue, how
they bend and wobble, touch or keep apart; and what makes them visible: their gray, a dome, a rim, a halo around them,
relief as by light from one side, grain, a spot inside. What has no label lies about, too: specks, rings, filaments,
bands, blots out of focus. Nothing imitates any particular set of images.

With `--varied` sizes differ much more within an image, objects are packed as grains and pebbles are, and there are
further looks: inclusions, stripes of each object's own direction, light from one side with shadows.
"""

import argparse
import functools
import multiprocessing
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage
from scipy.spatial import KDTree

SIZE = 384
_DIAMETERS = 12, 40
_SMALLEST = 30
_SHOWN, _PART = 6, 160


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("--count", type=int, default=1000, help="images")
    parser.add_argument("--seed", type=int, default=0, help="image I depends on this and I only")
    parser.add_argument("--varied", action="store_true", help="draw more kinds of objects and looks")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw parts of the first few")
    options = parser.parse_args()
    write(options.out, options.count, options.seed, varied=options.varied)
    if options.picture is not None:
        picture(options.out, options.picture)


def write(out: Path, count: int, seed: int, *, varied: bool = False) -> None:
    """Write images and labels that are not there yet."""
    for part in ("images", "labels"):
        (out / part).mkdir(parents=True, exist_ok=True)
    with multiprocessing.Pool() as pool:
        list(pool.imap_unordered(functools.partial(_write_one, out, seed, varied), range(count), chunksize=8))


def picture(folder: Path, target: Path) -> None:
    """Draw a part of each of the first few images above its outlines."""
    from instseg.io.images import read_image, write_picture
    from instseg.io.label_images import read_labels
    from instseg.visualization.pictures import overlay, to_rgb8

    columns = []
    for path in sorted((folder / "images").iterdir())[:_SHOWN]:
        image, labels = read_image(path)[:_PART, :_PART], read_labels(folder / "labels" / path.name)[:_PART, :_PART]
        outlined = overlay(image, labels)
        enlarged = len(outlined) // len(image)
        columns.append(np.vstack([to_rgb8(image).repeat(enlarged, 0).repeat(enlarged, 1), outlined]))
    write_picture(target, np.hstack(columns))


def _write_one(out: Path, seed: int, varied: bool, number: int) -> None:
    name = f"shapes-{number:04}.png"
    if (out / "labels" / name).exists():
        return
    image, labels = draw(np.random.default_rng([seed, number]), varied)
    Image.fromarray(image).save(out / "images" / name)
    Image.fromarray(labels.astype(np.uint16)).save(out / "labels" / name)


def draw(rng, varied=False):
    """Return an image (384, 384) uint8 and its labels, int32."""
    diameter = log_uniform(rng, *_DIAMETERS)
    kind = rng.random()
    if kind < 0.15:
        labels = tissue(rng, diameter)
    elif varied and kind < 0.4:
        labels = grains(rng, diameter)
    else:
        labels = bodies(rng, diameter, packed=varied and kind < 0.65)
    labels = in_one_piece(labels)
    return render(rng, labels, diameter, varied), labels


def bodies(rng, diameter, *, packed=False):
    """Draw single bodies: discs in a row along arms that bend and taper, with an outline that wobbles.

    Those that are packed are round, differ much in size, and the small ones fill what the large ones leave.
    """
    labels = np.zeros((SIZE, SIZE), np.int32)
    count = int(rng.uniform(0.15, 0.75) * SIZE**2 / (np.pi / 4 * diameter**2))
    usual_arms = rng.choice([0, 1, 2, 3], p=[0.35, 0.2, 0.3, 0.15])
    length, bend, spread = rng.uniform(0.3, 2.2), rng.uniform(0, 1.2), rng.uniform(0.05, 0.25)
    sizes = np.zeros(0)
    if packed:
        usual_arms, count, spread = 0, 2 * count, rng.uniform(0.25, 0.6)
        sizes = np.sort(diameter * np.exp(rng.normal(0, spread, count)))[::-1]
    apart, aligned, direction = packed or rng.random() < 0.5, rng.random() < 0.3, rng.uniform(0, 2 * np.pi)
    wobble = rng.uniform(0, 0.2) * noise(rng, max(diameter / rng.uniform(1.5, 4), 2.0))
    rows, columns = np.mgrid[:SIZE, :SIZE].astype(np.float32)
    number = 0
    for index in range(count):
        own = sizes[index] if packed else diameter * np.exp(rng.normal(0, spread))
        arms = usual_arms if packed or rng.random() < 0.7 else rng.integers(0, 4)
        angle = rng.normal(direction, 0.15) if aligned else rng.uniform(0, 2 * np.pi)
        discs = body(rng, own, arms, length, bend, angle)
        radius = discs[0, 2]
        low = np.clip(np.floor((discs[:, :2] - 1.5 * discs[:, 2:]).min(axis=0) - 2).astype(int), 0, SIZE)
        high = np.clip(np.ceil((discs[:, :2] + 1.5 * discs[:, 2:]).max(axis=0) + 3).astype(int), 0, SIZE)
        window = np.s_[low[0] : high[0], low[1] : high[1]]
        distance = wobble[window] * radius
        if not distance.size:
            continue
        distance = distance + np.min(
            [np.hypot(rows[window] - row, columns[window] - column) - reach for row, column, reach in discs], axis=0
        )
        inside = distance < 0
        if not inside.any():
            continue
        if apart:
            if np.mean(labels[window][inside] > 0) > 0.25:
                continue
            inside &= labels[window] == 0
        number += 1
        labels[window][inside] = number
    return labels


def body(rng, diameter, arms, length, bend, angle):
    """Return the discs (N, 3) of a body: row, column, radius."""
    middle = rng.uniform(-0.02 * SIZE, 1.02 * SIZE, 2)
    radius = diameter / 2 * (1 if arms == 0 else rng.uniform(0.45, 0.8))
    discs = [(*middle, radius)]
    if arms == 0:
        reach = rng.uniform(0, 0.6) * radius
        for share in (-1, -0.5, 0.5, 1):
            along = share * reach * np.array([np.sin(angle), np.cos(angle)])
            discs.append((*(middle + along), radius * (1 - 0.35 * abs(share))))
    for arm in range(arms):
        heading = angle + 2 * np.pi * arm / arms + rng.normal(0, 0.25)
        step = length * diameter * rng.uniform(0.4, 1.2) / 10
        tip, taper, turn = rng.uniform(0.1, 0.6) * radius, rng.uniform(0.5, 1), rng.normal(0, bend) / 10
        place = middle
        for number in range(1, 11):
            place = place + step * np.array([np.sin(heading), np.cos(heading)])
            heading += turn
            discs.append((*place, radius + (tip - radius) * (number / 10) ** taper))
    return np.array(discs)


def tissue(rng, diameter):
    """Draw cells side by side: what is nearest to random points, some of them left out."""
    points = rng.uniform(-0.1 * SIZE, 1.1 * SIZE, (int((1.2 * SIZE) ** 2 / diameter**2), 2))
    if rng.random() < 0.7:
        points = points[KDTree(points).query(points, 2)[0][:, 1] > 0.45 * diameter]
    warp, stretch = rng.uniform(0, 0.25) * diameter, np.exp(rng.uniform(-0.5, 0.5))
    rows, columns = np.mgrid[:SIZE, :SIZE].astype(np.float32)
    places = np.stack([rows + warp * noise(rng, diameter), stretch * (columns + warp * noise(rng, diameter))], -1)
    distance, nearest = KDTree(points * [1, stretch]).query(places.reshape(-1, 2), 2)
    gap = rng.uniform(0, 4) if rng.random() < 0.6 else 0
    labels = np.where(distance[:, 1] - distance[:, 0] > gap, nearest[:, 0] + 1, 0).reshape(SIZE, SIZE)
    left_out = rng.random(len(points) + 1) < rng.uniform(0, 0.6)
    return np.where(left_out[labels], 0, labels).astype(np.int32)


def grains(rng, diameter):
    """Draw grains that lie side by side with gaps: large and small ones, angular or rounded."""
    points = rng.uniform(-0.1 * SIZE, 1.1 * SIZE, (int((1.2 * SIZE) ** 2 / diameter**2), 2))
    reach = np.exp(rng.normal(0, rng.uniform(0.1, 0.45), len(points)))
    warp, neighbours = rng.uniform(0, 0.15) * diameter, 8
    places = np.stack([np.mgrid[:SIZE, :SIZE][axis] + warp * noise(rng, diameter) for axis in (0, 1)], -1)
    distance, near = KDTree(points).query(places.reshape(-1, 2), neighbours)
    # Cells of a diagram in which distances are divided by how far a point reaches.
    scaled = distance / reach[near]
    order = np.argsort(scaled, axis=1)[:, :2]
    first, second = np.take_along_axis(scaled, order, 1).T
    owner = np.take_along_axis(near, order[:, :1], 1)[:, 0].reshape(SIZE, SIZE)
    clearance = ((second - first) / (second + first)).reshape(SIZE, SIZE).astype(np.float32)
    if rng.random() < 0.6:
        clearance = ndimage.gaussian_filter(clearance, rng.uniform(0.05, 0.2) * diameter)
    left_out = rng.random(len(points)) < rng.uniform(0, 0.4)
    shown = (clearance > rng.uniform(0.03, 0.2)) & ~left_out[owner]
    return np.where(shown, owner + 1, 0).astype(np.int32)


def in_one_piece(labels):
    """Keep the largest piece of each object, if it is not too small, and number what is left."""
    found = np.zeros_like(labels)
    number = 0
    for label, window in enumerate(ndimage.find_objects(labels), start=1):
        if window is None:
            continue
        pieces, _ = ndimage.label(labels[window] == label)
        areas = np.bincount(pieces.ravel())[1:]
        if areas.max() >= _SMALLEST:
            number += 1
            found[window][pieces == np.argmax(areas) + 1] = number
    return found


def render(rng, labels, diameter, varied=False):
    """Make labels visible."""
    inner, outer = distances(labels)
    inside = (labels > 0).astype(np.float32)
    variety = rng.uniform(0, 0.5)

    def each(low, high):
        """Return a value for the pixels of each object."""
        return rng.uniform(low, high, labels.max() + 1).astype(np.float32)[labels] * inside

    def differing():
        return each(1 - variety, 1 + variety)

    def sign():
        return rng.choice([-1, 1])

    # Bodies that differ from the ground in gray, or only in their outline and texture.
    plain = rng.random() < 0.6
    image = (rng.uniform(0.3, 1) * sign() if plain else rng.uniform(-0.15, 0.15)) * differing()
    if rng.random() < 0.5:
        image += rng.uniform(-0.6, 0.6) * (1 - np.exp(-inner / (rng.uniform(0.1, 0.5) * diameter))) * differing()
    if rng.random() < (0.4 if plain else 0.9):
        width, depth = rng.uniform(0.7, 3), rng.uniform(0, 3)
        image += rng.uniform(0.3, 1) * sign() * np.exp(-(((inner - depth) / width) ** 2)) * differing()
    if rng.random() < (0.25 if plain else 0.6):
        image += rng.uniform(0.2, 1) * sign() * np.exp(-((outer / rng.uniform(1, 5)) ** 2)) * (1 - inside)
    if rng.random() < 0.2:
        height = ndimage.gaussian_filter(1 - np.exp(-inner / (rng.uniform(0.1, 0.4) * diameter)), rng.uniform(0.5, 1.5))
        down, right = np.gradient(height)
        light = rng.uniform(0, 2 * np.pi)
        image += rng.uniform(1, 4) * (down * np.sin(light) + right * np.cos(light))
    if rng.random() < 0.75:
        image += rng.uniform(-0.5, 0.5) * texture(rng) * each(0.5, 1.5)
    if rng.random() < 0.3:
        spot = inner / (diameter * rng.uniform(0.2, 0.4)) - rng.uniform(0.3, 0.8)
        image += rng.uniform(-0.8, 0.8) * np.clip(3 * spot, 0, 1)
    if rng.random() < 0.2:
        # Some look otherwise than the others, as cells that divide or die.
        other = rng.uniform(0.5, 1.5) * sign() * np.exp(-(((inner - rng.uniform(0, 4)) / rng.uniform(1, 6)) ** 2))
        image += other * (each(0, 1) > rng.uniform(0.7, 0.95))
    if varied:
        image += further_looks(rng, labels, diameter, each)
    ground = clutter(rng, diameter)
    if rng.random() < 0.7:
        ground += rng.uniform(0, 0.25) * texture(rng)
    image += ground * (1 - inside)
    image *= 1 + rng.uniform(0, 0.4) * noise(rng, SIZE / 2)
    image += rng.uniform(0, 0.3) * noise(rng, SIZE / rng.uniform(1.5, 4))
    image = ndimage.gaussian_filter(image, rng.uniform(0.3, 1.3))
    image += rng.uniform(0, 0.35) * (image.std() + 1e-3) * rng.standard_normal(image.shape)
    low, high = np.percentile(image, [0.05, 99.95])
    return (np.clip((image - low) / (high - low + 1e-6), 0, 1) * 255).astype(np.uint8)


def further_looks(rng, labels, diameter, each):
    """Draw what is inside of objects or comes from the light: inclusions, stripes, a lit and a dark side, shadows."""
    inside = labels > 0
    rows, columns = np.mgrid[:SIZE, :SIZE].astype(np.float32)
    image = np.zeros((SIZE, SIZE), np.float32)
    if rng.random() < 0.3:
        blobs = noise(rng, max(diameter * rng.uniform(0.08, 0.35), 1.6)) > rng.uniform(0.7, 1.8)
        image += rng.uniform(-0.9, 0.9) * ndimage.gaussian_filter(blobs.astype(np.float32), 0.6) * each(0.5, 1.5)
    if rng.random() < 0.2:
        angle, period = each(0, np.pi), rng.uniform(2.5, 8)
        along = rows * np.sin(angle) + columns * np.cos(angle) + rng.uniform(0, 2) * noise(rng, diameter)
        image += rng.uniform(0.1, 0.5) * np.sin(2 * np.pi * along / period) * inside
    if rng.random() < 0.35:
        light = rng.uniform(0, 2 * np.pi)
        middles = np.array(ndimage.center_of_mass(inside, labels, np.arange(1, labels.max() + 1))).reshape(-1, 2)
        middle = np.vstack([np.zeros((1, 2)), middles]).astype(np.float32)[labels]
        towards = (rows - middle[..., 0]) * np.sin(light) + (columns - middle[..., 1]) * np.cos(light)
        image += rng.uniform(0.2, 0.9) * np.tanh(2 * towards / diameter) * inside
        if rng.random() < 0.5:
            steps = -np.array([np.sin(light), np.cos(light)]) * rng.uniform(0.05, 0.3) * diameter
            shadow = ndimage.gaussian_filter(ndimage.shift(inside.astype(np.float32), steps, order=1), 1.5)
            image -= rng.uniform(0.2, 0.8) * shadow * ~inside
    return image


def clutter(rng, diameter):
    """Draw what is no object."""
    rows, columns = np.mgrid[:SIZE, :SIZE].astype(np.float32)
    image = np.zeros((SIZE, SIZE), np.float32)

    def strength():
        return rng.uniform(0.3, 1.2) * rng.choice([-1, 1])

    for _ in range(rng.poisson(rng.choice([0, 3, 25]))):
        row, column = rng.integers(0, SIZE, 2)
        radius = rng.uniform(0.5, 0.2 * diameter + 1)
        reach = int(3 * radius + 4)
        window = np.s_[max(row - reach, 0) : row + reach, max(column - reach, 0) : column + reach]
        distance = np.hypot(rows[window] - row, columns[window] - column)
        ring = np.exp(-(((distance - 2 * radius) / radius) ** 2))
        image[window] += strength() * (np.exp(-((distance / radius) ** 2)) - rng.uniform(0, 0.8) * ring)
    if rng.random() < 0.2:
        for _ in range(rng.integers(1, 5)):
            row, column, radius = *rng.integers(0, SIZE, 2), rng.uniform(0.5, 4) * diameter
            distance = np.hypot(rows - row, columns - column) + rng.uniform(0, 3) * noise(rng, diameter)
            image += 0.4 * strength() * np.exp(-(((distance - radius) / rng.uniform(1, 6)) ** 2))
    if rng.random() < 0.3:
        for _ in range(rng.integers(1, 4)):
            angle, shift, width = rng.uniform(0, 2 * np.pi), rng.uniform(-0.5, 0.5) * SIZE, log_uniform(rng, 1, 30)
            across = (rows - SIZE / 2) * np.sin(angle) + (columns - SIZE / 2) * np.cos(angle) - shift
            across += rng.uniform(0, 1.5) * noise(rng, 2 * diameter) * max(width / 5, 1)
            if rng.random() < 0.4:
                across = (across + 1e3 * width) % (width * rng.uniform(2, 5)) + 1e3 * (abs(across) > 5 * width)
            band = 1 / (1 + np.exp(np.clip(2 * (np.abs(across) - width / 2), -30, 30)))
            rim = np.exp(-(((np.abs(across) - width / 2) / rng.uniform(1, 3)) ** 2))
            image += band * (strength() * rng.uniform(0, 1) + rng.uniform(0, 0.8) * texture(rng)) + strength() * rim
    if rng.random() < 0.25:
        for _ in range(rng.integers(1, 7)):
            row, column, radius = *rng.integers(0, SIZE, 2), rng.uniform(0.3, 1.2) * diameter
            distance = np.hypot(rows - row, columns - column) + 0.4 * radius * noise(rng, diameter)
            blot = 1 / (1 + np.exp((distance - radius) / (0.2 * radius)))
            image += blot * (0.3 * strength() + rng.uniform(0, 0.25) * texture(rng))
    if rng.random() < 0.2:
        lines = np.abs(noise(rng, rng.uniform(1, 4) * diameter))
        image += 0.6 * strength() * np.exp(-((lines / rng.uniform(0.01, 0.06)) ** 2))
    return image


def distances(labels):
    """Return how deep inside its object a pixel lies, and how far from any, in pixels; 0 where it is not so."""
    edge = np.zeros(labels.shape, bool)
    for axis in (0, 1):
        along, found = np.swapaxes(labels, 0, axis), np.swapaxes(edge, 0, axis)
        different = along[1:] != along[:-1]
        found[1:] |= different & (along[1:] > 0)
        found[:-1] |= different & (along[:-1] > 0)
    inner, outer = ndimage.distance_transform_edt(~edge) + 0.5, ndimage.distance_transform_edt(labels == 0)
    return np.where(labels > 0, inner, 0).astype(np.float32), outer.astype(np.float32)


def texture(rng):
    """Return noise of one or two sizes of grain, perhaps folded or cut."""
    grain = log_uniform(rng, 2, 24)
    found = noise(rng, grain)
    if rng.random() < 0.6:
        found = found + rng.uniform(0.3, 1) * noise(rng, max(grain / 2.5, 1.0))
    if rng.random() < 0.3:
        found = np.abs(found) * rng.choice([-1, 1])
    if rng.random() < 0.3:
        found = 2 * np.maximum(found - rng.uniform(0.3, 1.5), 0) * rng.choice([-1, 1])
    return found - found.mean()


def noise(rng, grain):
    """Return smooth noise (384, 384) of mean 0 and deviation 1, whose features measure about `grain` pixels."""
    if grain <= 1.5:
        return rng.standard_normal((SIZE, SIZE), np.float32)
    coarse = rng.standard_normal((int(SIZE / grain) + 5,) * 2).astype(np.float32)
    fine = ndimage.zoom(coarse, grain, order=3)
    top, left = ((length - SIZE) // 2 for length in fine.shape)
    fine = fine[top : top + SIZE, left : left + SIZE]
    return (fine - fine.mean()) / (fine.std() + 1e-6)


def log_uniform(rng, low, high):
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


if __name__ == "__main__":
    main()
