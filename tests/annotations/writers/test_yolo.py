"""YOLO: lines as trainers read them."""

import numpy as np
import pytest

from instseg.annotations.writers.yolo import write_data_yaml, yolo_text
from instseg.annotations.yolo import parse_names


def test_lines_are_a_class_and_shares_of_the_sides(labelled, labels):
    shapely = pytest.importorskip("shapely")
    text, changes = yolo_text(labelled)
    assert changes == {"with their holes filled": 2, "without all parts but the largest": 1}
    lines = [line.split() for line in text.splitlines()]
    assert [line[0] for line in lines] == ["0", "1", "0", "1", "0", "1"]
    for label, line in zip([2, 3, 5, 7, 9, 11], lines, strict=True):
        shares = np.array(line[1:], float).reshape(-1, 2)
        assert shares.min() >= 0 and shares.max() <= 1
        ring = shapely.Polygon(shares * labels.shape[::-1])
        assert ring.is_valid
        area = (labels == label).sum() + {2: 4, 5: -1, 11: 1}.get(label, 0)
        assert ring.area == pytest.approx(area, abs=1e-3)


def test_no_objects_are_a_file_that_is_not_empty(labelled):
    import dataclasses

    none = np.zeros(0, np.int32)
    empty = dataclasses.replace(labelled, labels=np.zeros((2, 2), int), label=none, class_number=none)
    assert yolo_text(empty)[0] == "\n"


def test_names_of_classes_come_back(tmp_path):
    names = ["cell", 'with "quotes"', "it's: # {odd}, [or], not", "\\back", "0", "Zelle ä 細胞"]
    write_data_yaml(tmp_path / "data.yaml", names)
    text = (tmp_path / "data.yaml").read_text(encoding="utf-8")
    assert parse_names(tmp_path / "data.yaml", text) == dict(enumerate(names))
    yaml = pytest.importorskip("yaml")
    read = yaml.safe_load(text)
    assert read["names"] == dict(enumerate(names))
    assert (read["train"], read["val"]) == ("images", "images")
    write_data_yaml(tmp_path / "data.yaml", [])
    assert yaml.safe_load((tmp_path / "data.yaml").read_text())["names"] == {0: "object"}
