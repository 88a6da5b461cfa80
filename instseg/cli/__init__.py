"""The `instseg` command. Only this package knows a terminal; what is heavy is imported inside the commands."""

import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import instseg
from instseg.cli import cluster, data, evaluate, export, models, predict, terminal, train
from instseg.errors import InstsegError


class _Group(TyperGroup):
    """Turns mistakes that a user can mend into one line on stderr and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except InstsegError as error:
            terminal.complain(str(error))
            raise typer.Exit(error.exit_code) from error
        except OSError as error:
            # Paths that cannot even be looked at: names that are too long, folders that may not be entered.
            if error.filename is None:
                raise
            terminal.complain(f"cannot use {error.filename}: {error.strerror}; check the name and the permissions")
            raise typer.Exit(1) from error
        except MemoryError as error:
            terminal.complain("there is not enough memory for this; use smaller images, or fewer at a time")
            raise typer.Exit(1) from error


app = typer.Typer(
    cls=_Group,
    name="instseg",
    help="Instance segmentation with learned embeddings: images and labels in, one label per object out.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    # Rich's help pages cost more time than everything else that --help does.
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"instseg {instseg.__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Instance segmentation with learned embeddings: images and labels in, one label per object out."""


app.add_typer(data.app, name="data")
app.command("train")(train.train)
app.command("predict")(predict.predict)
app.command("cluster")(cluster.cluster)
app.command("evaluate")(evaluate.evaluate)
app.command("models")(models.models)
app.command("export")(export.export)


def main() -> None:
    """Run the command line of this process."""
    app(prog_name="instseg")
    sys.exit(0)
