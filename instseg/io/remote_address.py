"""Addresses of files on servers, as they are given or as paths have them, which keep one slash of two."""

import re
from os import PathLike

_ADDRESS = re.compile(r"(https?|s3|gs|gcs|abfs|memory):/{1,2}(?=[^/])")


def remote_url(path: str | PathLike[str]) -> str | None:
    """Return the address of what is on a server; None for a path of this machine.

    Examples
    --------
    >>> from pathlib import Path
    >>> remote_url(Path("https://host/a.zarr")), remote_url("s3://bucket/a.zarr/0"), remote_url("a.zarr")
    ('https://host/a.zarr', 's3://bucket/a.zarr/0', None)
    """
    text = str(path)
    match = _ADDRESS.match(text)
    return None if match is None else f"{match[1]}://{text[match.end() :]}"


def with_addresses(text: str) -> str:
    """Return a text with both slashes in the addresses that it names.

    Examples
    --------
    >>> with_addresses("cannot read https:/host/a.zarr: it is empty")
    'cannot read https://host/a.zarr: it is empty'
    """
    return re.sub(rf"\b{_ADDRESS.pattern}", r"\1://", text)
