"""How commands open a model: what is wrong is told before TensorFlow takes its seconds."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from instseg.cli import terminal
from instseg.errors import UsageError
from instseg.settings import Precision

if TYPE_CHECKING:
    from instseg.predict import Diameter as Size
    from instseg.predict import Model
    from instseg.settings import ModelSettings

_MODEL = "Directory that train wrote, or a name that models lists."
KnownModel = Annotated[Path, typer.Argument(metavar="MODEL", help=_MODEL, show_default=False)]
PerhapsModel = Annotated[Path | None, typer.Argument(metavar="[MODEL]", help=_MODEL, show_default=False)]
Tta = Annotated[bool, typer.Option("--tta", help="Average over flips and quarter turns: better, eight times the cost.")]
_CHOICE = (
    "Channels of the images: numbers from 1, red, green, blue, with commas; 1+2 is a mean, gray that of all, and dark "
    "that turned over, for dark objects on a bright ground."
)
Channels = Annotated[str | None, typer.Option(metavar="CHOICE", help=_CHOICE, show_default="all")]
LearntChannels = Annotated[str | None, typer.Option(metavar="CHOICE", help=_CHOICE, show_default="as in training")]
Diameter = Annotated[
    str | None,
    typer.Option(
        metavar="PIXELS",
        help="Typical diameter of the objects, if not as in training; auto finds it out.",
        show_default="as in training",
    ),
]


ModelPrecision = Annotated[
    Precision,
    typer.Option(help="What the network computes in: bfloat16 is faster on CPUs that are made for it."),
]


def require_channels(choice: str | None) -> None:
    """See that a choice of channels is one."""
    if choice is not None:
        from instseg.channels import parse_channels

        parse_channels(choice)


def find_model(model: Path) -> Path:
    """Return the directory of a model given by its path or its name, and say which it is where both are there."""
    from instseg.builtin import find_model as find
    from instseg.builtin import hides_built_in

    if hides_built_in(model):
        terminal.note(f"Note: {model} is what has this name here, not the model in the package")
    return find(model)


def parse_diameter(text: str | None) -> "Size":
    """Read a diameter: a number of pixels, or 'auto'."""
    if text is None:
        return None
    if text == "auto":
        return "auto"
    try:
        return float(text)
    except ValueError as error:
        raise UsageError(f"--diameter is {text}, expected a number of pixels, or auto") from error


def require_model(model: Path, diameter: "Size") -> Path:
    """Return the directory of a model for objects that can be brought to the size of its own."""
    model = find_model(model)
    settings = read_model(model)
    if isinstance(diameter, float):
        settings.magnification(diameter)
    return model


def read_model(model: Path) -> "ModelSettings":
    """Return what the network of a model is."""
    from instseg.plan import stored_training

    return stored_training(model).plan.model


def load_model(model: Path, threads: int | None, precision: Precision) -> "Model":
    """Load TensorFlow and the model."""
    with terminal.waiting("Loading TensorFlow"):
        from instseg.runtime import load_tensorflow

        load_tensorflow(threads)
        from instseg.predict import load

        return load(model, precision=precision)
