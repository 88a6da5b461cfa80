"""Whether the scores of some images are higher than those of others by more than chance."""

import math
from collections.abc import Sequence

import numpy as np

# A difference has to be of so many standard errors: what is compared is the best of some dozens of candidates, and
# among so many, one that is two standard errors ahead by chance alone is to be expected.
_STANDARD_ERRORS = 2.5
# A prior for what few images cannot show: how much the AP of one image differs between settings that are equally good,
# and the number of images that this guess counts as.
_PRIOR_DEVIATION, _PRIOR_IMAGES = 0.02, 2


def significantly_better(scores: Sequence[float], than: Sequence[float]) -> bool:
    """Return whether the mean score of some images is higher than chance explains.

    The images are the same, so that the spread of their differences counts (a paired comparison).

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
    deviations = _PRIOR_IMAGES * _PRIOR_DEVIATION**2 + np.square(gains - gains.mean()).sum()
    variance = deviations / (_PRIOR_IMAGES + count - 1)
    return bool(gains.mean() > _STANDARD_ERRORS * math.sqrt(variance / count))
