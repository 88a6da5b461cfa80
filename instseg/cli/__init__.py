"""The `instseg` command. Only this package knows a terminal; what is heavy is imported inside the commands."""

import logging
import os
import sys
from typing import Annotated

import typer

import instseg
from instseg.cli import (
    cluster,
    data,
    evaluate,
    export,
    label,
    measure,
    models,
    predict,
    signals,
    terminal,
    track,
    train,
)
from instseg.cli.command import TRACEBACK, Command, Group

app = typer.Typer(
    name="instseg",
    cls=Group,
    help="Instance segmentation with learned embeddings: images and labels in, one label per object out.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    # Rich's help pages cost more time than everything else that --help does.
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        terminal.print_result(f"instseg {instseg.__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Instance segmentation with learned embeddings: images and labels in, one label per object out."""


app.add_typer(data.app, name="data")
app.command("train", cls=Command)(train.train)
app.command("predict", cls=Command)(predict.predict)
app.command("cluster", cls=Command)(cluster.cluster)
app.command("label", cls=Command)(label.label)
app.command("measure", cls=Command)(measure.measure)
app.command("track", cls=Command)(track.track)
app.command("evaluate", cls=Command)(evaluate.evaluate)
app.command("models", cls=Command)(models.models)
app.command("export", cls=Command)(export.export)


def main() -> None:
    """Run the command line of this process, and end it."""
    streams = terminal.Streams()
    signals.exit_in_order()
    if TRACEBACK in os.environ:
        # The core logs the tracebacks of what costs one image of many.
        logging.basicConfig()
        logging.getLogger("instseg").setLevel(logging.DEBUG)
    try:
        app(prog_name="instseg")
    except SystemExit as end:
        sys.exit(streams.exit_code(end.code if isinstance(end.code, int) else 0))
