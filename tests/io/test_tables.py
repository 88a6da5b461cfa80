"""The table of instances, byte for byte."""

import dataclasses

import numpy as np
import pytest

from instseg.clustering.instances import Instances
from instseg.errors import InstsegError
from instseg.io.tables import table_columns, write_table

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
        b"id,score,area,row,column,top,left,bottom,right\r\n4,0.25,4,0.5,1.5,0,1,1,2\r\n9,0.3333,1,2.0,0.0,2,0,2,0\r\n"
    )


def test_classes_follow(tmp_path):
    write_table(tmp_path / "scores.csv", CLASSES)
    assert (tmp_path / "scores.csv").read_bytes() == (
        b'id,score,area,row,column,top,left,bottom,right,class,p(round),"p(long, thin)"\r\n'
        b"4,0.25,4,0.5,1.5,0,1,1,2,round,0.7,0.3\r\n"
        b'9,0.3333,1,2.0,0.0,2,0,2,0,"long, thin",0.1235,0.8765\r\n'
    )


def test_no_instance_is_a_heading_alone(tmp_path):
    nothing = CLASSES.relabelled(np.zeros(2, np.int32))
    assert {name: values for name, values in table_columns(nothing).items() if values} == {}
    write_table(tmp_path / "scores.csv", nothing)
    text = (tmp_path / "scores.csv").read_text(encoding="utf-8")
    assert text.splitlines() == ['id,score,area,row,column,top,left,bottom,right,class,p(round),"p(long, thin)"']


def test_a_folder_that_is_missing(tmp_path):
    with pytest.raises(InstsegError, match="missing"):
        write_table(tmp_path / "missing" / "scores.csv", TWO)
