"""Sockets and uvicorn: a port that is free, and a server that ends in order."""

import errno
import socket
from collections.abc import Callable
from contextlib import suppress

import uvicorn
from starlette.types import ASGIApp

from instseg.errors import InstsegError, check_parameter

DEFAULT_PORT = 8765
"""The first port that is tried."""

_TRIED = 100
# Seconds that requests are given to end.
_PATIENCE = 5


def listen(host: str, port: int | None) -> socket.socket:
    """Return a socket that listens at a port; where that is in use, at the next that is free.

    Parameters
    ----------
    host : str
        The address of this machine to listen at, or its name.
    port : int, optional
        The first to try, by default `DEFAULT_PORT`; 0 has the system choose one.

    Raises
    ------
    UsageError
        If there is no such port.
    InstsegError
        If none is free, or this machine has no such address.
    """
    first = DEFAULT_PORT if port is None else port
    check_parameter(0 <= first < 2**16, "port", first, "0 to 65535")
    last = min(first + _TRIED, 2**16) - 1
    try:
        family, _, _, _, address = socket.getaddrinfo(host, first, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise InstsegError(f"host {host} is not known: {error.strerror}; give an address of this machine") from error
    for number in range(first, last + 1):
        # With the protocol named asyncio sends small answers at once, where the system would wait 40 ms for more.
        found = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        try:
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            found.bind((address[0], number))
            found.listen(128)
        except OSError as error:
            found.close()
            if error.errno != errno.EADDRINUSE:
                what = f"cannot listen at {host}, port {number}: {error.strerror}"
                raise InstsegError(f"{what}; give an address of this machine by `host`") from error
        else:
            return found
    raise InstsegError(f"no port from {first} to {last} is free at {host}; give another by `port`")


def address_of(host: str, port: int, token: str) -> str:
    """Return the address that opens the page."""
    name = f"[{host}]" if ":" in host else host
    return f"http://{name}:{port}/?token={token}"


class Server:
    """A server in this thread.

    Parameters
    ----------
    app : ASGIApp
    listening : socket
        As `listen` returns it.
    on_start : callable
        Is called once requests are answered.
    """

    def __init__(self, app: ASGIApp, listening: socket.socket, on_start: Callable[[], None] = lambda: None) -> None:
        config = uvicorn.Config(
            app,
            log_config=None,
            log_level="error",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            lifespan="off",
            ws="none",
            timeout_graceful_shutdown=_PATIENCE,
        )
        self._socket = listening
        self._server = _Uvicorn(config, on_start)

    def run(self) -> None:
        """Answer requests until `stop`, Ctrl-C or SIGTERM; afterwards the signal takes its usual course."""
        try:
            self._server.run(sockets=[self._socket])
        finally:
            with suppress(OSError):
                self._socket.close()

    def stop(self) -> None:
        """Have `run` return, from whatever thread."""
        self._server.should_exit = True


class _Uvicorn(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, on_start: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_start = on_start

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        self._on_start()
