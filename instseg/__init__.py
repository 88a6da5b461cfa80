"""Instance segmentation with learned embeddings.

A network gives every pixel a vector; pixels of one object lie together and
objects lie apart; clustering turns the vectors into labels.

>>> import instseg
>>> model = instseg.load("MODEL")              # doctest: +SKIP
>>> labels = model.predict(image)              # doctest: +SKIP
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from instseg.errors import InstsegError, UsageError
    from instseg.predict import Model, load

__version__ = "0.1.0"
__all__ = ["InstsegError", "Model", "UsageError", "__version__", "load"]

# TensorFlow takes seconds to load, so that names which need it come when they are first used.
_HOMES = {"InstsegError": "errors", "UsageError": "errors", "Model": "predict", "load": "predict"}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(f"instseg.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'instseg' has no attribute {name!r}")
