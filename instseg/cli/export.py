"""`instseg export`."""

from pathlib import Path
from typing import Annotated

import typer

from instseg.cli import terminal
from instseg.cli.model import KnownModel, find_model


def export(
    model: KnownModel,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the copy goes: a new directory.", show_default=False)],
) -> None:
    """Write a model once more, small enough to pass on: without its training's state, weights in half precision.

    The copy predicts, and a training can begin with it (--from), but not be resumed in it.
    """
    from instseg.files import require_new
    from instseg.store import read_settings

    model = find_model(model)
    read_settings(model)
    require_new(out)
    with terminal.waiting("Loading TensorFlow"):
        from instseg.runtime import load_tensorflow

        load_tensorflow()
        from instseg.export import export_compact
    with terminal.waiting("Writing the copy"):
        export_compact(model, out)
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    typer.echo(f"{out}: {size / 2**20:.1f} MiB")
