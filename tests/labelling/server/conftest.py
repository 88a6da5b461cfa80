"""Requests to an application in this process, as a browser or an attacker sends them: nothing is tidied up."""

import asyncio
from typing import NamedTuple

import pytest


class Answer(NamedTuple):
    status: int
    headers: dict
    body: bytes


def ask(app, path="/", method="GET", headers=(), body=b"", chunks=None, query=""):
    """Send one request; `headers` are pairs, Host is localhost unless they name it."""
    headers = list(headers)
    if not any(name == "host" for name, _ in headers):
        headers.insert(0, ("host", "localhost:8765"))
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers],
        "client": ("127.0.0.1", 50000),
        "server": ("127.0.0.1", 8765),
    }
    return asyncio.run(_ask(app, scope, chunks or [body]))


async def _ask(app, scope, chunks):
    incoming = [
        {"type": "http.request", "body": chunk, "more_body": number < len(chunks) - 1}
        for number, chunk in enumerate(chunks)
    ]
    outgoing = []

    async def receive():
        return incoming.pop(0) if incoming else {"type": "http.disconnect"}

    async def send(message):
        outgoing.append(message)

    await app(scope, receive, send)
    start = next(message for message in outgoing if message["type"] == "http.response.start")
    body = b"".join(message.get("body", b"") for message in outgoing if message["type"] == "http.response.body")
    return Answer(start["status"], {name.decode(): value.decode() for name, value in start["headers"]}, body)


@pytest.fixture(name="ask")
def ask_fixture():
    return ask
