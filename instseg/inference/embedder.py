"""A trained network as a function from image to embeddings: the border between arrays and tensors."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from instseg.clustering.calibration import ScoreCalibration
from instseg.clustering.embeddings import Embeddings
from instseg.errors import InstsegError, UsageError
from instseg.inference.tta import flip_rot90, undo_flip_rot90
from instseg.network.objective import objective_of
from instseg.preprocessing.channels import format_channel_count, inverted_channels, match_channels, select_channels
from instseg.preprocessing.level_choice import LevelChoice
from instseg.preprocessing.levels import Levels, picture_box
from instseg.settings import ClusterSettings, ModelSettings, Precision
from instseg.tiling.grid import Box

NetworkFn = Callable[[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32], np.float32], Mapping[str, Any]]
"""Takes images (B, H, W, C), the two levels (B, C) of each and a magnification; returns maps (B, H, W, ...) by name."""


class Embedder:
    """A network with the settings that it was trained with.

    Parameters
    ----------
    network : NetworkFn
    settings : ModelSettings
    clustering : ClusterSettings
    calibration : ScoreCalibration, optional

    Attributes
    ----------
    settings : ModelSettings
        What the network is.
    clustering : ClusterSettings
        How its embeddings are clustered unless a call says otherwise.
    calibration : ScoreCalibration or None
        What the scores of its instances mean.
    objective : Objective
        What its loss means for its maps.
    precision : {'float32', 'bfloat16'}
        What its convolutions compute in, which says how much memory they take.
    """

    precision: Precision = "float32"

    def __init__(
        self,
        network: NetworkFn,
        settings: ModelSettings,
        clustering: ClusterSettings,
        calibration: ScoreCalibration | None = None,
    ) -> None:
        self._network = network
        self.settings = settings
        self.clustering = clustering
        self.calibration = calibration
        self.objective = objective_of(settings)

    def embed_tile(
        self,
        image: NDArray[Any],
        levels: Levels,
        *,
        tta: bool = False,
        magnification: float = 1.0,
        picture: Box | None = None,
    ) -> Embeddings:
        """Return the embeddings and maps of an image, or of a part of a larger one.

        Parameters
        ----------
        image : (H, W, C) of numbers
            As `prepare_image` returns it, or a part of it.
        levels : tuple of (C,) float32
            The values that become 0 and 1: those of the whole image, by the rule of the settings.
        tta : bool
            As in `embed`.
        magnification : float
            How many times larger the network sees the image.
        picture : Box, optional
            The part of the image that the network sees: nothing is beyond it. By default all of it.
        """
        whole = Box(0, 0, *image.shape[:2])
        seen = whole if picture is None else whole.intersection(picture)
        if seen != whole:
            boxes = [] if 0 in seen.shape else [(seen, seen)]
            return self.embed_boxes(image, levels, boxes, whole, tta=tta, magnification=magnification)
        settings = self.clustering.rescaled(1 / magnification)
        maps = (self._averaged if tta else self._maps)(image, levels, magnification)
        return self._embeddings(maps, settings)

    def embed_boxes(
        self,
        image: NDArray[Any],
        levels: Levels,
        boxes: Sequence[tuple[Box, Box]],
        area: Box,
        *,
        tta: bool = False,
        magnification: float = 1.0,
    ) -> Embeddings:
        """Return the embeddings and maps of a part of an image, of which the network sees some boxes.

        Parameters
        ----------
        image, levels, tta, magnification
            As `embed_tile` takes them.
        boxes : sequence of (Box, Box)
            What the maps are taken for, and what the network sees for it. Nothing is elsewhere.
        area : Box
            The part that is returned, in which the boxes of the maps lie.
        """
        maps: dict[str, NDArray[np.float32]] = {}
        whole = Box(0, 0, *image.shape[:2])
        for core, seen in boxes:
            within = image[seen.slices_in(whole)]
            found = (self._averaged if tta else self._maps)(within, levels, magnification)
            found = {name: values[core.slices_in(seen)] for name, values in found.items()}
            if self.objective.positions:
                found["embeddings"][..., :2] += np.subtract(seen.begin, area.begin).astype(np.float32)
            if core == area:
                maps = found
                break
            maps = maps or self._blank(area.shape)
            for name, values in found.items():
                maps[name][core.slices_in(area)] = values
        maps = maps or self._blank(area.shape)
        return self._embeddings(maps, self.clustering.rescaled(1 / magnification))

    def embed_planes(
        self, images: NDArray[Any], levels: Levels, *, tta: bool = False, magnification: float = 1.0
    ) -> dict[str, NDArray[np.float32]]:
        """Return the maps of several images of one size by name; the network takes small ones faster together.

        Parameters
        ----------
        images : (B, H, W, C) of numbers
            As `prepare_image` returns them.
        levels, tta, magnification
            As `embed_tile` takes them.

        Returns
        -------
        dict of str to (B, H, W) or (B, H, W, D) float32
            As `Embeddings` has them of each image.
        """
        if not tta:
            return self._batch_maps(images, levels, magnification)
        turned = [self._averaged(image, levels, magnification) for image in images]
        return {name: np.stack([maps[name] for maps in turned]) for name in turned[0]}

    def _averaged(self, image: NDArray[Any], levels: Levels, magnification: float) -> dict[str, NDArray[np.float32]]:
        """Return the averages of the maps over the flips and quarter turns of an image (H, W, C)."""
        positions = self.objective.positions
        total: dict[str, NDArray[Any]] = {}
        for quarters, flip in itertools.product(range(4), (False, True)):
            maps = self._maps(flip_rot90(image, quarters, flip), levels, magnification)
            for name, values in undo_flip_rot90(maps, quarters, flip, positions).items():
                # The geometric mean, as bandwidths are learnt and averaged within an instance.
                share = (np.log(values) if name == "bandwidth" else values) / np.float32(8)
                total[name] = total[name] + share if name in total else share
        if "bandwidth" in total:
            total["bandwidth"] = np.exp(total["bandwidth"]).astype(np.float32)
        return total

    def _blank(self, size: tuple[int, ...]) -> dict[str, NDArray[np.float32]]:
        """Return the maps of a size where nothing is."""
        settings = self.settings
        maps = {
            "embeddings": np.zeros((*size, settings.embeddings), np.float32),
            "foreground": np.zeros(size, np.float32),
        }
        if self.objective.positions:
            maps |= {"seeds": np.zeros(size, np.float32), "bandwidth": np.ones(size, np.float32)}
        if settings.classes > 2:
            maps["classes"] = np.zeros((*size, settings.classes - 1), np.float32)
        return maps

    def _embeddings(self, maps: dict[str, NDArray[Any]], settings: ClusterSettings) -> Embeddings:
        class_names = self.settings.class_names if "classes" in maps else ()
        calibration = self.calibration
        return Embeddings(**maps, settings=settings, class_names=class_names, calibration=calibration, spacing=None)

    def _maps(self, image: NDArray[Any], levels: Levels, magnification: float) -> dict[str, NDArray[np.float32]]:
        """Return the maps of one image (H, W, C)."""
        return {name: values[0] for name, values in self._batch_maps(image[None], levels, magnification).items()}

    def _batch_maps(self, images: NDArray[Any], levels: Levels, magnification: float) -> dict[str, NDArray[np.float32]]:
        low, high = (np.repeat(level[None], len(images), axis=0) for level in levels)
        try:
            maps = self._network(images.astype(np.float32, copy=False), low, high, np.float32(magnification))
        except MemoryError as error:
            size = f"{images.shape[1]} x {images.shape[2]}"
            raise InstsegError(
                f"there is not enough memory for {size} pixels at once; cut the image into tiles"
            ) from error
        return {name: np.asarray(value) for name, value in maps.items()}

    def levels(
        self,
        image: NDArray[Any],
        choice: LevelChoice | None = None,
        inverted: Sequence[bool] = (),
        counted: NDArray[np.bool_] | None = None,
    ) -> tuple[Levels, Box]:
        """Return the levels of a whole image, and the part of it that is not a border around it.

        Parameters
        ----------
        image : (H, W, C) of numbers
            As `prepare_image` returns it.
        choice : LevelChoice, optional
            Levels that somebody chooses; by default the rule of the model finds them.
        inverted, counted
            As `LevelChoice.of_image` takes them.
        """
        rule = self.settings.levels
        whole = Box(0, 0, *image.shape[:2])
        levels = (choice or LevelChoice()).of_image(image, rule, inverted, counted)
        return levels, whole if rule == "percentiles" else picture_box(image)

    def inverted_channels(self, count: int, channels: str | None = None) -> tuple[bool, ...]:
        """Return of each channel that `prepare_image` makes of an image of `count` whether it is inverted."""
        choice = self.settings.channel_choice if channels is None else channels
        return inverted_channels(count, self.settings.channels, choice)

    def prepare_image(self, image: ArrayLike, channels: str | None = None) -> NDArray[Any]:
        """Return an image with the channels that the network takes.

        Parameters
        ----------
        image : (H, W) or (H, W, C) of numbers
            As it was read.
        channels : str, optional
            Those to take, as `instseg.preprocessing.channels.parse_channels` reads them.

        Returns
        -------
        (H, W, C) of numbers

        Raises
        ------
        UsageError
            If the image is not two-dimensional, is empty or holds NaN or infinite values, or the choice of channels is
            none.
        InstsegError
            If the image's channels are not those that the model takes.
        """
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
        if channels is None:
            return match_channels(image, wanted, self.settings.channel_choice)
        image = select_channels(image, channels)
        if image.shape[2] == 1 and wanted == 3:
            return np.repeat(image, 3, axis=2)
        if image.shape[2] != wanted:
            what = f"makes {format_channel_count(image.shape[2])}, the model takes {format_channel_count(wanted)}"
            raise UsageError(f"`channels={channels!r}` {what}; choose as many")
        return image
