"""Ports, and a server that begins and ends."""

import http.client
import socket
import threading

import pytest
from starlette.responses import PlainTextResponse

from instseg.errors import InstsegError, UsageError
from instseg.labelling.server import running
from instseg.labelling.server.running import Server, address_of, listen


def test_a_port_in_use_is_passed_over():
    with listen("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        with listen("127.0.0.1", port) as second:
            assert port < second.getsockname()[1] <= port + 100


def test_all_ports_may_be_in_use(monkeypatch):
    monkeypatch.setattr(running, "_TRIED", 1)
    with listen("127.0.0.1", 0) as first, pytest.raises(InstsegError, match="no port .* is free"):
        listen("127.0.0.1", first.getsockname()[1])


@pytest.mark.parametrize("port", [-1, 65536])
def test_there_are_so_many_ports(port):
    with pytest.raises(UsageError, match="port"):
        listen("127.0.0.1", port)


@pytest.mark.parametrize("host", ["192.0.2.1", "no.such.host.invalid"])
def test_an_address_of_another_machine_is_refused(host):
    with pytest.raises(InstsegError, match="address of this machine"):
        listen(host, 0)


def test_addresses_are_those_of_browsers():
    assert address_of("127.0.0.1", 8765, "t") == "http://127.0.0.1:8765/?token=t"
    assert address_of("::1", 8765, "t") == "http://[::1]:8765/?token=t"


def test_a_server_answers_until_it_is_stopped():
    async def app(scope, receive, send):
        await PlainTextResponse(scope["path"])(scope, receive, send)

    listening, started = listen("127.0.0.1", 0), threading.Event()
    port = listening.getsockname()[1]
    assert listening.proto == socket.IPPROTO_TCP
    server = Server(app, listening, started.set)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        assert started.wait(30)
        connection = http.client.HTTPConnection("127.0.0.1", port)
        connection.request("GET", "/hello")
        answer = connection.getresponse()
        assert (answer.status, answer.read()) == (200, b"/hello")
        assert answer.getheader("server") is None
        connection.close()
    finally:
        server.stop()
        thread.join(30)
    assert not thread.is_alive()
    assert listening.fileno() == -1
