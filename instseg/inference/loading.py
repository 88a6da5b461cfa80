"""Reading a model: its settings and its network, here or in a thread, without what only segmenting needs."""

import threading
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

from instseg.clustering.calibration import ScoreCalibration
from instseg.models.builtin import find_model
from instseg.models.directory import damaged_model_error, read_generation
from instseg.network.runtime import check_precision, default_precision, settle_threads
from instseg.network.stored import StoredNetwork, open_network
from instseg.settings import ClusterSettings, ModelSettings, Precision


class ReadModel(NamedTuple):
    """What `instseg.inference.model.Model` is made of."""

    network: StoredNetwork
    settings: ModelSettings
    clustering: ClusterSettings
    calibration: ScoreCalibration | None
    precision: Precision


def read_model(
    model: str | PathLike[str], *, precision: Precision | None = None, threads: int | None = None, quiet: bool = False
) -> ReadModel:
    """Read a model; parameters and errors are those of `instseg.load`."""
    folder = find_model(Path(model))
    computing = default_precision() if precision is None else precision
    check_precision(computing)
    settled = settle_threads(threads)

    def read(generation: Path, stored: dict[str, Any]) -> ReadModel:
        try:
            settings = ModelSettings.from_dict(stored["model"])
            clustering = ClusterSettings.from_dict(stored["clustering"])
            calibration = ScoreCalibration.from_stored(stored.get("calibration"))
            network = open_network(generation, precision=computing, threads=settled, quiet=quiet)
            _check_network(network, settings)
        except MemoryError:
            raise
        except Exception as error:
            # TensorFlow raises what it happens to run into in a damaged graph: nearly everything there is.
            raise damaged_model_error(folder, error) from error
        return ReadModel(network, settings, clustering, calibration, computing)

    return read_generation(folder, read)


class ModelReader:
    """Reads a model in a thread: most of that is done by TensorFlow, and Python can import what it needs meanwhile.

    It is for a program that owns its process; one that ends before waits for the thread.

    Parameters
    ----------
    model, precision, threads
        As `read_model` takes them.
    """

    def __init__(self, model: Path, precision: Precision | None, threads: int | None) -> None:
        self._read: ReadModel | None = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(model, precision, threads), name="model")
        self._thread.start()

    def _run(self, model: Path, precision: Precision | None, threads: int | None) -> None:
        try:
            self._read = read_model(model, precision=precision, threads=threads, quiet=True)
        except BaseException as error:
            # It is that of whoever asks for the model.
            self._error = error

    def result(self) -> ReadModel:
        """Return the model, or raise what reading it has raised."""
        self._thread.join()
        if self._read is None:
            raise self._error or RuntimeError("the model was not read")
        return self._read


def _check_network(network: StoredNetwork, settings: ModelSettings) -> None:
    """Check that a network takes and gives what its settings say."""
    found = network.channels, network.embeddings
    expected = settings.channels, settings.embeddings
    if found != expected:
        raise ValueError(
            f"its network takes {found[0]} channels and gives {found[1]} dimensions, "
            f"its settings say {expected[0]} and {expected[1]}"
        )
