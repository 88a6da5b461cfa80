"""The options that commands with a model share, and how they open it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from instseg.cli import terminal
from instseg.errors import UsageError
from instseg.settings import Precision

if TYPE_CHECKING:
    from instseg.inference.loading import ModelReader
    from instseg.inference.model import Model
    from instseg.inference.options import Diameter as DiameterValue
    from instseg.measurements.objects import PixelSize

_MODEL = "Directory that train wrote, or a name that models lists."
ModelArgument = Annotated[Path, typer.Argument(metavar="MODEL", help=_MODEL, show_default=False)]
OptionalModelArgument = Annotated[Path | None, typer.Argument(metavar="[MODEL]", help=_MODEL, show_default=False)]
Tta = Annotated[bool, typer.Option("--tta", help="Average over flips and quarter turns: better, eight times the cost.")]
_CHOICE = (
    "Channels of the images: numbers from 1, red, green, blue, with commas; 1+2 is a mean, gray that of all, and dark "
    "that inverted, for dark objects on a bright ground."
)
Channels = Annotated[str | None, typer.Option(metavar="CHOICE", help=_CHOICE, show_default="all")]
ModelChannels = Annotated[str | None, typer.Option(metavar="CHOICE", help=_CHOICE, show_default="as in training")]
Diameter = Annotated[
    str | None,
    typer.Option(
        metavar="PIXELS",
        help="Typical diameter of the objects, if not as in training; auto finds it out.",
        show_default="as in training",
    ),
]
LevelsChoice = Annotated[
    str | None,
    typer.Option(metavar="LOW,HIGH", help="Values of the files that become 0 and 1.", show_default="found out"),
]
PercentilesChoice = Annotated[
    str | None,
    typer.Option(metavar="LOW,HIGH", help="Percentiles of the values that become 0 and 1.", show_default="found out"),
]
IgnoreZeros = Annotated[
    bool, typer.Option("--ignore-zeros", help="Take pixels that are 0 in all channels for padding, not for image.")
]
PixelSizeText = Annotated[
    str | None,
    typer.Option(
        metavar="MICROMETRES",
        help="Height and width of a pixel, or HEIGHT,WIDTH, or Z,Y,X of a voxel, for measurements.",
        show_default="what the files say",
    ),
]
SpacingText = Annotated[
    str | None,
    typer.Option(
        metavar="Z,Y,X",
        help="Of volumes: size of a voxel along Z, Y and X, in any unit.",
        show_default="what the files say",
    ),
]
PlanesFromChoice = Annotated[
    Literal["z", "zyx"] | None,
    typer.Option(
        help="Of volumes, for a model of images: see planes along z and join their objects, or planes along all axes.",
        show_default="by the spacing",
    ),
]
ModelPrecision = Annotated[
    Precision | None,
    typer.Option(help="What the network computes in.", show_default="bfloat16 where the CPU is made for it"),
]


def check_channels(choice: str | None) -> None:
    """Check that a choice of channels can be read, if there is one."""
    if choice is not None:
        from instseg.preprocessing.channels import parse_channels

        parse_channels(choice)


def find_model(model: Path) -> Path:
    """Return the directory of a model, and print a note where a path hides a model of this name in the package."""
    from instseg.models.builtin import find_model as find
    from instseg.models.builtin import shadows_bundled

    if shadows_bundled(model):
        terminal.print_note(f"Note: {model} is what has this name here, not the model in the package")
    return find(model)


def parse_diameter(text: str | None) -> "DiameterValue":
    """Parse the value of --diameter: a number of pixels, or 'auto'."""
    if text is None:
        return None
    if text == "auto":
        return "auto"
    try:
        return float(text)
    except ValueError as error:
        raise UsageError(f"diameter is {text}, expected a number of pixels, or auto", parameter="diameter") from error


def parse_levels(levels: str | None, percentiles: str | None) -> "dict[str, tuple[float, float] | None]":
    """Parse the values of --levels and --percentiles."""
    from instseg.preprocessing.level_choice import parse_range

    given = {"levels": levels, "percentiles": percentiles}
    return {name: None if text is None else parse_range(text, name) for name, text in given.items()}


def parse_pixel_size(text: str | None) -> "PixelSize | None":
    """Parse the value of --pixel-size."""
    if text is None:
        return None
    from instseg.inference.measured import parse_pixel_size as parse

    return parse(text)


def parse_spacing(text: str | None) -> "tuple[float, float, float] | None":
    """Parse the value of --spacing."""
    if text is None:
        return None
    from instseg.io.volumes import check_spacing

    try:
        sizes = [float(size) for size in text.split(",")]
    except ValueError:
        sizes = []
    if len(sizes) != 3:
        expected = "three numbers above 0, the size of a voxel along Z, Y and X"
        raise UsageError(f"spacing is {text}, expected {expected}", parameter="spacing")
    return check_spacing(sizes)


def has_model(model: Path) -> bool:
    """Return whether there seems to be a model of a path or name."""
    from instseg.models.builtin import bundled_models
    from instseg.models.directory import SETTINGS_FILE

    return (model / SETTINGS_FILE).exists() if model.exists() else str(model) in bundled_models()


def begin_reading(model: Path, precision: Precision | None, threads: int | None) -> "ModelReader":
    """Begin to load TensorFlow and the model, while what the command needs is imported."""
    from instseg.inference.loading import ModelReader

    return ModelReader(model, precision, threads)


def finish_reading(reader: "ModelReader") -> "Model":
    """Wait for the model, with a spinner."""
    with terminal.spinner("Loading TensorFlow"):
        from instseg.inference.model import Model

        loaded = Model.of(reader.result())
    print_model_notes(loaded)
    return loaded


def load_model(model: Path, threads: int | None, precision: Precision | None) -> "Model":
    """Load TensorFlow and the model, with a spinner."""
    return finish_reading(begin_reading(model, precision, threads))


def print_model_notes(model: "Model") -> None:
    """Print what somebody should know of how a model is run."""
    for note in model.notes:
        terminal.print_note(f"Note: {note}")
