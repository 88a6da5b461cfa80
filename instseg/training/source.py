"""What a training reads: one data folder, several, or generated discs; and how a model's settings file keeps that."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from instseg.data.datasets import TrainingData, disc_data, folder_data
from instseg.data.folder_samples import ReadOptions
from instseg.data.mixture import mixed_data
from instseg.data.volumes import are_volumes
from instseg.errors import UsageError
from instseg.io.folders import find_pairs
from instseg.network.strides import strides
from instseg.settings import ModelSettings, TrainSettings

Counter = Callable[[int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSource:
    """Where images and labels come from; `TrainingRequest` says what each attribute means."""

    data: tuple[Path, ...] = ()
    val: tuple[Path, ...] = ()
    connected_components: bool = False
    channels: str | None = None
    ignore_label: int | None = None
    spacing: tuple[float, ...] | None = None

    def check(self, *, given: bool) -> None:
        """Check that no folder is given twice and, where data have to be `given`, that nothing is said of none.

        Raises
        ------
        UsageError
        """
        for name, folders in (("data", self.data), ("val", self.val)):
            resolved = [folder.resolve() for folder in folders]
            for number, folder in enumerate(resolved):
                if folder in resolved[:number]:
                    raise UsageError(f"{name} has {folders[number]} twice; give it once", parameter=name)
        if self.data or not given:
            return
        of_nothing = {
            "val": (bool(self.val), "give both, or neither to train on generated discs"),
            "channels": (self.channels is not None, "generated discs have one channel"),
            "connected_components": (self.connected_components, "generated discs have labels"),
            "ignore_label": (bool(self.ignore_label), "generated discs have no pixels to leave out"),
            "spacing": (self.spacing is not None, "it is for volumes, and generated discs are images"),
        }
        for name, (is_given, advice) in of_nothing.items():
            if is_given:
                raise UsageError(f"{name} is given without `data`; {advice}", parameter=name)

    def holds_volumes(self) -> bool:
        """Return whether the labels are volumes.

        Raises
        ------
        InstsegError
            If the folder holds no pairs, or a file cannot be read.
        """
        return len(self.data) == 1 and are_volumes(find_pairs(self.data[0]))

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON-ready values, with folders that are found from every working directory."""
        return {
            "data": _paths_to_json(self.data),
            "val": _paths_to_json(self.val),
            "connected_components": self.connected_components,
            "channels": self.channels,
            **({} if self.ignore_label is None else {"ignore_label": self.ignore_label}),
            **({} if self.spacing is None else {"spacing": list(self.spacing)}),
        }

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any] | None, model_dir: Path, given: "DataSource") -> "DataSource":
        """Return what a model was trained on, with what is given for a resume in its place.

        Raises
        ------
        UsageError
            If the model does not say it and nothing is given, or what is given goes with data that are not.
        """
        if not stored and not given.data:
            raise UsageError(f"{model_dir} does not say what it was trained on; give `data=DIR` to go on")
        stored = stored or {}
        source = cls(
            data=given.data or _paths_from_json(stored.get("data")),
            val=given.val or _paths_from_json(stored.get("val")),
            connected_components=given.connected_components or bool(stored.get("connected_components")),
            channels=given.channels or stored.get("channels"),
            ignore_label=given.ignore_label or stored.get("ignore_label"),
            spacing=given.spacing or (tuple(stored["spacing"]) if "spacing" in stored else None),
        )
        of_folders = bool(source.val) or source.connected_components or source.ignore_label is not None
        if not source.data and of_folders:
            raise UsageError("`val`, `connected_components` and `ignore_label` go with `data`; give it, too")
        return source

    def read(
        self,
        train: TrainSettings,
        model: ModelSettings,
        begin: ModelSettings | None,
        held: Sequence[str],
        progress: Counter,
    ) -> TrainingData:
        """Read the data.

        Parameters
        ----------
        train : TrainSettings
        model : ModelSettings
            Of the model: how levels are found and, if the training goes on with it, at which size images are shown.
        begin : ModelSettings or None
            Of the model that a training begins with; that of the model itself if it goes on.
        held : sequence of str
            Names of the images to validate on, as an earlier training kept them.
        progress : callable
            Takes how many images of how many have been read.

        Raises
        ------
        InstsegError
            If the data cannot be trained on.
        """
        if not self.data:
            return disc_data(train, levels=model.levels)
        resume = begin is model
        if len(self.data) > 1 or len(self.val) > 1:
            self._check_images()
        if len(self.data) > 1 or len(self.val) > 1 or (resume and model.estimate_diameter):
            common = begin.diameter if begin is not None and begin.estimate_diameter else None
            read = ReadOptions(self.connected_components, self.channels, self.ignore_label, model.levels)
            return mixed_data(
                self.data,
                train,
                val=self.val,
                read=read,
                common_diameter=common,
                validation_names=held,
                progress=progress,
            )
        scale: Callable[[float], float] | None = None
        if begin is not None:
            scale = (lambda diameter: model.scale) if resume else begin.scale_for_diameter
        return folder_data(
            self.data[0],
            train,
            val=self.val[0] if self.val else None,
            connected_components=self.connected_components,
            channels=self.channels,
            ignore_label=self.ignore_label,
            levels=model.levels,
            scale=scale,
            validation_names=held,
            spacing=self.spacing,
            depth_multiple=lambda spacing: strides(dataclasses.replace(model, ndim=3, spacing=spacing))[0],
            progress=progress,
        )

    def _check_images(self) -> None:
        """Check that no folder of several holds volumes.

        Raises
        ------
        UsageError
        """
        for folder in (*self.data, *self.val):
            if are_volumes(find_pairs(folder)):
                raise UsageError(
                    f"{folder} holds volumes, which are learnt from one folder; put all of one spacing into one, and "
                    "give one to validate on at most",
                    parameter="data",
                )


def _paths_to_json(folders: Sequence[Path]) -> str | list[str] | None:
    paths = [str(folder.resolve()) for folder in folders]
    # One folder is a text, as in models of earlier versions.
    return paths[0] if len(paths) == 1 else paths or None


def _paths_from_json(stored: str | Sequence[str] | None) -> tuple[Path, ...]:
    return tuple(Path(path) for path in ([stored] if isinstance(stored, str) else stored or ()))
