"""What the tests of annotations share: a folder to work in, images in it, and an import whose labels come back."""

import json
from pathlib import Path

import numpy as np
import pytest

from instseg.annotations.importing import import_annotations
from instseg.io.images import write_picture
from instseg.io.label_images import read_labels

SIZE = (8, 10)


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("in").mkdir()


@pytest.fixture
def image():
    """A function that writes images of 8 x 10 pixels, or of another size, into the folder `in`."""

    def image(*names, size=SIZE):
        for name in names:
            path = Path("in") / name
            path.parent.mkdir(parents=True, exist_ok=True)
            write_picture(path, np.arange(size[0] * size[1], dtype=np.uint8).reshape(size))

    return image


@pytest.fixture
def write():
    """A function that writes text, or anything else as JSON, into the folder `in`."""

    def write(name, content):
        path = Path("in") / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")

    return write


@pytest.fixture
def labels_of():
    """A function that imports the folder `in` and returns the report and the labels by the names of images."""

    def labels_of(source="in", **options):
        report = import_annotations(source, "out", overwrite=True, **options)
        files = sorted(Path("out/labels").iterdir())
        return report, {path.stem: np.array(read_labels(path, prediction=True)) for path in files}

    return labels_of


@pytest.fixture
def classes():
    """A function that returns the lines of the table of classes."""

    def classes():
        return Path("out/classes.csv").read_text(encoding="utf-8").splitlines()[1:]

    return classes


@pytest.fixture
def box():
    """A function that returns labels of 8 x 10 pixels that are 1 (or another number) in boxes of rows and columns."""

    def box(*boxes, size=SIZE):
        labels = np.zeros(size, int)
        for number, (top, bottom, left, right) in enumerate(boxes, start=1):
            labels[top:bottom, left:right] = number
        return labels

    return box
