import dataclasses

import numpy as np
import pytest
import tifffile
from PIL import Image

from instseg.data.folder_samples import ReadOptions
from instseg.data.mixture import mixed_data
from instseg.errors import InstsegError
from instseg.settings import TrainSettings

SETTINGS = TrainSettings(patch_size=32, batch_size=8)


def write(folder, *, count, side, diameter, channels=1, value=200, seed=0):
    """Write images of squares as wide as discs of a diameter have pixels."""
    width = round(diameter * np.sqrt(np.pi / 4))
    for part in ("images", "labels"):
        (folder / part).mkdir(parents=True)
    rng = np.random.default_rng(seed)
    for number in range(count):
        labels = np.zeros((side, side), np.uint16)
        step = 2 * width
        for label, (row, column) in enumerate(np.ndindex(side // step, side // step), start=1):
            labels[row * step : row * step + width, column * step : column * step + width] = label
        image = rng.integers(0, 20, (side, side, channels)).astype(np.uint8)
        image[labels > 0] += np.uint8(value)
        Image.fromarray(image if channels > 1 else image[..., 0]).save(folder / "images" / f"{number}.png")
        Image.fromarray(labels).save(folder / "labels" / f"{number}.png")
    return folder


def diameters(batch):
    areas = [np.bincount(labels.ravel())[1:] for labels in batch.labels]
    return np.sqrt(np.concatenate(areas) * 4 / np.pi)


def test_objects_of_different_sizes_come_to_their_geometric_mean(tmp_path):
    small = write(tmp_path / "small", count=4, side=96, diameter=9)
    large = write(tmp_path / "large", count=4, side=288, diameter=36)
    settings = dataclasses.replace(SETTINGS, patch_size=128)
    data = mixed_data([small, large], settings)
    assert data.estimate_diameter
    assert data.scale == 1
    assert data.diameters.typical == pytest.approx(18, rel=0.05)
    assert data.description["common_diameter"] == data.diameters.typical
    found = np.median(np.concatenate([diameters(data.patches.batch(number)) for number in range(6)]))
    assert found == pytest.approx(18, rel=0.25)
    again = mixed_data([small, large], settings)
    assert (again.patches.batch(3).images == data.patches.batch(3).images).all()


def test_small_objects_are_enlarged_as_long_as_large_ones_beside_them_are_seen(tmp_path):
    small = write(tmp_path / "small", count=3, side=192, diameter=9)
    both = write(tmp_path / "both", count=3, side=192, diameter=9)
    for number in range(3):
        labels = np.asarray(Image.open(both / "labels" / f"{number}.png")).copy()
        # Two of a diameter of 100 px beside twelve.
        labels[:, 16:] = 0
        labels[:89, 90:179] = 60
        labels[100:189, 90:179] = 61
        Image.fromarray(labels).save(both / "labels" / f"{number}.png")
    data = mixed_data([small, both], SETTINGS, val=[small, both], common_diameter=18.0)
    assert [line.partition("shown at ")[2][:3] for line in data.description["shares"]] == ["2 t", "1.3"]
    shown = [len(sample.labels) / 192 for sample in data.validation]
    assert shown == pytest.approx([2, 2, 2, 1.3, 1.3, 1.3], rel=0.01)


def test_objects_alike_are_left_as_they_are(tmp_path):
    one = write(tmp_path / "one", count=3, side=96, diameter=14)
    two = write(tmp_path / "two", count=3, side=96, diameter=20)
    data = mixed_data([one, two], SETTINGS)
    assert (data.estimate_diameter, data.scale, data.description["common_diameter"]) == (False, 1.0, None)
    brought = mixed_data([one, two], SETTINGS, common_diameter=30.0)
    assert brought.estimate_diameter
    assert brought.diameters.typical == 30


def test_shares_grow_with_the_cube_root_of_the_pixels(tmp_path):
    few = write(tmp_path / "few", count=2, side=96, diameter=16, value=100)
    many = write(tmp_path / "many", count=18, side=96, diameter=16)
    data = mixed_data([few, many], dataclasses.replace(SETTINGS, validation_share=0.05))
    few_line, many_line = data.description["shares"]
    assert few_line.startswith(f"{few}: 2 images, objects of")
    # 2 images to 17: the share is 1 / (1 + cbrt(8.5)).
    assert few_line.endswith("as they are, 32.9% of patches")
    assert "17 images and 1 to validate on" in many_line
    assert data.description["validation_images"] == [
        name for name in data.description["validation_images"] if name[0] == "1"
    ]


def test_a_resume_keeps_the_images_to_validate_on(tmp_path):
    folders = [write(tmp_path / name, count=10, side=64, diameter=16, seed=3) for name in "ab"]
    data = mixed_data(folders, SETTINGS)
    held = data.description["validation_images"]
    assert len(held) == 2
    again = mixed_data(folders, dataclasses.replace(SETTINGS, seed=5), validation_names=held)
    assert again.description["validation_images"] == held


def test_gray_images_become_three_equal_channels_beside_rgb(tmp_path):
    gray = write(tmp_path / "gray", count=3, side=64, diameter=16)
    rgb = write(tmp_path / "rgb", count=3, side=64, diameter=16, channels=3)
    data = mixed_data([gray, rgb], SETTINGS)
    images = data.patches.batch(0).images
    assert (data.channels, images.shape[-1]) == (3, 3)
    equal = [(image == image[..., :1]).all() for image in images]
    assert any(equal)
    assert not all(equal)
    assert {sample.image.shape[2] for sample in data.validation} == {3}
    assert mixed_data([gray, rgb], SETTINGS, read=ReadOptions(channels="gray")).channels == 1
    two = write(tmp_path / "two", count=1, side=64, diameter=16)
    (two / "images" / "0.png").unlink()
    tifffile.imwrite(two / "images" / "0.tif", np.ones((2, 64, 64), np.uint8), ome=True, metadata={"axes": "CYX"})
    with pytest.raises(
        InstsegError, match=r"differ in the number of channels: 1 in .*gray, 2 in .*choose some by `cha"
    ):
        mixed_data([gray, two], SETTINGS)


def test_folders_to_validate_on_are_brought_to_the_same_size(tmp_path):
    small = write(tmp_path / "small", count=2, side=96, diameter=9)
    large = write(tmp_path / "large", count=2, side=288, diameter=36)
    val = write(tmp_path / "val", count=3, side=288, diameter=36, seed=9)
    data = mixed_data([small, large], SETTINGS, val=[val])
    assert len(data.validation) == 3
    assert {sample.labels.shape for sample in data.validation} == {(144, 144)}
    assert data.description["training_images"] == 4


def test_classes_have_to_be_the_same(tmp_path):
    one, two = (write(tmp_path / name, count=2, side=64, diameter=16) for name in ("one", "two"))
    labels = np.array(Image.open(one / "labels" / "0.png"))
    rows = [f"{image},{label},round" for image in ("0", "1") for label in np.unique(labels)[1:]]
    (one / "classes.csv").write_text("\n".join(["image,label,class", *rows]) + "\n")
    with pytest.raises(
        InstsegError, match=r"the classes in .*one are round, those in .*two are none, expected the same"
    ):
        mixed_data([one, two], SETTINGS)
    (two / "classes.csv").write_text((one / "classes.csv").read_text())
    data = mixed_data([one, two], SETTINGS)
    assert data.class_names == ("round",)
    assert data.patches.batch(0).classes.max() == 1


def test_what_is_odd_side_by_side_is_said(tmp_path):
    one = write(tmp_path / "one", count=3, side=64, diameter=16)
    two = write(tmp_path / "two", count=2, side=64, diameter=16)
    lines = [problem.line() for problem in mixed_data([one, two], SETTINGS).problems]
    assert [line for line in lines if "the same image is in another folder, too" in line] == [
        "warning: two/images/0.png, two/images/1.png: the same image is in another folder, too; leave one out, as the "
        "training may learn one and be validated on the other"
    ]
    tiny = write(tmp_path / "tiny", count=1, side=32, diameter=16, seed=4)
    huge = [write(tmp_path / f"huge{n}", count=2, side=1200, diameter=16, seed=5 + n) for n in range(2)]
    lines = [problem.line() for problem in mixed_data([tiny, *huge], SETTINGS).problems]
    assert any("so small that its pixels are shown" in line for line in lines)


def test_images_that_are_learnt_from_are_no_validation_apart(tmp_path):
    write(tmp_path / "a", count=1, side=64, diameter=12)
    write(tmp_path / "b", count=1, side=64, diameter=12, seed=1)
    write(tmp_path / "many", count=12, side=64, diameter=12, seed=2)
    write(tmp_path / "val", count=1, side=64, diameter=12, seed=3)
    a, b, many, val = (tmp_path / name for name in ("a", "b", "many", "val"))
    assert not mixed_data([a, b], SETTINGS).validated_apart
    assert mixed_data([a, many], SETTINGS).validated_apart
    assert mixed_data([a, b], SETTINGS, val=[val]).validated_apart
    assert not mixed_data([a, b], SETTINGS, val=[val, b]).validated_apart
