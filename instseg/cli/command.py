"""What all commands have in common: mistakes that a user can mend become one line on stderr and an exit code."""

from typing import Any

import typer
from typer.core import TyperCommand

from instseg.cli import terminal
from instseg.cli.options import OPTIONS, option_names
from instseg.errors import InstsegError


class Command(TyperCommand):
    """A command whose messages name its options, and those of other commands where it has none of that name."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command, and report what a user can mend."""
        token = OPTIONS.set(option_names(ctx.find_root().command) | option_names(self))
        try:
            return super().invoke(ctx)
        except InstsegError as error:
            terminal.print_error(error)
            raise typer.Exit(error.exit_code) from error
        except OSError as error:
            # Paths that cannot even be looked at: names that are too long, folders that may not be entered.
            if error.filename is None:
                raise
            terminal.print_error(f"cannot use {error.filename}: {error.strerror}; check the name and the permissions")
            raise typer.Exit(1) from error
        except MemoryError as error:
            terminal.print_error("there is not enough memory for this; use smaller images, or fewer at a time")
            raise typer.Exit(1) from error
        finally:
            OPTIONS.reset(token)
