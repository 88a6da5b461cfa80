"""The table of instances, byte for byte."""

import csv
import dataclasses
from pathlib import Path

import numpy as np
import pytest

from instseg.clustering.instances import Instances
from instseg.errors import InstsegError
from instseg.io.tables import safe_cell, table_columns, write_columns, write_csv, write_table

TWO = Instances(
    label=np.array([4, 9], np.int32),
    score=np.array([0.25, 1 / 3]),
    area=np.array([4, 1]),
    centroid=np.array([[0.5, 1.5], [2.0, 0.00004]]),
    bbox=np.array([[0, 1, 2, 3], [2, 0, 3, 1]]),
)
CLASSES = dataclasses.replace(
    TWO, class_names=("round", "long, thin"), class_probabilities=np.array([[0.7, 0.3], [0.123456, 0.876544]])
)


def test_a_row_for_each_instance(tmp_path):
    write_table(tmp_path / "scores.csv", TWO)
    assert (tmp_path / "scores.csv").read_bytes() == (
        b"id,score,area,row,column,first_row,first_column,last_row,last_column\r\n"
        b"4,0.25,4,0.5,1.5,0,1,1,2\r\n9,0.3333,1,2.0,0.0,2,0,2,0\r\n"
    )


def test_classes_follow(tmp_path):
    write_table(tmp_path / "scores.csv", CLASSES)
    assert (tmp_path / "scores.csv").read_bytes() == (
        b"id,score,area,row,column,first_row,first_column,last_row,last_column,"
        b'class,p(round),"p(long, thin)"\r\n'
        b"4,0.25,4,0.5,1.5,0,1,1,2,round,0.7,0.3\r\n"
        b'9,0.3333,1,2.0,0.0,2,0,2,0,"long, thin",0.1235,0.8765\r\n'
    )


def test_no_instance_is_a_heading_alone(tmp_path):
    nothing = CLASSES.relabelled(np.zeros(2, np.int32))
    assert {name: values for name, values in table_columns(nothing).items() if values} == {}
    write_table(tmp_path / "scores.csv", nothing)
    text = (tmp_path / "scores.csv").read_text(encoding="utf-8")
    columns = 'id,score,area,row,column,first_row,first_column,last_row,last_column,class,p(round),"p(long, thin)"'
    assert text.splitlines() == [columns]


def test_a_folder_that_is_missing(tmp_path):
    with pytest.raises(InstsegError, match="missing"):
        write_table(tmp_path / "missing" / "scores.csv", TWO)


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("a.png", "a.png"),
        ("", ""),
        ("=cmd|' /C calc'!A0", "'=cmd|' /C calc'!A0"),
        ("+1", "'+1"),
        ("-1", "'-1"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("  =1+1", "'  =1+1"),
        ("\uff1d1", "'\uff1d1"),
        ("\t=1", r"'\t=1"),
        ("\rx", r"'\rx"),
        ("a\nb\x1b[2J\x9b\u202e\udcff.png", r"a\nb\x1b[2J\x9b\u202e\udcff.png"),
        ("\xe4\u540d\u200d.png", "\xe4\u540d\u200d.png"),
    ],
)
def test_a_cell_is_text_whatever_it_begins_with(text, cell):
    assert safe_cell(text) == cell


def test_texts_are_made_safe_and_numbers_are_not_touched(tmp_path):
    rows = [[Path("-a.png"), -1.5, np.float32(-2), -3, None], ["\udce4", "-1", float("-inf"), np.int64(-4), "=x"]]
    write_csv(tmp_path / "a.csv", ["name", "=x", "y", "z", "-"], rows)
    with (tmp_path / "a.csv").open(newline="", encoding="utf-8") as file:
        assert list(csv.reader(file)) == [
            ["name", "'=x", "y", "z", "'-"],
            ["'-a.png", "-1.5", "-2.0", "-3", ""],
            [r"\udce4", "'-1", "-inf", "-4", "'=x"],
        ]


def test_a_table_that_fails_half_way_leaves_the_one_before(tmp_path):
    path = tmp_path / "a.csv"
    write_csv(path, ["x"], [[1]])
    before = path.read_bytes()

    def rows():
        yield [2]
        raise ValueError("no more")

    with pytest.raises(ValueError, match="no more"):
        write_csv(path, ["x"], rows())
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_class_names_are_no_formulas(tmp_path):
    named = dataclasses.replace(CLASSES, class_names=("=1+1", "b\x1b]0;x\x07"))
    write_table(tmp_path / "scores.csv", named)
    with (tmp_path / "scores.csv").open(newline="", encoding="utf-8") as file:
        header, first, second = csv.reader(file)
    assert header[-3:] == ["class", "p(=1+1)", r"p(b\x1b]0;x\x07)"]
    assert (first[-3], second[-3]) == ("'=1+1", r"b\x1b]0;x\x07")


COLUMNS = {
    "label": np.array([1, 2], np.uint32),
    "class": np.array(["=1+1", "b"]),
    "inside": np.array([True, False]),
    "whole": np.array([3.0, 1e9]),
    "length": np.array([1 / 3, np.nan]),
}


def test_columns_as_csv(tmp_path):
    write_columns(tmp_path / "a.csv", COLUMNS)
    assert (tmp_path / "a.csv").read_bytes() == (
        b"label,class,inside,whole,length\r\n1,'=1+1,True,3,0.333333333\r\n2,b,False,1000000000,\r\n"
    )


def test_columns_as_parquet_are_as_they_are(tmp_path):
    from pyarrow import parquet

    write_columns(tmp_path / "a.parquet", COLUMNS)
    table = parquet.read_table(tmp_path / "a.parquet").to_pydict()
    assert list(table) == list(COLUMNS)
    assert (table["class"], table["inside"], table["whole"]) == (["=1+1", "b"], [True, False], [3.0, 1e9])
    assert table["length"][0] == 1 / 3
    write_columns(tmp_path / "b.parquet", {name: values[:0] for name, values in COLUMNS.items()})
    assert [str(field.type) for field in parquet.read_schema(tmp_path / "b.parquet")] == [
        "uint32",
        "string",
        "bool",
        "double",
        "double",
    ]


def test_parquet_without_its_extra_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("instseg.optional.find_spec", lambda package: None)
    with pytest.raises(InstsegError, match=r"Parquet tables need pyarrow; install what is missing with: .*\[parquet\]"):
        write_columns(tmp_path / "a.parquet", COLUMNS)
    write_columns(tmp_path / "a.csv", COLUMNS)


def test_the_table_of_a_volume_has_planes():
    instances = Instances(
        label=np.array([3], np.int32),
        score=np.array([0.5]),
        area=np.array([7]),
        centroid=np.array([[1.5, 2.25, 3.0]]),
        bbox=np.array([[1, 2, 3, 4, 5, 6]]),
    )
    assert table_columns(instances) == {
        "id": [3],
        "score": [0.5],
        "area": [7],
        "plane": [1.5],
        "row": [2.25],
        "column": [3.0],
        "first_plane": [1],
        "first_row": [2],
        "first_column": [3],
        "last_plane": [3],
        "last_row": [4],
        "last_column": [5],
    }
