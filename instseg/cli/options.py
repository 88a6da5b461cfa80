"""Options and parameters: options made from the settings classes, and messages of the core in the words of options.

No name, default or description of an option is written twice. The core names parameters as Python has them
(`instseg.errors`); `as_options` and `terminal_text` put options in their place.
"""

import ast
import dataclasses
import functools
import inspect
import re
import shlex
import types
import warnings
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Annotated, Any, NamedTuple, Union, get_args, get_origin, get_type_hints

import typer

from instseg.errors import InstsegError
from instseg.settings import ClusterSettings, MetricLossSettings, Settings

Overrides = dict[str, Any]
"""The options of one settings class that the user gave, by field name."""

# Words of the core in backticks stand between spaces or punctuation. Names of files may have such characters, too.
_QUOTED = re.compile(r"(?<![^\s(])`([^`]{1,200})`(?=[,.;:)]*(?:\s|$))")
# Parameters of the core that are options of other names.
_ALIASES = {"planes_as_channels": "channels", "widths": "network"}


class Option(NamedTuple):
    """How a parameter is written on the command line.

    Attributes
    ----------
    name : str
        Such as '--tile'; of an argument what usage shows, such as 'MODEL'.
    opposite : str or None
        What stores False, such as '--no-fill-holes', where an option does.
    positional : bool
        Whether it is an argument, which is given without its name.
    """

    name: str
    opposite: str | None = None
    positional: bool = False

    def given(self, value: str) -> str:
        """Return how the option is given with a value that is written as in Python."""
        if value == "False":
            return self.opposite or f"no {self.name}"
        if value == "True":
            return self.name
        return value if self.positional else f"{self.name} {value}"


OPTIONS: ContextVar[Mapping[str, Option]] = ContextVar("OPTIONS")
"""The options of the command that runs, by parameter."""


def settings_options(**groups: type[Settings]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options of settings classes.

    Each keyword names a parameter of the command, which receives a dict of those options that were given on the
    command line; the command decides which defaults apply to the others (those of a model, of a file, the general
    ones).
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(command, eval_str=True)
        own = [parameter for name, parameter in signature.parameters.items() if name not in groups]
        of_groups = {group: _parameters(settings) for group, settings in groups.items()}

        @functools.wraps(command)
        def run(**arguments: Any) -> None:
            for group, parameters in of_groups.items():
                values = {parameter.name: arguments.pop(parameter.name) for parameter in parameters}
                arguments[group] = {name: value for name, value in values.items() if value is not None}
            command(**arguments)

        parameters = [*own, *(parameter for parameters in of_groups.values() for parameter in parameters)]
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
                typer.Option(_declaration(field.name, hints[field.name]), help=_help(settings, field)),
            ],
        )
        for field in dataclasses.fields(settings)
        if "help" in field.metadata
    ]


def _declaration(name: str, hint: Any) -> str:
    """Return an option's names; a flag has to have an opposite, as True may be stored."""
    option = name.replace("_", "-")
    return f"--{option}/--no-{option}" if hint is bool else f"--{option}"


def _optional(hint: Any) -> Any:
    if get_origin(hint) in (types.UnionType, Union) and type(None) in get_args(hint):
        return hint
    return hint | None


def _help(settings: type[Settings], field: "dataclasses.Field[Any]") -> str:
    """Describe an option. The default is written here, as Typer's default is None."""
    belongs = "With --loss metric: " if settings is MetricLossSettings else ""
    # What a model or a file was tuned to comes before the general defaults.
    stored = "the stored one, else " if settings is ClusterSettings else ""
    default = "" if field.default is None else f"  [default: {stored}{field.default}]"
    return as_options(f"{belongs}{field.metadata['help']}{default}")


def as_options(text: str, options: Mapping[str, Option] | None = None) -> str:
    """Write the parameters that a text has in backticks as options; what else is in backticks loses these.

    Parameters
    ----------
    text : str
        Such as "give `connected_components=True`, or choose some with `channels='2'`". Several arguments may stand
        together: "`model=MODEL, data=DIR`".
    options : mapping of str to Option, optional
        By parameter. Without it, every parameter is the option of its name.

    Examples
    --------
    >>> as_options("give `connected_components=True`, or choose some with `channels='2'`")
    'give --connected-components, or choose some with --channels 2'
    """

    def replace(match: re.Match[str]) -> str:
        arguments = _arguments(match[1])
        words = []
        for name, value in arguments:
            option = _option_of(name, options)
            if option is None:
                return match[1]
            words.append(option.name if value is None else option.given(value))
        return " ".join(words) or match[1]

    return _QUOTED.sub(replace, text)


def _arguments(text: str) -> list[tuple[str, str | None]]:
    """Return the names and values in a text like those of a call: 'tile, fill_holes=True'; [] if it is none."""
    call = f"f({text})"
    try:
        # Texts may hold names of files: Python warns of some, and others are more than its parser takes.
        with warnings.catch_warnings(action="ignore"):
            node = ast.parse(call, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    if not isinstance(node, ast.Call):
        return []
    names = [(argument.id, None) for argument in node.args if isinstance(argument, ast.Name)]
    values = [(keyword.arg, _value(call, keyword.value)) for keyword in node.keywords if keyword.arg is not None]
    if len(names) + len(values) != len(node.args) + len(node.keywords):
        return []
    return [*names, *values]


def _value(source: str, node: ast.expr) -> str:
    try:
        value = ast.literal_eval(node)
    except ValueError:
        # No value but what stands for one, such as NAME.tif.
        return ast.get_source_segment(source, node) or ""
    if isinstance(value, tuple | list):
        return ",".join(str(part) for part in value)
    if value is ...:
        return "..."
    return shlex.quote(value) if isinstance(value, str) else str(value)


def _option_of(parameter: str, options: Mapping[str, Option] | None) -> Option | None:
    if options is None:
        return Option("--" + parameter.replace("_", "-"))
    return options.get(parameter) or options.get(_ALIASES.get(parameter, ""))


def error_text(error: InstsegError, options: Mapping[str, Option]) -> str:
    """Return the message of an error with options in the place of parameters."""
    text = str(error)
    if error.parameter is not None and text.startswith(error.parameter):
        option = _option_of(error.parameter, options)
        text = (option.name if option else error.parameter) + text.removeprefix(error.parameter)
    return as_options(text, options)


def terminal_text(message: str | InstsegError) -> str:
    """Return a message of the core with the options of the command that runs in the place of parameters."""
    options = OPTIONS.get({})
    return error_text(message, options) if isinstance(message, InstsegError) else as_options(message, options)


def option_names(command: Any) -> dict[str, Option]:
    """Return the options and arguments of a command of Typer and of all below it, by parameter; its own come first."""
    names: dict[str, Option] = {}
    for parameter in command.params:
        long = [option for option in parameter.opts if option.startswith("--")]
        if long:
            names[parameter.name] = Option(long[0], next(iter(parameter.secondary_opts), None))
        else:
            names[parameter.name] = Option(str(parameter.metavar or parameter.name).strip("[]"), positional=True)
    for below in getattr(command, "commands", {}).values():
        names = option_names(below) | names
    return names
