"""Whether a machine has the memory that is asked for, found out before any work begins."""

import math
import os
from collections.abc import Sequence
from pathlib import Path

from instseg.errors import InstsegError, UsageError
from instseg.settings import ModelSettings, TileSettings
from instseg.tiling.sizes import BASE_MEMORY, bytes_per_pixel

LEAST_MEMORY = 0.6
"""What the network takes with the smallest tile, in GiB, its library included."""

_CGROUPS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
_MEMINFO = Path("/proc/meminfo")


def machine_memory() -> float:
    """Return the memory of this machine in GiB, or of the container that the process is in."""
    size = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for path in _CGROUPS:
        try:
            size = min(size, int(path.read_text()))
        except (OSError, ValueError):
            # Not there, or without a limit.
            continue
    return size / 2**30


def free_memory() -> float:
    """Return how much memory can be had on this machine, in GiB; that of the machine where it does not say."""
    try:
        fields = dict(line.split(":", 1) for line in _MEMINFO.read_text().splitlines())
        free = sum(int(fields[name].split()[0]) for name in ("MemAvailable", "SwapFree")) / 2**20
    except (OSError, KeyError, ValueError, IndexError):
        return machine_memory()
    return min(free, machine_memory())


def check_memory(tiles: TileSettings, *, here: bool = True) -> None:
    """Check that there is memory for a tile, and as much as is to be taken.

    Parameters
    ----------
    tiles : TileSettings
    here : bool
        Whether the network runs on this machine.

    Raises
    ------
    UsageError
        If `tiles.memory` is less than the network takes, or more than the machine has.
    InstsegError
        If other programs leave too little of it.
    """
    if tiles.tile is None and tiles.memory < LEAST_MEMORY:
        raise UsageError(
            f"{tiles.memory:g} GiB of memory are not enough for the smallest tile, which takes {LEAST_MEMORY:g}; "
            f"give `memory={LEAST_MEMORY:g}` or more",
            parameter="memory",
        )
    if not here:
        return
    there = machine_memory()
    if there < LEAST_MEMORY:
        raise InstsegError(
            f"this machine has {there:.2f} GiB of memory, and the smallest tile takes {LEAST_MEMORY:g}; "
            "use a machine with more"
        )
    if tiles.tile is None and tiles.memory > there:
        most = math.floor(10 * there) / 10
        raise UsageError(
            f"{tiles.memory:g} GiB of memory are to be taken, and this machine has {there:.1f}; "
            f"give `memory={most:g}` or less",
            parameter="memory",
        )
    if (free := free_memory()) < LEAST_MEMORY:
        raise InstsegError(
            f"{free:.2f} GiB of this machine's memory are free, and the smallest tile takes {LEAST_MEMORY:g}; "
            "end other programs, or use a machine with more"
        )


def check_tile(shape: Sequence[int], model: ModelSettings, tiles: TileSettings, maps: int, scale: float) -> None:
    """Check that a tile of a size that somebody has chosen fits into the memory of this machine.

    Parameters
    ----------
    shape : sequence of int
        Of the image, (H, W).
    model, tiles, maps
        As `instseg.tiling.sizes.plan_tiles` takes them.
    scale : float
        How many times larger the network sees the image.

    Raises
    ------
    InstsegError
        If it does not.
    """
    if tiles.tile is None:
        return
    pixel, there = bytes_per_pixel(model, maps, scale, half=True) / 2**30, machine_memory()
    needed = BASE_MEMORY + math.prod(min(tiles.tile, length) for length in shape) * pixel
    if needed > there:
        side = math.floor(math.sqrt(max(there - BASE_MEMORY, 0) / 2 / pixel))
        raise InstsegError(
            f"a tile of {tiles.tile} pixels takes about {needed:.1f} GiB of memory, and this machine has {there:.1f}; "
            f"give `tile={side}` or less"
        )
