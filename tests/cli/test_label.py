"""`instseg label` as a program: what it prints, how it ends, and what it refuses."""

import http.client
import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from instseg import optional
from instseg.cli import label
from instseg.io.images import write_picture
from instseg.io.label_images import read_label_values, write_labels
from instseg.labelling.folder import LabelFolder
from instseg.labelling.server.running import Server, listen


@pytest.fixture
def folder(draw_image):
    Path("images").mkdir()
    for name in "ab":
        write_picture(Path("images") / f"{name}.png", draw_image)
    return Path("images")


@pytest.fixture
def draw_image():
    image = np.full((64, 72), 20, np.uint8)
    image[10:22, 12:24] = 200
    return image


class Program:
    """The command in a process of its own, and requests to its page."""

    def __init__(self, environment, *arguments):
        command = [sys.executable, "-m", "instseg", "label", *map(str, arguments)]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
        )
        line = self.process.stdout.readline()
        found = re.fullmatch(r"Label at http://([^:/]+):(\d+)/\?token=(\S{32,})\n", line)
        assert found, line + self.process.stderr.read()
        self.name, self.port, self.token = found[1], int(found[2]), found[3]
        answer, _ = self._ask("GET", f"/?token={self.token}", None, {})
        self._cookie = answer.getheader("set-cookie").split(";")[0]

    def _ask(self, method, path, body, headers):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request(method, path, body, {"Host": f"localhost:{self.port}", **headers})
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        return answer, content

    def get(self, path):
        return json.loads(self._ask("GET", path, None, {"Cookie": self._cookie})[1])

    def act(self, **action):
        headers = {"Cookie": self._cookie, "Origin": f"http://localhost:{self.port}", "X-Page": "page-0001"}
        answer, content = self._ask("POST", "/api/images/0/actions", json.dumps(action), headers)
        assert answer.status == 200, content
        return json.loads(content)

    def end(self, number=signal.SIGINT):
        self.process.send_signal(number)
        out, err = self.process.communicate(timeout=60)
        return self.process.returncode, out, err


@pytest.fixture
def start(environment):
    programs = []

    def start(*arguments):
        programs.append(Program(environment, *arguments))
        return programs[-1]

    yield start
    for program in programs:
        program.process.kill()
        program.process.communicate()


@pytest.fixture
def ended_at_once(monkeypatch):
    """Servers that end before anybody asks, so that no model is loaded."""
    monkeypatch.setattr(Server, "run", lambda self: self._socket.close())


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 0), (signal.SIGTERM, 128 + signal.SIGTERM)])
def test_what_was_labelled_is_on_the_disc_when_it_ends(start, folder, model, number, code):
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        program = start(folder, "--model", model, "--no-browser", "--port", port)
    assert program.port > port
    status = program.get("/api/status?page=page-0001")
    assert (status["writer"], status["disc"]) == (True, None)
    program.act(kind="polygon", points=[[30, 30], [40, 30], [40, 40], [30, 40]], id=None)
    program.act(kind="accept")
    returncode, out, err = program.end(number)
    assert returncode == code
    assert re.fullmatch(r"images: 1 of 2 images labelled, 0 in part, \d+ instances?\n", out)
    assert err == (f"Port {port} is in use; this is port {program.port}\nCtrl-C ends; labels are saved as you go\n")
    assert read_label_values(folder / "labels" / "a.png")[35, 35] > 0
    assert not (folder / "labels" / "b.png").exists()


def test_a_host_that_lets_others_in_warns(run, folder, model, ended_at_once):
    result = run("label", folder, "--model", model, "--port", 0, "--host", "0.0.0.0")
    assert result.exit_code == 0
    assert "Warning: other machines can reach this server" in result.stderr
    assert result.stdout == "images: 0 of 2 images labelled, 0 in part, 0 instances\n"
    assert run("label", folder, "--model", model, "--port", 0).stderr == ""


def test_labels_that_exist_count_and_stay_as_they_are(run, folder, model, ended_at_once):
    (folder / "labels").mkdir()
    labels = np.zeros((64, 72), np.uint16)
    labels[3:9, 3:9] = 7
    write_labels(folder / "labels" / "a.png", labels)
    before = (folder / "labels" / "a.png").read_bytes()
    result = run("label", folder, "--model", model, "--port", 0)
    assert result.stdout.startswith("images: 1 of 2 images labelled, 0 in part, ")
    assert (folder / "labels" / "a.png").read_bytes() == before


def test_images_that_cannot_be_read_are_named(run, folder, model, ended_at_once):
    for name in "cdef":
        (folder / f"{name}.png").write_bytes(b"no image")
    result = run("label", folder, "--model", model, "--port", 0)
    assert result.exit_code == 0
    assert "c.png" in result.stderr
    assert "Note: 4 images cannot be read; the page lists them\n" in result.stderr
    assert result.stdout.startswith("images: 0 of 6 images")


def test_a_folder_is_labelled_by_one_process(run, folder, model, ended_at_once):
    opened = LabelFolder(folder)
    try:
        result = run("label", folder, "--model", model, "--port", 0)
    finally:
        opened.close()
    assert result.exit_code == 1
    assert "is being labelled by another process" in result.stderr
    assert run("label", folder, "--model", model, "--port", 0).exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["no-such-folder"], 1, "no such folder"),
        (["empty"], 1, "image"),
        (["file.txt"], 1, "it is a file"),
        (["images", "--model", "no-such-model"], 1, "no-such-model"),
        (["images", "--port", "70000"], 2, "--port"),
        (["images", "--host", "192.0.2.1"], 1, "--host"),
        (["images", "--diameter", "large"], 2, "--diameter"),
        (["images", "--channels", "x"], 2, "--channels"),
    ],
)
def test_what_cannot_be_is_refused_in_a_line(run, folder, arguments, code, said):
    Path("empty").mkdir()
    Path("file.txt").write_text("no folder")
    result = run("label", *arguments, "--no-browser")
    assert result.exit_code == code
    assert said in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not (folder / ".labelling").exists()


def test_packages_that_are_missing_are_named(run, folder, monkeypatch):
    monkeypatch.setitem(optional._PACKAGES, "label", ("starlette", "no_such_package"))
    result = run("label", folder)
    assert result.exit_code == 1
    assert "no_such_package" in result.stderr
    assert "'.[label]'" in result.stderr


def test_a_browser_is_opened_where_there_is_a_display(monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    assert not label._has_display()
    monkeypatch.setenv("DISPLAY", ":0")
    assert label._has_display()
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setenv("SSH_CONNECTION", "192.0.2.1 1 192.0.2.2 22")
    assert not label._has_display()
