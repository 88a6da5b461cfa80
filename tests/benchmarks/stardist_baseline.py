"""Train StarDist from scratch for some minutes and segment images with it, to stand beside our own figures.

In an environment of its own, as StarDist wants another TensorFlow:

    python -m pip install "stardist==0.9.2" "tensorflow-cpu==2.15.*" "numpy<2"
    python tests/benchmarks/stardist_baseline.py TRAIN_DIR IMAGES_DIR OUT_DIR [--minutes 20] [--seed 0]

then, in ours: `instseg evaluate --pred OUT_DIR --labels LABELS_DIR`.

StarDist's own defaults (32 rays, grid 2, U-Net of depth 3), 8 patches of 128 x 128, flips, quarter turns and
changes of intensity as in its examples; a tenth of the training images is held back to optimise its thresholds on.
The weights are those of the end: with checkpoints on, an early epoch might be loaded again. The minutes
are those of the training, reading of data included, thresholds not.
"""

import argparse
import time
from pathlib import Path

import numpy as np
from PIL import Image


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("train", type=Path, help="folder with images and labels, gray")
    parser.add_argument("images", type=Path, help="folder with images to segment")
    parser.add_argument("out", type=Path, help="where the label images go")
    parser.add_argument("--minutes", type=float, default=20.0, help="time to train for")
    parser.add_argument("--seed", type=int, default=0, help="of the split and the augmentation")
    options = parser.parse_args()
    model, thresholds = trained(options.train, options.minutes, options.seed)
    options.out.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    count = 0
    for path in sorted(options.images.iterdir()):
        found, _ = model.predict_instances(read(path), show_tile_progress=False, **thresholds)
        Image.fromarray(found.astype(np.uint16)).save(options.out / f"{path.stem}.png")
        count += 1
    print(f"{count} images in {time.perf_counter() - start:.1f} s")


def read(path):
    """Read and normalise an image as StarDist's examples do."""
    from csbdeep.utils import normalize

    return normalize(np.asarray(Image.open(path)).astype(np.float32), 1, 99.8)


def configuration():
    """Return the settings of StarDist's examples."""
    from stardist.models import Config2D

    return Config2D(n_rays=32, grid=(2, 2), n_channel_in=1, train_patch_size=(128, 128), train_batch_size=8)


def trained(folder, minutes, seed):
    """Train for some minutes from now and return the model and its thresholds, as `predict_instances` takes them."""
    end = time.perf_counter() + 60 * minutes
    from stardist import fill_label_holes
    from stardist.models import StarDist2D
    from tensorflow import keras

    names = sorted(path.name for path in (folder / "images").iterdir())
    images = [read(folder / "images" / name) for name in names]
    labels = [fill_label_holes(np.asarray(Image.open(folder / "labels" / name)).astype(np.int32)) for name in names]
    rng = np.random.default_rng(seed)
    np.random.seed(seed)  # noqa: NPY002 (what StarDist's data generator draws from)
    order = rng.permutation(len(names))
    held, used = order[: len(names) // 10], order[len(names) // 10 :]

    class EndOfTime(keras.callbacks.Callback):
        """Ends the training after the step in which the time is over."""

        steps = 0

        def on_train_batch_end(self, batch, logs=None):
            self.steps += 1
            if time.perf_counter() > end:
                self.model.stop_training = True

    def augment(image, label):
        quarters, flip = int(rng.integers(4)), bool(rng.integers(2))
        image, label = np.rot90(image, quarters), np.rot90(label, quarters)
        if flip:
            image, label = image[:, ::-1], label[:, ::-1]
        return image * rng.uniform(0.6, 2) + rng.uniform(-0.2, 0.2), label

    config = configuration()
    config.train_checkpoint = config.train_checkpoint_last = config.train_checkpoint_epoch = None
    config.train_tensorboard = False
    # More than there will be time for.
    config.train_epochs, config.train_steps_per_epoch = 1000, 100
    model = StarDist2D(config, name=None, basedir=None)
    stop = EndOfTime()
    model.prepare_for_training()
    model.callbacks.append(stop)
    held_images, held_labels = [images[i] for i in held], [labels[i] for i in held]
    model.train(
        [images[i] for i in used],
        [labels[i] for i in used],
        validation_data=(held_images, held_labels),
        augmenter=augment,
    )
    late = time.perf_counter() - end
    print(f"{stop.steps} steps, {len(used)} images, {late:.0f} s beyond {minutes:g} minutes")
    chosen = model.optimize_thresholds(held_images, held_labels, save_to_json=False)
    print(f"thresholds: {chosen}")
    return model, {"prob_thresh": chosen["prob"], "nms_thresh": chosen["nms"]}


if __name__ == "__main__":
    main()
