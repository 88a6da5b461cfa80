"""`instseg export`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from instseg.cli import terminal
from instseg.cli.model import ModelArgument, find_model
from instseg.errors import UsageError


def export(
    model: ModelArgument,
    out: Annotated[
        Path, typer.Option(metavar="PATH", help="A new directory, or a file NAME.onnx.", show_default=False)
    ],
    file_format: Annotated[
        Literal["compact", "onnx"] | None,
        typer.Option("--format", help="Of the copy.", show_default="onnx if PATH ends in .onnx, else compact"),
    ] = None,
) -> None:
    """Write a model once more, to pass on.

    compact: a model directory without its training's state, weights in half precision; it predicts, and a training can
    begin with it (--from), but not be resumed in it. onnx: a file for other runtimes, compared with TensorFlow.
    """
    from instseg.io.atomic import check_new, check_writable
    from instseg.models.directory import read_settings

    model = find_model(model)
    read_settings(model)
    is_onnx = out.suffix.lower() == ".onnx"
    if (file_format or "onnx") == "onnx" and is_onnx:
        check_writable(out, ".onnx")
        _export_onnx(model, out)
    elif file_format == "onnx":
        raise UsageError(f"out is {out}, expected a name that ends in .onnx for `file_format=onnx`", parameter="out")
    elif is_onnx:
        raise UsageError(f"out is {out}, expected the name of a directory for `file_format=compact`", parameter="out")
    else:
        check_new(out)
        _export_compact(model, out)
    size = sum(path.stat().st_size for path in [out, *out.rglob("*")] if path.is_file())
    terminal.print_result(f"{out}: {size / 2**20:.1f} MiB")


def _export_compact(model: Path, out: Path) -> None:
    _load()
    from instseg.models.export import export_compact

    with terminal.spinner("Writing the copy"):
        export_compact(model, out)


def _export_onnx(model: Path, out: Path) -> None:
    # Missing packages are reported before TensorFlow takes its seconds.
    from instseg.optional import require_extra

    require_extra("onnx")
    _load()
    from instseg.models.onnx import export_onnx

    with terminal.spinner("Writing the copy, and comparing what it gives"):
        differences = export_onnx(model, out, quiet=True)
    listed = ", ".join(f"{name} {value:.1g}" for name, value in sorted(differences.items()))
    terminal.print_note(f"Largest differences between ONNX Runtime and TensorFlow, of the largest value: {listed}")


def _load() -> None:
    with terminal.spinner("Loading TensorFlow"):
        from instseg.network.runtime import load_tensorflow

        load_tensorflow(quiet=True)
