"""Which channels of an image the network sees."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from instseg.errors import InstsegError, UsageError

_NAMES = {"red": 1, "green": 2, "blue": 3}
_ALL, _DARK = "gray", "dark"


class Mix(NamedTuple):
    """What a channel is made of.

    Attributes
    ----------
    channels : tuple of int
        Those, from 0, whose mean it is; none of them stands for all that there are.
    dark : bool
        Whether it is turned over, so that what is dark becomes bright.
    """

    channels: tuple[int, ...]
    dark: bool = False


def parse_channels(choice: str) -> tuple[Mix, ...]:
    """Read a choice of channels.

    Parameters
    ----------
    choice : str
        Channels to make, with commas between them: each the number (from 1) or the name (red, green, blue) of one
        channel, several joined by + for their mean, gray for the mean of all, or dark for that turned over: objects
        that are dark on a bright ground are bright on a dark one in it. Such as '2', 'blue,red', '1+2,3', 'dark'.

    Returns
    -------
    tuple of Mix

    Raises
    ------
    UsageError
        If it is none.

    Examples
    --------
    >>> parse_channels("blue,1+2")
    (Mix(channels=(2,), dark=False), Mix(channels=(0, 1), dark=False))
    """
    return tuple(_parse_mix(choice, mix) for mix in choice.lower().split(","))


def choose_channels(image: NDArray[Any], choice: str) -> NDArray[Any]:
    """Make the chosen channels of an image.

    Parameters
    ----------
    image : (H, W, C) of numbers
    choice : str
        As `parse_channels` reads it.

    Returns
    -------
    (H, W, K) of the image's dtype, or float32 where a mean had to be taken; what is turned over is negative

    Raises
    ------
    UsageError
        If the choice is none.
    InstsegError
        If the image has fewer channels.
    """
    mixes = parse_channels(choice)
    count = image.shape[2]
    if not suits(count, choice):
        largest = 1 + max(channel for mix in mixes for channel in mix.channels)
        raise InstsegError(f"the image has {describe(count)}, but --channels {choice} takes channel {largest}")
    made = [mix._replace(channels=mix.channels or tuple(range(count))) for mix in mixes]
    if all(len(mix.channels) == 1 and not mix.dark for mix in made):
        return np.ascontiguousarray(image[..., [mix.channels[0] for mix in made]])
    means = [image[..., list(mix.channels)].mean(axis=-1, dtype=np.float32) for mix in made]
    return np.stack([-mean if mix.dark else mean for mix, mean in zip(made, means, strict=True)], axis=-1)


def suits(count: int, choice: str) -> bool:
    """Return whether an image of `count` channels has all those that a choice names."""
    return all(channel < count for mix in parse_channels(choice) for channel in mix.channels)


def fit_channels(image: NDArray[Any], wanted: int, choice: str | None) -> NDArray[Any]:
    """Give a network the channels that it takes.

    Those that it has learnt where the image has them; else the image's own where their number is right. A gray image
    becomes three equal channels for a network that takes RGB; an RGB image whose channels are equal becomes gray.

    Parameters
    ----------
    image : (H, W, C) of numbers
    wanted : int
        Channels that the network takes.
    choice : str or None
        What the images that the network has learnt from were made of, as `parse_channels` reads it.

    Returns
    -------
    (H, W, wanted) of numbers

    Raises
    ------
    InstsegError
        If the channels do not fit.
    """
    count = image.shape[2]
    if choice is not None and suits(count, choice):
        return choose_channels(image, choice)
    if count == wanted:
        return image
    if (count, wanted) == (1, 3):
        return np.repeat(image, 3, axis=2)
    if (count, wanted) == (3, 1) and (image == image[..., :1]).all():
        return np.ascontiguousarray(image[..., :1])
    advice = "choose some by --channels, such as 2 or gray" if count > wanted else "convert the image"
    raise InstsegError(
        f"the image has {describe(count)}, the model takes {describe(wanted)}; "
        f"{advice}, or train a model on such images"
    )


def describe(count: int) -> str:
    """Return a number of channels in words."""
    return "1 channel (gray)" if count == 1 else f"{count} channels"


def _parse_mix(choice: str, mix: str) -> Mix:
    if mix.strip() in (_ALL, _DARK):
        return Mix((), dark=mix.strip() == _DARK)
    channels = []
    for part in mix.split("+"):
        name = part.strip()
        number = _NAMES.get(name) or (int(name) if name.isascii() and name.isdigit() and len(name) < 6 else 0)
        if number < 1:
            expected = (
                "numbers from 1, red, green or blue, joined by commas, by + for their mean, gray for that of all, "
                "or dark for that turned over"
            )
            raise UsageError(f"--channels is '{choice}', expected {expected}")
        channels.append(number - 1)
    return Mix(tuple(channels))
