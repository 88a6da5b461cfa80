"""Count the instances that are the same whether an image is segmented in one piece or in tiles.

    python tests/benchmarks/seams.py MODEL IMAGES [--overlap PIXELS ...]

Images of a folder are cut into as small tiles as the overlap allows, so that there are many seams. An instance is the
same if its IoU with one of the whole image is 0.99 and more.
"""

import argparse
from pathlib import Path

from instseg.inference.options import PredictOptions
from instseg.inference.tiled import segment
from instseg.io.folders import find_images
from instseg.io.images import read_image
from instseg.io.source import ArrayReader
from instseg.labels.matching import match
from instseg.settings import TileSettings
from instseg.tiling.sizes import plan_tiles

_CORE = 176


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, metavar="MODEL")
    parser.add_argument("images", type=Path, metavar="IMAGES")
    parser.add_argument("--overlap", type=int, nargs="+", help="by default what is the tool's default")
    options = parser.parse_args()
    from instseg.inference.model import load

    model = load(options.model)
    maps = model.objective.map_count
    # Of an image that no memory holds: the overlap does not depend on the size.
    default = plan_tiles((100_000, 100_000), model.settings, TileSettings(), maps=maps).overlap[0]
    for overlap in options.overlap or [default]:
        same = matched = whole = cut = tiles = 0
        for path in find_images([options.images]):
            image = read_image(path)
            tiles_of = TileSettings(tile=2 * overlap + _CORE, overlap=overlap)
            if (count := len(plan_tiles(image.shape[:2], model.settings, tiles_of, maps=maps))) == 1:
                continue
            expected = segment(model, ArrayReader(image), PredictOptions()).labels
            found = segment(model, ArrayReader(image), PredictOptions(tiles=tiles_of)).labels
            iou = match(expected, found, 0.5).iou
            same, matched, tiles = same + int((iou >= 0.99).sum()), matched + len(iou), tiles + count
            whole, cut = whole + int(expected.max()), cut + int(found.max())
        print(
            f"overlap {overlap}, {tiles} tiles: {same} of {whole} instances are the same ({same / max(whole, 1):.4f}), "
            f"{whole - matched} were lost and {cut - matched} came in"
        )


if __name__ == "__main__":
    main()
