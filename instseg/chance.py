"""Whether one thing is better than another, or luckier."""

import math
from collections.abc import Sequence

import numpy as np

# Standard errors that a difference has to be of: what is compared is the best of some dozens, and among so many, one
# that is two errors ahead by luck alone is to be expected.
_ERRORS = 2.5
# What one image's AP changes by between settings that are equally good, and the images that this guess counts as.
# It takes the place of what few images cannot show.
_EXPECTED, _WEIGHT = 0.02, 2


def clearly_better(scores: Sequence[float], than: Sequence[float]) -> bool:
    """Return whether the mean of some images' scores is higher than chance explains.

    The images are the same, so what counts is how much their differences differ (a paired comparison).

    Parameters
    ----------
    scores, than : sequence of float
        A score of 0..1 for each image, the images in the same order.

    Returns
    -------
    bool
        False where there are no images.
    """
    gains = np.subtract(scores, than)
    count = len(gains)
    if count == 0:
        return False
    spread = (_WEIGHT * _EXPECTED**2 + np.square(gains - gains.mean()).sum()) / (_WEIGHT + count - 1)
    return bool(gains.mean() > _ERRORS * math.sqrt(spread / count))
