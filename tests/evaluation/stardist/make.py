"""Make the label images beside this file and write what stardist.matching says of them.

    python tests/stardist/make.py

Run once, in an environment with stardist 0.9.2 and this package; the tests read what it wrote.
"""

import json
from pathlib import Path

import numpy as np

from instseg.data.discs import draw_discs
from instseg.io.label_images import write_labels
from instseg.settings import DiscSettings

FOLDER = Path(__file__).parent
THRESHOLDS = [0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95]
NAMES = ["tp", "fp", "fn", "precision", "recall", "accuracy", "f1", "mean_matched_score", "panoptic_quality"]


def pairs():
    """Shifted, half missing, split along a line, merged where they touch, and of no relation."""
    discs = DiscSettings(size=96, min_discs=30, max_discs=30)
    drawn = [draw_discs(np.random.default_rng(seed), discs)[1] for seed in range(6)]
    rows, columns = np.indices(drawn[0].shape)
    yield drawn[0], np.roll(drawn[0], (1, 2), (0, 1))
    yield drawn[1], np.where(drawn[1] % 2 == 0, drawn[1], 0)
    yield drawn[2], np.where(drawn[2] > 0, drawn[2] + 40 * ((rows + columns) % 24 < 12), 0)
    yield drawn[3], (drawn[3] + 2) // 3 * (columns < 80)
    yield drawn[4], drawn[5]


def main():
    from stardist.matching import matching, matching_dataset

    kept = list(pairs())
    for number, (truth, predicted) in enumerate(kept):
        write_labels(FOLDER / f"{number}-truth.png", truth)
        write_labels(FOLDER / f"{number}-predicted.png", predicted.astype(np.int32))
    truths, predictions = zip(*kept, strict=True)
    figures = {
        "images": [[figures_of(one) for one in matching(*pair, thresh=THRESHOLDS)] for pair in kept],
        "pooled": [figures_of(one) for one in matching_dataset(truths, predictions, THRESHOLDS, show_progress=False)],
        "per_image": [
            figures_of(one)
            for one in matching_dataset(truths, predictions, THRESHOLDS, by_image=True, show_progress=False)
        ],
    }
    (FOLDER / "figures.json").write_text(json.dumps(figures, indent=1) + "\n")


def figures_of(found):
    return {name: round(float(getattr(found, name)), 9) for name in NAMES}


if __name__ == "__main__":
    main()
