"""Images to labels with a trained model: the border between arrays and tensors."""

import itertools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from instseg.builtin import find_model
from instseg.channels import choose_channels, describe, fit_channels
from instseg.embeddings import Embeddings
from instseg.errors import InstsegError, UsageError
from instseg.normalisation import percentiles
from instseg.runtime import compute_in, load_tensorflow, require_precision
from instseg.segment import How, segment
from instseg.settings import ClusterSettings, ModelSettings, Precision
from instseg.sizing import surest_magnification
from instseg.store import damaged, read_settings

Diameter = float | Literal["auto"] | None
Levels = tuple[NDArray[np.float32], NDArray[np.float32]]
Run = Callable[[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32], np.float32], Mapping[str, Any]]


class Model:
    """A trained model.

    Attributes
    ----------
    settings : ModelSettings
        What the network is.
    clustering : ClusterSettings
        How its embeddings are clustered unless a call says otherwise.
    """

    def __init__(self, run: Run, settings: ModelSettings, clustering: ClusterSettings) -> None:
        self._run = run
        self.settings = settings
        self.clustering = clustering

    def predict(
        self,
        image: NDArray[np.generic],
        clustering: ClusterSettings | None = None,
        *,
        tta: bool = False,
        diameter: Diameter = None,
        channels: str | None = None,
    ) -> NDArray[np.int32]:
        """Segment one image.

        Parameters
        ----------
        image : (H, W) or (H, W, C) of numbers
            As it was read, with the channels that the model takes, or some that `instseg.channels.fit_channels` makes
            these of.
        clustering : ClusterSettings, optional
            Other settings than the model's.
        tta : bool
            Test-time augmentation: see `embed`.
        diameter : float or 'auto', optional
            Typical diameter of the image's objects in pixels, where it is not as in training: see `embed`.
        channels : str, optional
            The image's channels to take, as `instseg.channels.parse_channels` reads it.

        Returns
        -------
        (H, W) int32
            0 is background, instances 1..N.

        Raises
        ------
        UsageError
            If the image is not two-dimensional, is empty or holds NaN or infinite values, the diameter is absurd or
            the choice of channels is none.
        InstsegError
            If the image's channels are not those that the model takes.
        """
        how = How(tta=tta, diameter=diameter, channels=channels, clustering=clustering)
        return segment(self, image, how).array

    def embed(
        self,
        image: NDArray[np.generic],
        *,
        tta: bool = False,
        diameter: Diameter = None,
        channels: str | None = None,
    ) -> Embeddings:
        """Return the embeddings and maps of one image; same parameters and errors as `predict`.

        With `tta` they are averages over the image's eight flips and quarter
        turns, turned back: a little better, at eight times the cost.

        With a `diameter` outside of what the training objects measured, the network sees the image magnified so that
        they fit. The maps are of the image's size all the same, and the clustering settings that come with them
        suit the objects in it. With 'auto' it is magnified so that the objects found are surest: see
        `instseg.sizing.surest_magnification`.
        """
        image = self.prepared(image, channels)
        levels = percentiles(image)
        return self.embed_part(image, levels, tta=tta, magnification=self.magnification(image, levels, diameter))

    def magnification(self, image: NDArray[Any], levels: Levels, diameter: Diameter) -> float:
        """Return how many times larger the network is to see an image; parameters as `embed_part` and `embed` have."""
        if diameter == "auto":
            return surest_magnification(self, image, levels)
        return 1.0 if diameter is None else self.settings.magnification(diameter)

    def embed_part(
        self, image: NDArray[Any], levels: Levels, *, tta: bool = False, magnification: float = 1.0
    ) -> Embeddings:
        """Return the embeddings and maps of an image, or of a part of a larger one.

        Parameters
        ----------
        image : (H, W, C) of numbers
            As `prepared` returns it, or a part of it.
        levels : tuple of (C,) float32
            The values that become 0 and 1: `percentiles` of the whole image.
        tta : bool
            As in `embed`.
        magnification : float
            How many times larger the network sees the image.
        """
        settings = self.clustering.magnified(1 / magnification)
        if not tta:
            return self._embeddings(self._maps(image, levels, magnification), settings)
        positions = self.settings.loss == "overlap"
        total: dict[str, NDArray[Any]] = {}
        for quarters, flip in itertools.product(range(4), (False, True)):
            maps = self._maps(turned(image, quarters, flip), levels, magnification)
            for name, values in turned_back(maps, quarters, flip, positions).items():
                # The geometric mean, as bandwidths are learnt and averaged within an instance.
                part = (np.log(values) if name == "bandwidth" else values) / np.float32(8)
                total[name] = total[name] + part if name in total else part
        if "bandwidth" in total:
            total["bandwidth"] = np.exp(total["bandwidth"]).astype(np.float32)
        return self._embeddings(total, settings)

    def _embeddings(self, maps: dict[str, NDArray[Any]], settings: ClusterSettings) -> Embeddings:
        class_names = self.settings.class_names if "classes" in maps else ()
        return Embeddings(**maps, settings=settings, class_names=class_names)

    def _maps(self, image: NDArray[Any], levels: Levels, magnification: float) -> dict[str, NDArray[np.float32]]:
        low, high = levels
        tf = load_tensorflow()
        try:
            maps = self._run(image.astype(np.float32)[None], low[None], high[None], np.float32(magnification))
        except tf.errors.ResourceExhaustedError as error:
            size = f"{image.shape[0]} x {image.shape[1]}"
            raise InstsegError(
                f"there is not enough memory for {size} pixels at once; cut the image into tiles"
            ) from error
        return {name: np.asarray(value)[0] for name, value in maps.items()}

    def prepared(self, image: NDArray[np.generic], choice: str | None = None) -> NDArray[Any]:
        """Return an image (H, W, C) with the channels that the network takes; errors as `predict` has them."""
        image = np.asarray(image)
        image = image[..., None] if image.ndim == 2 else image
        if image.ndim != 3 or image.size == 0:
            raise UsageError(
                f"the image has shape {image.shape}, expected (H, W) or (H, W, C); give one plane at a time"
            )
        if image.dtype.kind not in "biuf":
            raise UsageError(f"the image holds {image.dtype}, expected numbers")
        if image.dtype.kind == "f" and not np.isfinite(image).all():
            raise UsageError("the image holds NaN or infinite values; replace them first, for example by np.nan_to_num")
        image = image.astype(np.uint8) if image.dtype.kind == "b" else image
        wanted = self.settings.channels
        if choice is None:
            return fit_channels(image, wanted, self.settings.channel_choice)
        image = choose_channels(image, choice)
        if image.shape[2] != wanted:
            what = f"--channels {choice} makes {describe(image.shape[2])}, the model takes {describe(wanted)}"
            raise UsageError(f"{what}; choose as many")
        return image


