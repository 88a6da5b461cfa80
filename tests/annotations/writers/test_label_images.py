"""Label images in the layouts of other tools."""

import dataclasses

import numpy as np
import pytest
import tifffile
from PIL import Image

from instseg.annotations.writers.label_images import CellposeWriter, DsbWriter, StarDistWriter, pairs_writer


def names(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def written(folder, make, *images):
    with make(folder, images[0].class_names) as writer:
        for image in images:
            assert writer.write(image) == {}
        writer.finish()
    return names(folder)


def test_pairs_have_tables(tmp_path, labelled, labels):
    files = written(tmp_path, pairs_writer(".npy"), labelled)
    assert files == ["classes.csv", "labels/a.npy", "scores.csv"]
    assert np.array_equal(np.load(tmp_path / "labels/a.npy"), labels)
    rows = (tmp_path / "classes.csv").read_text().splitlines()
    assert rows[:3] == ["image,label,class", "a.png,2,round", 'a.png,3,"of ""two"" words: #1"']
    assert (tmp_path / "scores.csv").read_text().splitlines()[4:6] == ["a.png,7,0.875", "a.png,9,"]


@pytest.mark.parametrize(("suffix", "read"), [(".png", Image.open), (".tif", tifffile.imread)])
def test_pairs_without_anything_else(tmp_path, labelled, labels, suffix, read):
    plain = dataclasses.replace(labelled, score=None, class_number=None, class_names=())
    assert written(tmp_path, pairs_writer(suffix), plain) == [f"labels/a{suffix}"]
    assert np.array_equal(np.array(read(tmp_path / f"labels/a{suffix}")), labels)


def test_more_objects_than_a_png_holds(tmp_path, labelled):
    (tmp_path / "png").mkdir()
    many = dataclasses.replace(labelled, labels=labelled.labels * 10_000, label=labelled.label * 10_000)
    assert written(tmp_path / "png", lambda *_: pairs_writer(".png")(tmp_path / "png", ()), many) == [
        "labels/a.tif",
        "scores.csv",
    ]


def test_cellpose(tmp_path, labelled, labels):
    assert written(tmp_path, CellposeWriter, labelled) == ["a_masks.tif"]
    assert np.array_equal(tifffile.imread(tmp_path / "a_masks.tif"), labels)


def test_stardist_has_the_names_of_the_images(tmp_path, labelled, labels):
    others = [dataclasses.replace(labelled, name=name) for name in ("b.tif", "c.TIFF", "d.jpg")]
    files = written(tmp_path, StarDistWriter, labelled, *others)
    assert files == ["masks/a.png", "masks/b.tif", "masks/c.TIFF", "masks/d.tif"]
    assert np.array_equal(tifffile.imread(tmp_path / "masks/c.TIFF"), labels)


def test_a_mask_for_each_object(tmp_path, labelled, labels):
    files = written(tmp_path, DsbWriter, labelled)
    assert files == [f"a/masks/{label:05d}.png" for label in (2, 3, 5, 7, 9, 11)]
    for label in (2, 11):
        mask = np.array(Image.open(tmp_path / f"a/masks/{label:05d}.png"))
        assert np.array_equal(mask, np.where(labels == label, 255, 0))
