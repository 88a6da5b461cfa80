"""The best set of links and divisions: no object has two pasts or two futures, and the sum of gains is the largest.

A link takes the future of one object and the past of another, a division the future of the mother and the pasts of both
daughters. This is a weighted set packing. Without divisions it is an assignment; with them its linear relaxation mostly
still has whole solutions. Most candidates are decided without a solver: one that gains at least as much as the best
others that it excludes, added up, belongs to an optimum. What is left is solved by HiGHS
(Huangfu and Hall 2018, https://doi.org/10.1007/s12532-017-0130-5), as SciPy has it.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array

from instseg.errors import InstsegError


def best_packing(members: NDArray[np.int64], gains: NDArray[np.float64]) -> NDArray[np.int64]:
    """Choose sets that share no member, of the largest sum of gains.

    Parameters
    ----------
    members : (K, 3) int64
        What each set takes, -1 for nothing.
    gains : (K,) float64
        Above 0.

    Returns
    -------
    (M,) int64
        Positions of the chosen sets, ascending.

    Raises
    ------
    InstsegError
        If HiGHS finds no optimum.

    Examples
    --------
    >>> members = np.array([[0, 2, -1], [0, 3, -1], [1, 2, -1]])
    >>> best_packing(members, np.array([0.9, 0.6, 0.5]))  # 0.6 + 0.5 is more than 0.9
    array([1, 2])
    """
    chosen: list[NDArray[np.int64]] = []
    active = np.arange(len(gains))
    # The order decides between equal gains, so that no two of them exclude each other.
    gains = gains * (1 - 1e-9 * np.arange(len(gains)) / max(len(gains), 1))
    while active.size:
        sure = _dominant(members[active], gains[active])
        if not sure.any():
            chosen.append(active[_solve(members[active], gains[active])])
            break
        chosen.append(active[sure])
        taken = np.unique(members[active[sure]])
        taken = taken[taken >= 0]
        active = active[~(np.isin(members[active], taken)).any(axis=1)]
    return np.sort(np.concatenate(chosen)) if chosen else active


def _dominant(members: NDArray[np.int64], gains: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which sets gain at least as much as the best others that share each of their members, added up."""
    owner, column = np.nonzero(members >= 0)
    things = members[owner, column]
    order = np.lexsort((-gains[owner], things))
    sorted_things, sorted_gains = things[order], gains[owner[order]]
    first = np.flatnonzero(np.diff(sorted_things, prepend=-1))
    sizes = np.diff(first, append=len(order))
    best_other = np.repeat(sorted_gains[first], sizes)
    # To the best one, the best other is the second.
    second = np.where(sizes > 1, sorted_gains[np.minimum(first + 1, len(order) - 1)], 0.0)
    best_other[first] = second
    sums = np.bincount(owner[order], weights=best_other, minlength=len(gains))
    return gains > sums


def _solve(members: NDArray[np.int64], gains: NDArray[np.float64]) -> NDArray[np.int64]:
    owner, column = np.nonzero(members >= 0)
    things, rows = np.unique(members[owner, column], return_inverse=True)
    matrix = csr_array((np.ones(len(owner)), (rows, owner)), shape=(len(things), len(gains)))
    found = milp(
        -gains,
        integrality=np.ones(len(gains), np.int64),
        bounds=Bounds(0, 1),
        constraints=LinearConstraint(matrix, ub=1.0),
    )
    if found.x is None:
        raise InstsegError(f"the solver found no tracks ({found.message}); link fewer frames, or within less distance")
    return np.flatnonzero(found.x > 0.5)
