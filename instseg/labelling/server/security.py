"""Who may ask: the token, the names by which this server may be called, and what pages of other sites may not do.

A server on 127.0.0.1 can be reached by every page that the person's browser shows. Against that stand a random token,
the check of Host (a name of another site that has been made to lead here: DNS rebinding), the check of Origin and of
Sec-Fetch-Site (requests that another site's page sends), and headers that forbid our page all but its own files.
"""

import hashlib
import ipaddress
import json
import secrets
from collections.abc import Collection
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LARGEST_BODY = 4 * 2**20
"""Most bytes of a request: a line of a hundred thousand points."""

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
"""The names of this machine to itself, which no other site can have."""

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


_ONWARDS = '<!doctype html><meta http-equiv="refresh" content="0; url=/"><title>instseg label</title>'


def new_token() -> str:
    """Return a token that cannot be guessed: 192 random bits for an address."""
    return secrets.token_urlsafe(24)


def cookie_name(token: str) -> str:
    """Return the name of the cookie for a token.

    Browsers give the cookies of a host to all of its ports. Two servers, or two tunnels, would take each other's place.
    """
    return f"instseg-{hashlib.sha256(token.encode()).hexdigest()[:12]}"


class Guard:
    """Refuses what does not come from the page, and adds the headers of safety to every answer.

    Parameters
    ----------
    app : ASGIApp
    token : str
    hosts : collection of str
        Names and addresses, without ports, by which the server may be called. A port is not checked: a tunnel may
        begin at another one, and no other site can have the name of this machine at any port.
    any_address : bool
        Whether it may be called by any numeric address, as one that listens at all of its machine's may be. A name of
        another site can be made to lead here, a number cannot.
    """

    def __init__(
        self, app: ASGIApp, token: str, hosts: Collection[str] = LOOPBACK, *, any_address: bool = False
    ) -> None:
        self._app, self._token, self._any_address = app, token, any_address
        self._hosts = frozenset(name.lower() for name in hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or pass it on."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        if scope["type"] != "http":
            # Nothing here speaks by web sockets, which are not bound by the same origin.
            await send({"type": "websocket.close", "code": 1008})
            return
        answer = self._refusal(scope)
        if answer is not None:
            await answer(scope, receive, send_guarded)
            return
        bounded = _Bounded(receive)
        try:
            await self._app(scope, bounded, send_guarded)
        except _TooLargeError:
            await _refuse(413, "the request is too large")(scope, receive, send_guarded)

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if len(headers.getlist("host")) != 1 or not self._is_allowed(host):
            return _refuse(403, "this server is called by another name than its own; use the address that it printed")
        origin = headers.get("origin")
        if origin is not None and origin.lower() not in (f"http://{host.lower()}", f"https://{host.lower()}"):
            return _refuse(403, "pages of other sites may not ask this server")
        given = parse_qs(scope["query_string"].decode("latin-1")).get("token")
        if scope["path"] == "/" and scope["method"] == "GET" and given is not None:
            return self._enter(given[0], headers.get("sec-fetch-site", "none"))
        if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            return _refuse(403, "pages of other sites may not ask this server")
        if not self._is_known(headers):
            return _refuse(403, "the token is missing; open the address that instseg label printed, with its token")
        if scope["method"] not in ("GET", "HEAD", "POST"):
            return _refuse(405, "expected GET or POST")
        if scope["method"] == "POST" and origin is None:
            return _refuse(403, "a request that changes something has to come from the page")
        if not scope["path"].isprintable():
            # Such as a zero byte, at which the system's calls fail.
            return _refuse(404, "there is no such page")
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > LARGEST_BODY:
            return _refuse(413, "the request is too large")
        return None

    def _is_allowed(self, host: str) -> bool:
        name, _, port = host.rpartition(":") if _has_port(host) else (host, "", "")
        if port and not port.isdecimal():
            return False
        name = name.removeprefix("[").removesuffix("]").lower()
        return name in self._hosts or (self._any_address and _is_address(name))

    def _enter(self, token: str, site: str) -> Response:
        if not secrets.compare_digest(token.encode(), self._token.encode()):
            return _refuse(403, "this token is of another sitting; open the address that instseg label printed last")
        answer: Response = RedirectResponse("/", 303)
        if site not in ("same-origin", "none"):
            # A link of another page, such as a terminal in the browser, and so would be what a redirection asks for;
            # what our own page leads to is ours.
            answer = HTMLResponse(_ONWARDS)
        answer.set_cookie(cookie_name(token), token, path="/", httponly=True, samesite="strict")
        return answer

    def _is_known(self, headers: Headers) -> bool:
        try:
            cookies = SimpleCookie(headers.get("cookie", ""))
        except CookieError:
            return False
        cookie = cookies.get(cookie_name(self._token))
        return cookie is not None and secrets.compare_digest(cookie.value.encode(), self._token.encode())


def _has_port(host: str) -> bool:
    # Without brackets an address of IPv6 has colons of its own.
    return host.rpartition(":")[2] != "" and ":" in host and not host.endswith("]")


class _TooLargeError(Exception):
    pass


class _Bounded:
    """Receives a body, and stops where it grows too large, as a body in chunks does not say its length."""

    def __init__(self, receive: Receive) -> None:
        self._receive, self._bytes = receive, 0

    async def __call__(self) -> Message:
        message = await self._receive()
        self._bytes += len(message.get("body", b""))
        if self._bytes > LARGEST_BODY:
            raise _TooLargeError
        return message


def _refuse(status: int, error: str) -> Response:
    return PlainTextResponse(json.dumps({"error": error}), status, media_type="application/json")


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Return whether only this machine reaches a server that listens at an address."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
