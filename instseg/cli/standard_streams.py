"""`-` in the place of a file: an image from standard input, labels to standard output."""

import contextlib
import functools
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

from instseg.cli import terminal
from instseg.errors import InstsegError, UsageError

_DASH = Path("-")


def standard_streams(command: Callable[..., None]) -> Callable[..., None]:
    """Let a command with `images`, `out` and `file_format` take `-` for standard input and standard output.

    Standard input is copied to a file, as readers go back and forth in images, and an image need not fit into memory.
    Where labels go to standard output nothing else does: what the command prints goes to stderr. They are of the format
    `file_format`, or TIFF where they do not fit into a PNG or the image is read part by part.
    """

    @functools.wraps(command)
    def run(*, images: list[Path], out: Path | None, file_format: str | None, **arguments: Any) -> None:
        if _DASH not in images and out != _DASH:
            command(images=images, out=out, file_format=file_format, **arguments)
            return
        _check(images, out == _DASH, file_format)
        with contextlib.ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="instseg-")))
            image, labels = folder / "stdin", folder / "labels"
            names = {f"{labels}.{suffix}": "standard output" for suffix in ("png", "tif", "npy")}
            stack.enter_context(terminal.shown_as({str(image): "standard input", **names}))
            if _DASH in images:
                _copy_stdin(image)
                images = [image if path == _DASH else path for path in images]
            if out != _DASH:
                command(images=images, out=out, file_format=file_format, **arguments)
                return
            default = "tif" if arguments.get("volume") else "png"
            suffix = _suffix_for(images, file_format or default)
            with contextlib.redirect_stdout(sys.stderr):
                command(images=images, out=labels.with_suffix(suffix), file_format=file_format, **arguments)
            # A TIFF beside it has what does not fit into a PNG.
            (written,) = folder.glob("labels.*")
            _write_stdout(written)

    return run


def _check(images: Sequence[Path], to_stdout: bool, file_format: str | None) -> None:
    if images.count(_DASH) > 1:
        raise UsageError("- stands for standard input, which can be read once; give it once")
    if _DASH in images and _is_terminal(0):
        raise UsageError("- stands for standard input, which is a terminal; give a file, or lead one there by < FILE")
    if to_stdout and _is_terminal(1):
        raise UsageError("standard output is a terminal, which shows no images; lead it to a file or a program")
    if to_stdout and file_format == "zarr":
        raise UsageError("a Zarr group is a folder, which standard output cannot be; give `file_format='tif'`")


def _suffix_for(images: Sequence[Path], file_format: str) -> str:
    from instseg.io.source import is_streamed

    for image in images:
        # What cannot be opened is reported by the command.
        with contextlib.suppress(InstsegError):
            if is_streamed(image):
                return ".tif"
    return f".{file_format}"


def _copy_stdin(file: Path) -> None:
    try:
        with file.open("wb") as target:
            shutil.copyfileobj(_stdin(), target)
    except OSError as error:
        raise InstsegError(
            f"cannot keep standard input in {file.parent}: {error.strerror}; free space there, or set TMPDIR"
        ) from error


def _write_stdout(file: Path) -> None:
    with file.open("rb") as source:
        shutil.copyfileobj(source, _stdout())
    _stdout().flush()


def _stdin() -> IO[bytes]:
    return sys.stdin.buffer


def _stdout() -> IO[bytes]:
    return sys.stdout.buffer


def _is_terminal(number: int) -> bool:
    return os.isatty(number)
