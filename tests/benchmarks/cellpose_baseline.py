"""Train Cellpose 3 from scratch for some minutes and segment images with it, to stand beside our own figures.

In an environment of its own, as it wants PyTorch, here without CUDA:

    python -m pip install torch --index-url https://download.pytorch.org/whl/cpu
    python -m pip install "cellpose==3.1.*" pillow
    python tests/benchmarks/cellpose_baseline.py TRAIN IMAGES OUT [--minutes 20] [--seed 0] [--model DIR] [--rounds 0]

then, in ours: `instseg evaluate --pred OUT --labels LABELS`. See `peers.py` for what the arguments are.

`train_seg` with its own defaults: AdamW, a learning rate of 0.005 and a weight decay of 1e-5, batches of 8 patches of
224 x 224, every image resized to objects of 30 pixels times 0.5 to 1.5, turned and flipped, percentiles 1 and 99 as 0
and 1, images with fewer than 5 objects left out, the first weights random. Its learning rate follows the number of
epochs, which it takes in advance: rising for ten, falling by halves for the last 50 of 101 to 300, for the last 100
of more. On two cores the minutes hold few epochs of all images. So an epoch is shortened (`nimg_per_epoch`, an option
of its own) to one batch, or as many as leave 500, its command's number of epochs; how many fit is found from the pace
of some steps of another network, for which the clock stands still. The schedule is complete at the end, whose weights
are used. (Its command line has SGD with a learning rate of 0.2 in place of AdamW.) The minutes are those of the
training, reading of data and computing of flows included.

Prediction is `CellposeModel.eval` with its own defaults; the diameter is then the mean of the training's objects.
"""

import logging
import time

import torch
from cellpose import dynamics, models, train
from peers import main, use_all_cores

_BATCH, _EPOCHS = 8, 500
# The pace is that of the last of so many steps: the first ones take up to a third longer.
_BEFORE, _PACE = 40, 10
_GRAY = [0, 0]


def trained(folder, images, labels, clock, seed):
    """Train within the minutes and return the number of steps and more."""
    use_all_cores()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    flows = dynamics.labels_to_flows(labels, device=torch.device("cpu"))
    with clock:
        spare = models.CellposeModel(gpu=False)
        timed(spare, images, flows, folder, _BEFORE)
        before = timed(spare, images, flows, folder, 1)
        pace = (timed(spare, images, flows, folder, 1 + _PACE) - before) / _PACE
    steps = max(1, round((clock.left() - before) / pace))
    batches = max(1, steps // _EPOCHS)
    torch.manual_seed(seed)
    model = models.CellposeModel(gpu=False)
    epochs = max(1, round(steps / batches))
    _, losses, _ = fit(model, images, flows, folder, "cellpose", epochs, batches)
    tenth = max(1, epochs // 10)
    return {
        "iterations": epochs * batches,
        "epochs": epochs,
        "seconds_per_step": round(pace, 3),
        "first_loss": float(losses[:tenth].mean()),
        "last_loss": float(losses[-tenth:].mean()),
        "diameter": model.net.diam_labels.item(),
    }


def timed(model, images, flows, folder, steps):
    start = time.perf_counter()
    fit(model, images, flows, folder, "spare", steps, 1)
    return time.perf_counter() - start


def fit(model, images, flows, folder, name, epochs, batches):
    return train.train_seg(
        model.net,
        train_data=images,
        train_labels=flows,
        channels=_GRAY,
        n_epochs=epochs,
        nimg_per_epoch=_BATCH * batches,
        save_path=folder,
        model_name=name,
    )


def loaded(folder):
    use_all_cores()
    model = models.CellposeModel(gpu=False, pretrained_model=str(folder / "models" / "cellpose"))
    return lambda image: model.eval(image, channels=_GRAY)[0]


if __name__ == "__main__":
    main(__doc__, trained, loaded)
