"""The application: the routes behind the guard."""

from collections.abc import Collection
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.types import ASGIApp

from instseg.labelling.server.routes import make_routes
from instseg.labelling.server.security import LOOPBACK, Guard

if TYPE_CHECKING:
    from instseg.labelling.server.sitting import Sitting


def make_app(
    sitting: "Sitting", token: str, hosts: Collection[str] = LOOPBACK, *, any_address: bool = False
) -> ASGIApp:
    """Return the server of a sitting.

    Parameters
    ----------
    sitting : Sitting
    token : str
        What the address has to hold when the page is opened first.
    hosts : collection of str
        Names and addresses, without ports, by which it may be called.
    any_address : bool
        Whether it may be called by any numeric address.
    """
    return Guard(Starlette(routes=make_routes(sitting)), token, hosts, any_address=any_address)
