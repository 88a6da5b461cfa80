"""What all settings have in common: they are declared once, checked when they are built, and stored as plain data."""

import dataclasses
import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

from instseg.errors import InstsegError, UsageError, check_parameter
from instseg.field_types import is_of_type, shown, type_name

DistanceName = Literal["manhattan", "euclidean"]
Precision = Literal["float32", "bfloat16"]


def option(default: Any, description: str) -> Any:
    """Declare a setting that is also an option of a command, with the description of the option."""
    return dataclasses.field(default=default, metadata={"help": description})


def check_positive(settings: object, *names: str) -> None:
    """Check that settings of these names are above 0 and finite."""
    for name in names:
        value = getattr(settings, name)
        check_parameter(0 < value < math.inf, name, value, "a number above 0")


def check_not_negative(settings: object, *names: str) -> None:
    """Check that settings of these names are 0 or above, and finite."""
    for name in names:
        value = getattr(settings, name)
        check_parameter(0 <= value < math.inf, name, value, "0 or a number above 0")


def check_choice(settings: object, name: str, choices: tuple[str, ...]) -> None:
    """Check that the setting of a name is one of several texts."""
    value = getattr(settings, name)
    check_parameter(value in choices, name, repr(value), "one of " + ", ".join(choices))


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Base of all groups of settings, which converts them to plain data and back."""

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as JSON-ready values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Build the settings from plain data, checking names, types and bounds.

        Raises
        ------
        InstsegError
            If a name is unknown or a value is of another type than the setting.
        """
        fields = {field.name: field for field in dataclasses.fields(cls)}
        for name, value in values.items():
            if name not in fields:
                raise InstsegError(f"unknown {cls.__name__} value {shown(name)}; expected {', '.join(fields)}")
            kind = fields[name].type
            if not is_of_type(value, kind):
                raise InstsegError(f"{cls.__name__} value {name!r} is {shown(value)}, expected {type_name(kind)}")
        return cls(**values)


def split_settings(values: Mapping[str, Any], *groups: type[Settings]) -> tuple[dict[str, Any], ...]:
    """Sort keyword arguments by the groups of settings that they belong to; None stands for a default and is left out.

    Raises
    ------
    UsageError
        If a name belongs to no group.

    Examples
    --------
    >>> from instseg.settings import ClusterSettings, TileSettings
    >>> split_settings({"tile": 512, "min_size": 5}, ClusterSettings, TileSettings)
    ({'min_size': 5}, {'tile': 512})
    """
    names = [{field.name for field in dataclasses.fields(group) if "help" in field.metadata} for group in groups]
    for name in values:
        if not any(name in of_group for of_group in names):
            known = sorted(set().union(*names))
            near = difflib.get_close_matches(name, known, n=1)
            advice = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(known)}"
            raise UsageError(f"there is no setting {name!r}; {advice}")
    return tuple(
        {name: value for name, value in values.items() if name in of_group and value is not None} for of_group in names
    )
