"""How commands open a model: what is wrong is told before TensorFlow takes its seconds."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from instseg.cli import terminal

if TYPE_CHECKING:
    from instseg.predict import Model

Tta = Annotated[bool, typer.Option("--tta", help="Average over flips and quarter turns: better, eight times the cost.")]
_CHOICE = "Channels of the images: numbers from 1, red, green, blue, with commas; 1+2 is a mean, gray that of all."
Channels = Annotated[str | None, typer.Option(metavar="CHOICE", help=_CHOICE, show_default="all")]
LearntChannels = Annotated[str | None, typer.Option(metavar="CHOICE", help=_CHOICE, show_default="as in training")]
Diameter = Annotated[
    float | None,
    typer.Option(
        metavar="PIXELS", help="Typical diameter of the objects, if not as in training.", show_default="as in training"
    ),
]


def require_channels(choice: str | None) -> None:
    """See that a choice of channels is one."""
    if choice is not None:
        from instseg.channels import parse_channels

        parse_channels(choice)


def require_model(model: Path, diameter: float | None) -> None:
    """See that there is a model, for objects that can be brought to the size of its own."""
    from instseg.settings import ModelSettings
    from instseg.store import damaged, read_settings

    _, stored = read_settings(model)
    if diameter is not None:
        try:
            settings = ModelSettings.from_dict(stored["model"])
        except (LookupError, TypeError, AttributeError) as error:
            raise damaged(model, error) from error
        settings.magnification(diameter)


def load_model(model: Path, threads: int | None) -> "Model":
    """Load TensorFlow and the model."""
    with terminal.waiting("Loading TensorFlow"):
        from instseg.runtime import load_tensorflow

        load_tensorflow(threads)
        from instseg.predict import load

        return load(model)
