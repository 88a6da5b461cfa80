"""What Keras needs to save and load objects of ours."""

from typing import Any, Self


class WithoutOptions:
    """An object that has no options: saved, it is its name alone."""

    def get_config(self) -> dict[str, Any]:
        """Return the options for Keras to save: there are none."""
        return {}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Build the object that Keras saved."""
        return cls(**config)
