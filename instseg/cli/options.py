"""Command-line options made from the settings classes, so that no name, default or description is written twice."""

import dataclasses
import functools
import inspect
import types
from collections.abc import Callable
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import typer

from instseg.settings import ClusterSettings, MetricLossSettings, Settings

Given = dict[str, Any]
"""The options of one settings class that the user gave, by field name."""


def settings_options(**groups: type[Settings]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options of settings classes.

    Each keyword names a parameter of the command, which receives a dict of
    those options that were given on the command line; which defaults apply to
    the others (a model's, a file's, the general ones) is the command's to say.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(command, eval_str=True)
        own = [parameter for name, parameter in signature.parameters.items() if name not in groups]
        made = {group: _parameters(settings) for group, settings in groups.items()}

        @functools.wraps(command)
        def run(**arguments: Any) -> None:
            for group, parameters in made.items():
                values = {parameter.name: arguments.pop(parameter.name) for parameter in parameters}
                arguments[group] = {name: value for name, value in values.items() if value is not None}
            command(**arguments)

        parameters = [*own, *(parameter for parameters in made.values() for parameter in parameters)]
        run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return run

    return decorate


def _parameters(settings: type[Settings]) -> list[inspect.Parameter]:
    hints = get_type_hints(settings)
    return [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=None,
            annotation=Annotated[
                _optional(hints[field.name]),
                typer.Option(
                    _names(field.name, hints[field.name]),
                    help=_help(settings, field),
                ),
            ],
        )
        for field in dataclasses.fields(settings)
        if "help" in field.metadata
    ]


def _names(name: str, hint: Any) -> str:
    """Return an option's name; what is stored as true has to have an opposite."""
    option = name.replace("_", "-")
    return f"--{option}/--no-{option}" if hint is bool else f"--{option}"


def _optional(hint: Any) -> Any:
    if get_origin(hint) in (types.UnionType, Union) and type(None) in get_args(hint):
        return hint
    return hint | None


def _help(settings: type[Settings], field: "dataclasses.Field[Any]") -> str:
    """Describe an option. What it is when it is not given is written here, as its default for Typer is None."""
    belongs = "With --loss metric: " if settings is MetricLossSettings else ""
    # What a model or a file was tuned to comes before the general defaults.
    stored = "the stored one, else " if settings is ClusterSettings else ""
    default = "" if field.default is None else f"  [default: {stored}{field.default}]"
    return f"{belongs}{field.metadata['help']}{default}"
