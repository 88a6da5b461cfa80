"""What commands import: TensorFlow's Python part takes seconds, and stored networks run without it."""

import json
import subprocess
import sys

import numpy as np
import pytest
import tifffile

from instseg.data.discs import draw_discs
from instseg.io.images import write_picture
from instseg.io.label_images import write_labels
from instseg.network.c_library import find_library
from instseg.settings import DiscSettings

COMMAND = """
import json, sys
from instseg.cli import app
try:
    app(json.loads(sys.argv[1]), prog_name="instseg")
except SystemExit as end:
    assert not end.code, end.code
print(sorted({"tensorflow", "keras", "matplotlib", "sklearn", "hdbscan"} & sys.modules.keys()))
"""
LABEL = """
import sys
from pathlib import Path
import numpy as np
from instseg.inference.options import PredictOptions
from instseg.labelling.server.model_loading import load_round
loaded = load_round(Path(sys.argv[1]), Path(sys.argv[2]), 0, PredictOptions())
loaded.embedder.embed(np.zeros((20, 30)))
print(sorted({"tensorflow", "keras"} & sys.modules.keys()))
"""

pytestmark = pytest.mark.skipif(find_library() is None, reason="TensorFlow comes without its C library here")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with two images, their labels, and a volume."""
    folder = tmp_path_factory.mktemp("data")
    for name in ("images", "labels"):
        (folder / name).mkdir()
    for number in range(2):
        image, labels = draw_discs(np.random.default_rng(number), DiscSettings(size=64, min_discs=2, max_discs=3))
        write_picture(folder / "images" / f"{number}.png", image)
        write_labels(folder / "labels" / f"{number}.png", labels)
    tifffile.imwrite(folder / "volume.tif", np.zeros((3, 20, 30), np.uint8), photometric="minisblack")
    return folder


def run(code, *arguments):
    """Run code in a process of its own; return the last line that it prints, and what it writes to stderr."""
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[-1], done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("predict", "MODEL", "DATA/images", "--out-dir", "OUT"),
        ("predict", "MODEL", "DATA/volume.tif", "--volume", "--spacing", "1,1,1", "--out", "OUT.tif"),
        ("evaluate", "MODEL", "--data", "DATA"),
    ],
    ids=["predict", "predict a volume", "evaluate"],
)
def test_networks_run_without_importing_tensorflow(folder, tiny_model, tmp_path, arguments):
    names = {"MODEL": str(tiny_model), "DATA": str(folder), "OUT": str(tmp_path / "out")}
    given = list(arguments)
    for name, path in names.items():
        given = [text.replace(name, path) for text in given]
    imported, stderr = run(COMMAND, json.dumps(given))
    assert imported == "[]"
    # Nothing of what TensorFlow reports while it loads is shown.
    assert "0000 " not in stderr
    assert "Note: the network" not in stderr


def test_label_predicts_without_importing_tensorflow(folder, tiny_model, tmp_path):
    assert run(LABEL, str(tmp_path), str(tiny_model))[0] == "[]"
