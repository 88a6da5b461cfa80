"""Clusters are connected to, and workers of this machine obey its user alone."""

import re
import socket
import ssl
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from instseg.distributed import client as module
from instseg.distributed.client import DaskCluster
from instseg.errors import InstsegError


@pytest.fixture(scope="module")
def local():
    """A client of one worker of this machine."""
    with DaskCluster(workers=1).connected() as client:
        yield client


def addresses(local):
    info = local.scheduler_info(n_workers=-1)
    return [info["address"], *info["workers"]], [
        node["services"]["dashboard"] for node in (info, *info["workers"].values())
    ]


def test_workers_of_this_machine_work_over_encrypted_connections(local):
    assert local.submit(abs, -3).result() == 3
    assert all(re.fullmatch(r"tls://127\.0\.0\.1:\d+", address) for address in addresses(local)[0])


def test_others_cannot_use_the_workers_of_this_machine(local):
    from distributed import Client, Security

    for address in addresses(local)[0]:
        for stranger, security in ((address.replace("tls", "tcp"), None), (address, Security.temporary())):
            client = Client.__new__(Client)
            with pytest.raises(OSError):
                client.__init__(stranger, security=security, timeout=60)
            client.close()
        # One that encrypts, and has no certificate of its own: a scheduler that accepts it says something first.
        context = ssl.create_default_context(cadata=local.security.tls_ca_file)
        context.check_hostname = False
        host, port = address.removeprefix("tls://").split(":")
        with socket.create_connection((host, int(port))) as plain, context.wrap_socket(plain) as encrypted:
            try:
                assert encrypted.recv(1) == b""
            except OSError as error:
                assert "CERTIFICATE_REQUIRED" in str(error)


def test_the_workers_of_this_machine_tell_nothing_by_http(local):
    for port in addresses(local)[1]:
        for page in ("", "metrics", "health", "info/main/workers.html", "proxy/8787/127.0.0.1/"):
            with pytest.raises(urllib.error.HTTPError) as caught:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/{page}", timeout=60)
            caught.value.close()
            assert caught.value.code == 404


def test_what_workers_swap_out_is_in_a_folder_of_the_user_alone(local):
    (worker,) = local.scheduler_info(n_workers=-1)["workers"].values()
    folder = next(path for path in Path(worker["local_directory"]).parents if path.name.startswith("instseg-workers-"))
    assert folder.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (None, "there is no such file"),
        ("", "the file holds no address"),
        ("[1]", "the file holds no address"),
        ('{"address": 3}', "the file holds no address"),
        ("[" * 100_000, "the file holds no address"),
        ('{"address": "x"}', "missing port number"),
        ('{"address": "tls://127.0.0.1:9"}', "it talks by TLS, and Dask's configuration has no certificate"),
    ],
)
def test_schedulers_that_cannot_be_reached_are_told(monkeypatch, tmp_path, text, reason):
    if "file" in reason:
        monkeypatch.setattr(module, "_PATIENCE", 0)
    file = tmp_path / "scheduler.json"
    if text is not None:
        file.write_text(text)
    with pytest.raises(InstsegError) as caught, DaskCluster(scheduler_file=file).connected():
        pass
    assert str(caught.value).startswith(f"cannot reach the scheduler of {file} ({reason}")


def fail_in_a_module_of_its_own(number):
    """Raise an error whose frames only the worker can unpickle."""
    namespace = {"__name__": "no_such_module"}
    exec("def fail():\n    raise OSError('odd\\nerror')", namespace)
    namespace["fail"]()


def test_whatever_a_task_raises_ends_the_run(local):
    with pytest.raises(InstsegError, match="unexpected OSError: odd error"):
        list(module.map_unordered(local, fail_in_a_module_of_its_own, [1]))
