"""Tracks as GEFF, the exchange format of graphs of objects in space and time: a Zarr group of nodes and edges.

Version 1.3 is written, in Zarr 3: https://liveimagetrackingtools.org/geff
"""

import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from instseg.errors import InstsegError
from instseg.io.atomic import StrPath, check_zarr_writable, write_errors
from instseg.io.zarr_labels import partial_zarr, replace_zarr, restore_zarr, zarr_lock

GEFF_SUFFIX = ".geff"
"""What the name of the group ends in."""

_VERSION = "1.3"
_AXES = {"t": "time", "y": "space", "x": "space"}


def check_geff_writable(path: StrPath) -> None:
    """Check that a group can be written, before the work whose result it is to hold.

    Raises
    ------
    InstsegError
        If its name ends otherwise, something else is there, or its folder does not exist or is not writable.
    """
    path = Path(path)
    if path.suffix.lower() != GEFF_SUFFIX:
        raise InstsegError(f"cannot write {path}: expected a name that ends in {GEFF_SUFFIX}; choose such a name")
    check_zarr_writable(path)


def write_geff(path: StrPath, nodes: Mapping[str, NDArray[Any]], edges: NDArray[np.int64], track: str) -> None:
    """Write a directed graph of objects.

    Parameters
    ----------
    path : path-like
        Ends in .geff. It appears when it is complete; a group that is there stays until then and is replaced.
    nodes : mapping of str to (M,) numbers
        What is known of each object, with 't', 'y' and 'x' among it; nodes are numbered from 0.
    edges : (K, 2) int64
        The numbers of nodes, from the earlier to the later one.
    track : str
        The one of `nodes` that holds the track.

    Raises
    ------
    InstsegError
        If something else is there, or it cannot be written.
    """
    import zarr

    path = Path(path)
    check_geff_writable(path)
    partial = partial_zarr(path)
    with zarr_lock(path), write_errors(path):
        try:
            restore_zarr(path)
            shutil.rmtree(partial, ignore_errors=True)
            group = zarr.create_group(str(partial), attributes={"geff": _metadata(nodes, track)}, zarr_format=3)
            count = len(next(iter(nodes.values())))
            group.create_array("nodes/ids", data=np.arange(count, dtype=np.uint64))
            for name, values in nodes.items():
                group.create_array(f"nodes/props/{name}/values", data=np.ascontiguousarray(values))
            group.create_array("edges/ids", data=edges.astype(np.uint64))
            group.require_group("edges/props")
            replace_zarr(partial, path)
        finally:
            with suppress(OSError):
                shutil.rmtree(partial)


def _metadata(nodes: Mapping[str, NDArray[Any]], track: str) -> dict[str, Any]:
    axes: list[dict[str, Any]] = [{"name": name, "type": kind} for name, kind in _AXES.items()]
    for axis in axes:
        values = nodes[axis["name"]]
        if values.size:
            axis |= {"min": float(values.min()), "max": float(values.max())}
    properties = {
        name: {"identifier": name, "dtype": values.dtype.name, "varlength": False} for name, values in nodes.items()
    }
    return {
        "geff_version": _VERSION,
        "directed": True,
        "axes": axes,
        "node_props_metadata": properties,
        "edge_props_metadata": {},
        "track_node_props": {"tracklet": track},
    }