def turned(image: NDArray[Any], quarters: int, flip: bool) -> NDArray[Any]:
    """Turn an image (H, W, C) counter-clockwise by quarters, then flip it left to right if asked to."""
    image = np.rot90(image, quarters)
    return np.ascontiguousarray(image[:, ::-1] if flip else image)


def turned_back(
    maps: Mapping[str, NDArray[np.float32]], quarters: int, flip: bool, positions: bool
) -> dict[str, NDArray[np.float32]]:
    """Bring the maps of an image that was `turned` to the places of the original.

    Parameters
    ----------
    maps : mapping of str to (H, W) or (H, W, D) float32
        What the network gave for the turned image.
    quarters : int
        0 to 3, and `flip`, as given to `turned`.
    flip : bool
    positions : bool
        Whether the first two dimensions of 'embeddings' are a place (row, column), which is turned, too.

    Returns
    -------
    dict of str to float32 array
    """
    height, width = maps["foreground"].shape
    found = dict(maps)
    if positions:
        rows, columns = maps["embeddings"][..., 0], maps["embeddings"][..., 1]
        if flip:
            columns = width - 1 - columns
        for _ in range(quarters):
            rows, columns = columns, height - 1 - rows
            height, width = width, height
        found["embeddings"] = np.concatenate([np.stack([rows, columns], -1), maps["embeddings"][..., 2:]], axis=-1)
    return {name: np.rot90(values[:, ::-1] if flip else values, -quarters) for name, values in found.items()}


def load(folder: str | Path, *, precision: Precision = "float32") -> Model:
    """Open a model that `instseg train` wrote, or one in the package.

    Parameters
    ----------
    folder : str or Path
        The model directory, or the name of a model in the package. A directory is code as far as TensorFlow is
        concerned: open only what you trust.
    precision : {'float32', 'bfloat16'}
        What its convolutions compute in. On CPUs that are made for bfloat16 it takes two thirds of the time, and labels
        differ in a few pixels of their borders.

    Returns
    -------
    Model

    Raises
    ------
    InstsegError
        If there is no such directory, no model in it, or it is damaged.
    UsageError
        If this machine is not made for the precision.
    """
    folder = find_model(Path(folder))
    require_precision(precision)
    generation, stored = read_settings(folder)
    tf = load_tensorflow()
    try:
        settings = ModelSettings.from_dict(stored["model"])
        clustering = ClusterSettings.from_dict(stored["clustering"])
        restored = tf.saved_model.load(str(generation))
        signature = restored.signatures["with_percentiles"]
    except (OSError, ValueError, LookupError, TypeError, AttributeError, InstsegError, tf.errors.OpError) as error:
        raise damaged(folder, error) from error

    def run(
        image: NDArray[np.float32], low: NDArray[np.float32], high: NDArray[np.float32], magnification: np.float32
    ) -> Mapping[str, Any]:
        # Another model in this process may compute in another.
        compute_in(precision)
        found: Mapping[str, Any] = signature(
            image=tf.constant(image),
            low=tf.constant(low),
            high=tf.constant(high),
            magnification=tf.constant(magnification),
        )
        return found

    # What was restored owns the variables that the signature reads.
    run.restored = restored  # type: ignore[attr-defined]
    return Model(run, settings, clustering)
