"""Make the model of the present format that later versions have to open: `python tests/models/make.py`.

Writes `format-N/` beside this file, N being the version of the format: `model/` as `train` leaves it (a copy without
links), an image, and the maps and the labels that this version makes of it. It is made once for each format, and then
never again.
"""

import shutil
import tempfile
from pathlib import Path

import numpy as np

from instseg.clustering.cluster import cluster
from instseg.data.datasets import disc_data
from instseg.data.discs import draw_discs
from instseg.inference.model import load
from instseg.io.images import write_picture
from instseg.io.label_images import write_labels
from instseg.io.npz import write_embeddings
from instseg.models.config import TrainingConfig
from instseg.models.directory import FORMAT
from instseg.settings import DiscSettings, ModelSettings, TrainSettings
from instseg.training.loop import iter_training


def main() -> None:
    folder = Path(__file__).parent / f"format-{FORMAT}"
    folder.mkdir()
    discs = DiscSettings(size=64, min_discs=2, max_discs=3)
    plan = TrainingConfig(
        model=ModelSettings(embeddings=3, widths=(4, 8), diameter=19.0),
        train=TrainSettings(iterations=200, batch_size=4, patch_size=32, learning_rate=2e-2, validation_every=1000),
    )
    with tempfile.TemporaryDirectory() as temporary:
        for _ in iter_training(Path(temporary) / "model", plan, disc_data(plan.train, discs)):
            pass
        shutil.copytree(Path(temporary) / "model" / "current", folder / "model")
    image, _ = draw_discs(np.random.default_rng(3), discs)
    write_picture(folder / "image.png", image)
    maps = load(folder / "model").embed(image)
    write_embeddings(folder / "maps.npz", maps)
    write_labels(folder / "labels.png", cluster(maps))


if __name__ == "__main__":
    main()
