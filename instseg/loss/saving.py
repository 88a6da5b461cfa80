"""What Keras needs to save and load objects of this package."""

from typing import Any, Self


class StatelessSerializable:
    """An object without options, which Keras saves as its name alone."""

    def get_config(self) -> dict[str, Any]:
        """Return the options for Keras to save, of which there are none."""
        return {}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Build the object that Keras saved."""
        return cls(**config)
