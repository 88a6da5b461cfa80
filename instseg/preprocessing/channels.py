"""Which channels of an image the network sees."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from instseg.errors import InstsegError, UsageError

_NAMES = {"red": 1, "green": 2, "blue": 3}
_MEAN, _INVERTED, _COLOUR = "gray", "dark", "rgb"


class ChannelMix(NamedTuple):
    """What a channel is made of.

    Attributes
    ----------
    channels : tuple of int
        Those, from 0, whose mean it is; an empty tuple stands for all that there are.
    inverted : bool
        Whether it is negated, so that dark pixels become bright.
    """

    channels: tuple[int, ...]
    inverted: bool = False


def parse_channels(choice: str) -> tuple[ChannelMix, ...]:
    """Read a choice of channels.

    Parameters
    ----------
    choice : str
        Channels to make, with commas between them: each the number (from 1) or the name (red, green, blue) of one
        channel, several joined by + for their mean, gray for the mean of all, or dark for that inverted: objects
        that are dark on a bright background become bright on a dark one. Such as '2', 'blue,red', '1+2,3', 'dark'.
        Or rgb for the three channels of a colour image, and three times the mean of all of any other.

    Returns
    -------
    tuple of ChannelMix

    Raises
    ------
    UsageError
        If the text is no such choice.

    Examples
    --------
    >>> parse_channels("blue,1+2")
    (ChannelMix(channels=(2,), inverted=False), ChannelMix(channels=(0, 1), inverted=False))
    """
    if _is_colour(choice):
        return tuple(ChannelMix((channel,)) for channel in range(3))
    return tuple(_parse_mix(choice, mix) for mix in choice.lower().split(","))


def select_channels(image: NDArray[Any], choice: str) -> NDArray[Any]:
    """Make an image of the chosen channels.

    Parameters
    ----------
    image : (H, W, C) or (Z, H, W, C) of numbers
    choice : str
        As `parse_channels` reads it.

    Returns
    -------
    (H, W, K) or (Z, H, W, K) of the image's dtype, or float32 where a mean is taken; an inverted channel is negative

    Raises
    ------
    UsageError
        If the text is no choice of channels.
    InstsegError
        If the image has fewer channels.
    """
    mixes = parse_channels(choice)
    count = image.shape[-1]
    if _is_colour(choice) and count != 3:
        gray = select_channels(image, _MEAN) if count > 1 else image
        return np.repeat(gray, 3, axis=-1)
    if not has_channels(count, choice):
        largest = 1 + max(channel for mix in mixes for channel in mix.channels)
        raise InstsegError(
            f"the image has {format_channel_count(count)}, but `channels='{choice}'` takes channel {largest}"
        )
    mixes = tuple(mix._replace(channels=mix.channels or tuple(range(count))) for mix in mixes)
    if all(len(mix.channels) == 1 and not mix.inverted for mix in mixes):
        return np.ascontiguousarray(image[..., [mix.channels[0] for mix in mixes]])
    means = [image[..., list(mix.channels)].mean(axis=-1, dtype=np.float32) for mix in mixes]
    return np.stack([-mean if mix.inverted else mean for mix, mean in zip(mixes, means, strict=True)], axis=-1)


def has_channels(count: int, choice: str) -> bool:
    """Return whether an image of `count` channels has all those that a choice names."""
    if _is_colour(choice):
        return True
    return all(channel < count for mix in parse_channels(choice) for channel in mix.channels)


def match_channels(image: NDArray[Any], channels: int, choice: str | None) -> NDArray[Any]:
    """Make an image of the channels that a network takes.

    These are the ones that the network was trained on where the image has them, else the image's own where their number
    is right. A gray image becomes three equal channels for a network that takes RGB; an RGB image whose channels are
    equal becomes gray.

    Parameters
    ----------
    image : (H, W, C) or (Z, H, W, C) of numbers
    channels : int
        How many the network takes.
    choice : str or None
        The channels that the network was trained on, as `parse_channels` reads them.

    Returns
    -------
    (H, W, channels) or (Z, H, W, channels) of numbers

    Raises
    ------
    InstsegError
        If the channels do not fit.
    """
    count = image.shape[-1]
    if choice is not None and has_channels(count, choice):
        return select_channels(image, choice)
    if count == channels:
        return image
    if (count, channels) == (1, 3):
        return np.repeat(image, 3, axis=-1)
    if (count, channels) == (3, 1) and (image == image[..., :1]).all():
        return np.ascontiguousarray(image[..., :1])
    advice = "choose some by `channels`, such as 2 or gray" if count > channels else "convert the image"
    raise InstsegError(
        f"the image has {format_channel_count(count)}, the model takes {format_channel_count(channels)}; "
        f"{advice}, or train a model on such images"
    )


def inverted_channels(count: int, channels: int, choice: str | None) -> tuple[bool, ...]:
    """Return of each channel that a network sees whether it is the negative of what the file holds.

    Parameters
    ----------
    count, channels : int
        How many channels the image has, and how many the network takes.
    choice : str or None
        As `match_channels` takes it.

    Examples
    --------
    >>> inverted_channels(3, 1, "dark"), inverted_channels(1, 3, None)
    ((True,), (False, False, False))
    """
    if choice is None or not has_channels(count, choice):
        return (False,) * channels
    flags = tuple(mix.inverted for mix in parse_channels(choice))
    return flags * channels if len(flags) == 1 else flags


def format_channel_count(count: int) -> str:
    """Return a number of channels in words."""
    return "1 channel (gray)" if count == 1 else f"{count} channels"


def _is_colour(choice: str) -> bool:
    return choice.strip().lower() == _COLOUR


def _parse_mix(choice: str, mix: str) -> ChannelMix:
    if mix.strip() in (_MEAN, _INVERTED):
        return ChannelMix((), inverted=mix.strip() == _INVERTED)
    channels = []
    for part in mix.split("+"):
        name = part.strip()
        number = _NAMES.get(name) or (int(name) if name.isascii() and name.isdigit() and len(name) < 6 else 0)
        if number < 1:
            expected = (
                "numbers from 1, red, green or blue, joined by commas, by + for their mean, gray for that of all, "
                "dark for that inverted, or rgb"
            )
            raise UsageError(f"channels is '{choice}', expected {expected}", parameter="channels")
        channels.append(number - 1)
    return ChannelMix(tuple(channels))
