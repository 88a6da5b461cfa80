"""Train InstanSeg from scratch for some minutes and segment images with it, to stand beside our own figures.

In an environment of its own, as it wants PyTorch, here without CUDA, and a few of the packages of its extra `full`:

    python -m pip install torch torchvision --index-url https://download.pytorch.org/whl/cpu
    python -m pip install "instanseg-torch==0.1.2" monai pandas seaborn edt hyperopt tifffile pillow
    python tests/benchmarks/instanseg_baseline.py TRAIN IMAGES OUT [--minutes 20] [--seed 0] [--model DIR] [--rounds 0]

then, in ours: `instseg evaluate --pred OUT --labels LABELS`. See `peers.py` for what the arguments are.

Its own training script with its own defaults: a U-Net of 32 to 256 channels, batches of 3 patches of 256 x 256, Adam
with a learning rate of 0.001 that stays, flips and rotations, percentiles 0.1 and 99.9 as 0 and 1, images at their own
size, as they have no size of pixels; ten epochs with losses that begin to learn sooner (its `hotstart`), then its own
losses; a tenth of the images is held back, on which it chooses the epoch whose weights it keeps. Its 510 epochs of
1,000 patches would take days on two cores. So an epoch is shortened (`length_of_epoch`, an option of its own) to a 25th
of the minutes: the ten of the start and 15 more fill them. How many patches that is follows from the pace of two short
epochs of another network, for which the clock stands still. None begins that would be more than half beyond the end.
The minutes are those of the training, reading of data and its validation included; the thresholds, which it optimises
on the held-out images by a function of its own, are not.

Prediction is `InstanSeg.eval_small_image` of the model that it exports, with these thresholds and windows of 128
pixels around seeds as in training (by default an export has 64, which cuts large objects).
"""

import math
import os
import random
import sys
import tempfile
import time

import numpy as np
from peers import main, use_all_cores

os.environ["MPLBACKEND"] = "agg"

# The epochs that fill the minutes, ten of them the start.
_EPOCHS, _START = 25, 10
# Patches of an epoch by which the pace is found.
_PACE = 15
# Half of the width, as an exported model takes it.
_WINDOW = 64


class EndOfTime(Exception):
    """Ends a training that has no end of its own."""


def trained(folder, images, labels, clock, seed):
    """Train within the minutes, write the exported model and return the number of steps and more."""
    use_all_cores()
    order = np.random.default_rng(seed).permutation(len(images))
    held, used = order[: max(1, len(images) // 10)], order[max(1, len(images) // 10) :]
    data = {
        "Train": [item(images[i], labels[i]) for i in used],
        "Validation": [item(images[i], labels[i]) for i in held],
    }
    with clock, tempfile.TemporaryDirectory() as temporary:
        pace = run(temporary, data, seed, _PACE, lambda watch: len(watch.seconds) == 2).seconds[-1] / _PACE
    patches = max(_PACE, round(clock.left() / pace / _EPOCHS))
    ran = run(folder, data, seed, patches, lambda watch: watch.seconds and clock.left() < watch.seconds[-1] / 2)
    with clock:
        thresholds = export(folder, data["Validation"])
    return {
        "iterations": ran.steps,
        "epochs": len(ran.losses),
        "patches_per_epoch": patches,
        "first_loss": ran.losses[0],
        "last_loss_of_start": ran.losses[:_START][-1],
        "last_loss": ran.losses[-1],
        "thresholds": thresholds,
    }


def item(image, labels):
    # The size of pixels matters only where a training asks for one.
    return {"image": image, "nucleus_masks": labels, "parent_dataset": "images", "pixel_size": 1.0}


class Watch:
    """Stands in for its function that trains an epoch: counts, and ends the training where `ends` says so."""

    def __init__(self, function, ends):
        self._function, self._ends, self._began = function, ends, None
        self.steps, self.losses, self.seconds = 0, [], []

    def __call__(self, model, device, loader, *args, **kwargs):
        self.note()
        if self._ends(self):
            raise EndOfTime
        self._began = time.perf_counter()
        loss, seconds = self._function(model, device, loader, *args, **kwargs)
        self.steps += len(loader)
        self.losses.append(float(loss))
        return loss, seconds

    def note(self):
        """Keep how long the epoch before took, its validation included."""
        if self._began is not None:
            self.seconds.append(time.perf_counter() - self._began)
            self._began = None


def run(folder, data, seed, patches, ends):
    """Run its training script in epochs of so many patches and return what was counted."""
    from instanseg.scripts.train import instanseg_training
    from instanseg.utils import AI_utils

    for function in (random.seed, np.random.seed):  # noqa: NPY002 (what its augmentation draws from)
        function(seed)
    # The script reads the command line even when it is called.
    command, sys.argv = sys.argv, sys.argv[:1]
    original = AI_utils.train_epoch
    watch = AI_utils.train_epoch = Watch(original, ends)
    try:
        instanseg_training(
            segmentation_dataset=data,
            source_dataset="[images]",
            output_path=str(folder),
            experiment_str="model",
            on_cluster=True,
            rng_seed=seed,
            length_of_epoch=patches,
            hotstart_training=_START,
            # More than there will be time for.
            num_epochs=10**6,
        )
    except EndOfTime:
        pass
    finally:
        watch.note()
        AI_utils.train_epoch, sys.argv = original, command
    return watch


def export(folder, validation):
    """Optimise the thresholds, export the model with them and return them."""
    import torch
    from instanseg.utils.AI_utils import optimize_hyperparameters
    from instanseg.utils.augmentations import Augmentations
    from instanseg.utils.loss.instanseg_loss import InstanSeg, InstanSeg_Torchscript
    from instanseg.utils.model_loader import load_model

    model, settings = load_model(folder="model", path=folder)
    model.eval()
    method = InstanSeg(
        binary_loss_fn_str=settings["binary_loss_fn"],
        seed_loss_fn=settings["seed_loss_fn"],
        device="cpu",
        n_sigma=settings["n_sigma"],
        window_size=2 * _WINDOW,
    )
    method.initialize_pixel_classifier(model)
    augmentations = Augmentations(dim_in=settings["dim_in"], shape=(256, 256))
    batches = []
    for one in validation:
        image, labels = augmentations.to_tensor(one["image"], one["nucleus_masks"].copy(), normalize=True)
        image, labels = augmentations.torch_rescale(image, labels)
        image, labels = augmentations.duplicate_grayscale_channels(image, labels)
        batches.append((image[None], labels[None], None))
    thresholds = optimize_hyperparameters(
        model, method.postprocessing, data_loader=batches, device="cpu", show_progressbar=False
    )
    thresholds = {name: float(value) for name, value in thresholds.items()}
    module = InstanSeg_Torchscript(
        model,
        pixel_size=math.nan,
        n_sigma=settings["n_sigma"],
        backbone_dim_in=settings["dim_in"],
        feature_engineering_function=settings["feature_engineering"],
        params=thresholds | {"window_size": _WINDOW},
    )
    torch.jit.save(torch.jit.script(module), folder / "exported.pt")
    return thresholds


def loaded(folder):
    import torch
    from instanseg import InstanSeg

    use_all_cores()
    model = InstanSeg(torch.jit.load(folder / "exported.pt"), device="cpu", verbosity=0)

    def segment(image):
        found = model.eval_small_image(np.repeat(image[None], 3, axis=0), return_image_tensor=False)
        return found.numpy()[0, 0].astype(np.int32)

    return segment


if __name__ == "__main__":
    main(__doc__, trained, loaded)
