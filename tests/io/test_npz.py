import io
import json
import zipfile

import numpy as np
import pytest

from instseg.clustering.calibration import ScoreCalibration
from instseg.clustering.embeddings import Embeddings
from instseg.errors import InstsegError
from instseg.io.npz import FORMAT, read_embeddings, write_embeddings
from instseg.settings import ClusterSettings

VECTORS = np.arange(24, dtype=np.float32).reshape(2, 3, 4) - 7
SHARES = np.linspace(0, 1, 6, dtype=np.float32).reshape(2, 3)


def members(**changes):
    """A valid file's members, some replaced, those set to None left out."""
    base = {"format": np.array(1), "embeddings": VECTORS, "foreground": SHARES}
    return {name: value for name, value in (base | changes).items() if value is not None}


@pytest.fixture
def npz(tmp_path):
    def write(**changes):
        np.savez(tmp_path / "a.npz", **members(**changes))
        return tmp_path / "a.npz"

    return write


def error_of(call, *args):
    with pytest.raises(InstsegError) as caught:
        call(*args)
    message = str(caught.value)
    assert "\n" not in message
    assert caught.value.exit_code == 1
    return message


def test_all_comes_back(tmp_path):
    settings = ClusterSettings(bandwidth=1.5, method="hdbscan")
    given = Embeddings(VECTORS, SHARES, seeds=SHARES[::-1], bandwidth=SHARES + 1, settings=settings)
    write_embeddings(tmp_path / "a.npz", given)
    found = read_embeddings(tmp_path / "a.npz")
    for name in ("embeddings", "foreground", "seeds", "bandwidth"):
        assert getattr(found, name).dtype == np.float32
        assert np.array_equal(getattr(found, name), getattr(given, name))
    assert found.settings == settings
    assert list(tmp_path.iterdir()) == [tmp_path / "a.npz"]


def test_the_calibration_comes_back_and_files_without_have_none(tmp_path, npz):
    calibration = ScoreCalibration(slope=1.5, intercept=-0.2, least_median=0.7)
    write_embeddings(tmp_path / "b.npz", Embeddings(VECTORS, SHARES, calibration=calibration))
    found = read_embeddings(tmp_path / "b.npz")
    assert (found.calibration, found.settings) == (calibration, None)
    assert read_embeddings(npz()).calibration is None


@pytest.mark.parametrize("spacing", [None, (2.5, 1.0, 1.0)])
def test_volumes_come_back_with_their_spacing(tmp_path, spacing):
    vectors, shares = np.stack([VECTORS] * 5), np.stack([SHARES] * 5)
    given = Embeddings(vectors, shares, bandwidth=shares + 1, spacing=spacing)
    write_embeddings(tmp_path / "a.npz", given)
    found = read_embeddings(tmp_path / "a.npz")
    assert found.spacing == spacing
    assert found.ndim == 3
    for name, array in given.arrays().items():
        np.testing.assert_array_equal(getattr(found, name), array)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.array("2,1,1"), "'spacing' is <U5 of shape (), expected a number for each axis"),
        (np.array(2.0), "'spacing' is 2.0, expected a number for each axis"),
        (np.array([2.0, 1.0, 1.0]), "'spacing' is (2.0, 1.0, 1.0), expected 2 numbers above 0, one for each axis"),
        (np.array([np.nan, 1.0]), "'spacing' is (nan, 1.0), expected 2 numbers above 0"),
        (np.array([0, 1]), "'spacing' is (0.0, 1.0), expected 2 numbers above 0"),
        (np.ones((2, 2)), "'spacing' is float64 of shape (2, 2), expected a number for each axis"),
    ],
)
def test_a_damaged_spacing_is_refused(npz, value, message):
    assert message in error_of(read_embeddings, npz(spacing=value))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.array(3.0), "'calibration' is no JSON object"),
        (np.array("[1]"), "'calibration' is no JSON object"),
        (np.array('{"slope": 0}'), "slope is 0, expected above 0"),
        (np.array('{"slope": "x"}'), "ScoreCalibration value 'slope' is 'x', expected a float"),
        (np.array('{"knots": 3}'), "unknown ScoreCalibration value 'knots'"),
    ],
)
def test_a_damaged_calibration_is_refused(npz, value, message):
    assert message in error_of(read_embeddings, npz(calibration=value))


def test_classes_come_back_with_their_names(tmp_path):
    classes = np.stack([SHARES, 1 - SHARES], axis=-1)
    given = Embeddings(VECTORS, SHARES, classes=classes, class_names=("spindle", "Zelle ä"))
    write_embeddings(tmp_path / "a.npz", given)
    found = read_embeddings(tmp_path / "a.npz")
    np.testing.assert_array_equal(found.classes, classes)
    assert found.class_names == given.class_names
    # Whoever writes no names gets numbers.
    assert Embeddings(VECTORS, SHARES, classes=classes).class_names == ("1", "2")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"classes": SHARES}, "'classes' is of shape (2, 3), expected (2, 3, classes)"),
        ({"classes": VECTORS}, "'classes' goes from -7 to 16, expected 0 to 1"),
        ({"classes": np.ones((2, 3, 2)), "class_names": np.array(["a"])}, "'class_names' holds 1 names, expected 2"),
        (
            {"classes": np.ones((2, 3, 2)), "class_names": np.ones(2)},
            "'class_names' is float64 of shape (2,), expected",
        ),
        ({"classes": np.ones((2, 3, 2), int)}, "'classes' is int64, expected floats"),
    ],
)
def test_wrong_classes_are_refused(npz, changes, expected):
    assert expected in error_of(read_embeddings, npz(**changes))


def test_what_is_optional_may_be_missing(npz, tmp_path):
    found = read_embeddings(npz())
    assert (found.seeds, found.bandwidth, found.settings) == (None, None, None)
    write_embeddings(tmp_path / "b.npz", found)
    assert sorted(np.load(tmp_path / "b.npz")) == ["embeddings", "foreground", "format"]


def test_the_file_is_the_one_documented(tmp_path):
    write_embeddings(tmp_path / "a.npz", Embeddings(VECTORS, SHARES, settings=ClusterSettings()))
    with np.load(tmp_path / "a.npz", allow_pickle=False) as file:
        assert int(file["format"]) == FORMAT == 1
        assert file["embeddings"].shape == (2, 3, 4)
        assert file["settings"].shape == ()
        assert json.loads(str(file["settings"])) == ClusterSettings().to_dict()


def test_the_same_embeddings_give_the_same_bytes(tmp_path):
    for name in ("a.npz", "b.npz"):
        write_embeddings(tmp_path / name, Embeddings(VECTORS, SHARES, settings=ClusterSettings()))
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


@pytest.mark.parametrize("dtype", [np.float16, np.float64, ">f4"])
def test_other_floats_become_float32(npz, dtype):
    found = read_embeddings(npz(embeddings=VECTORS.astype(dtype)))
    assert found.embeddings.dtype == np.float32
    assert found.embeddings.dtype.isnative
    assert np.array_equal(found.embeddings, VECTORS)


def test_column_order_and_compression_do_not_matter(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", **members(embeddings=np.asfortranarray(VECTORS)))
    assert np.array_equal(read_embeddings(tmp_path / "a.npz").embeddings, VECTORS)


def test_unknown_keys_are_ignored(npz):
    assert np.array_equal(read_embeddings(npz(remark=np.array("mine"))).embeddings, VECTORS)


@pytest.mark.parametrize("name", ["format", "embeddings", "foreground"])
def test_missing_keys_are_named(npz, name):
    message = error_of(read_embeddings, npz(**{name: None, "emb": VECTORS}))
    assert f"a.npz: the key '{name}' is missing (found: emb, " in message


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"embeddings": VECTORS[0]}, "'embeddings' is of shape (3, 4), expected (height, width, dimensions)"),
        ({"embeddings": VECTORS[:, :, :0]}, "'embeddings' is of shape (2, 3, 0), expected (height,"),
        ({"foreground": SHARES[:1]}, "'foreground' is of shape (1, 3), expected (2, 3) as 'embeddings' has"),
        ({"seeds": SHARES.T}, "'seeds' is of shape (3, 2), expected (2, 3)"),
        ({"bandwidth": SHARES[..., None] + 1}, "'bandwidth' is of shape (2, 3, 1), expected (2, 3)"),
        ({"embeddings": VECTORS.astype(int)}, "'embeddings' is int64, expected floats; convert it with .astype"),
        ({"foreground": SHARES > 0.5}, "'foreground' is bool, expected floats"),
        ({"embeddings": VECTORS * np.float32(np.nan)}, "'embeddings' holds NaN or infinite values, expected finite"),
        ({"embeddings": VECTORS + np.float64(1e300)}, "'embeddings' holds NaN or infinite values"),
        ({"seeds": SHARES - np.float32(np.inf)}, "'seeds' holds NaN or infinite values"),
        ({"foreground": SHARES * 2}, "'foreground' goes from 0 to 2, expected 0 to 1"),
        ({"seeds": SHARES - 0.25}, "'seeds' goes from -0.25 to 0.75, expected 0 to 1"),
        ({"bandwidth": SHARES}, "'bandwidth' goes down to 0, expected values above 0"),
        ({"format": np.array(2)}, "it is of format 2, this version reads up to 1; update instseg"),
        ({"format": np.array("1")}, "expected the integer 1"),
        ({"format": np.array([1, 1])}, "expected the integer 1"),
        ({"settings": np.array("{")}, "'settings' is no JSON object"),
        ({"settings": np.array("[1]")}, "'settings' is no JSON object"),
        ({"settings": np.array(7)}, "'settings' is no JSON object"),
        ({"settings": np.array('{"colour": 1}')}, "unknown ClusterSettings value 'colour'"),
        ({"settings": np.array('{"min_size": 0}')}, "min_size is 0, expected a number above 0"),
        ({"settings": np.array('{"min_size": null}')}, "value 'min_size' is None, expected"),
        ({"settings": np.array('{"bandwidth": "1"}')}, "value 'bandwidth' is '1', expected a float or None"),
    ],
)
def test_wrong_members_are_refused(npz, changes, expected):
    message = error_of(read_embeddings, npz(**changes))
    assert message.startswith("cannot read ")
    assert expected in message


@pytest.mark.parametrize("name", ["embeddings", "format", "settings"])
def test_pickled_objects_are_never_read(npz, name):
    message = error_of(read_embeddings, npz(**{name: np.array({"a": 1}, object)}))
    assert f"'{name}' holds pickled objects, which are never read; save it as a plain array" in message


def test_files_that_are_no_npz(tmp_path):
    path = tmp_path / "a.npz"
    assert "there is no such file; check the name" in error_of(read_embeddings, path)
    path.touch()
    assert "the file is empty; write it again" in error_of(read_embeddings, path)
    path.write_text("embeddings")
    assert "it is no .npz file, or one cut off; write it with" in error_of(read_embeddings, path)
    np.save(tmp_path / "b.npy", VECTORS)
    assert "it is no .npz file" in error_of(read_embeddings, tmp_path / "b.npy")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("embeddings.txt", "1")
    assert "the key 'format' is missing (found: no arrays)" in error_of(read_embeddings, path)
    assert "it is a folder, expected a .npz file" in error_of(read_embeddings, tmp_path)


def test_damaged_files_are_refused_in_one_line(npz):
    path = npz()
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(200):
        damaged = bytearray(whole)
        damaged[rng.integers(len(whole))] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        try:
            read_embeddings(path)
        except InstsegError as error:
            assert "\n" not in str(error)
            refused += 1
    assert refused > 100
    for share in (0.1, 0.5, 0.9):
        path.write_bytes(whole[: int(len(whole) * share)])
        assert "no .npz file, or one cut off" in error_of(read_embeddings, path)


def claim(shape, payload=b""):
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "<f4", "fortran_order": False, "shape": shape})
    return stream.getvalue() + payload


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((1_000_000, 1_000_000, 8), "'embeddings' claims 32,000,000,000,000 bytes, expected at most 17,179,869,184"),
        ((10_000, 10_000, 8), "'embeddings' claims 3,200,000,000 bytes and has 16, it is damaged; write it again"),
    ],
)
def test_claims_are_judged_before_memory_is_taken(tmp_path, shape, expected):
    path = tmp_path / "a.npz"
    np.savez(path, **members(embeddings=None))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("embeddings.npy", claim(shape, bytes(16)))
    assert expected in error_of(read_embeddings, path)


def test_other_suffixes_and_places_are_refused(tmp_path):
    given = Embeddings(VECTORS, SHARES)
    assert "choose a name that ends in .npz" in error_of(write_embeddings, tmp_path / "a.npy", given)
    assert "does not exist; create it first" in error_of(write_embeddings, tmp_path / "no" / "a.npz", given)


def replaced(tmp_path, name, content, compression=zipfile.ZIP_DEFLATED):
    """Write a file in which a member holds other bytes."""
    path = tmp_path / "a.npz"
    np.savez(path, **members(classes=np.stack([SHARES, 1 - SHARES], axis=-1), **{name: None}))
    with zipfile.ZipFile(path, "a", compression) as archive:
        archive.writestr(f"{name}.npy", content)
    return path


def header(text, length=None, version=1):
    """The beginning of an array, whose header claims a length."""
    size = 2 if version == 1 else 4
    length = len(text) if length is None else length
    return b"\x93NUMPY" + bytes([version, 0]) + length.to_bytes(size, "little") + text.encode("latin-1")


def described(descr, shape):
    return header(f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x93NUMPY",
        header("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3,"),
        header("(" * 500 + ")" * 500),
        header("-" * 9_000 + "1"),
        header("{}"),
        header("", version=9),
        described("'<f4'", "(-2, -3, 4)"),
        described("'<f4'", "(True, 3, 4)"),
        described("'<f4'", "6"),
        described("'zzz'", "(2, 3, 4)"),
        described("None", "(2, 3, 4)"),
        described("[('a', '<f4')]", "(2, 3, 4)"),
        described("'(1000000000,)<f4'", "(2, 3, 4)"),
        described("'|V0'", "(1000000000000000, 3, 4)"),
    ],
    ids=range(15),
)
@pytest.mark.parametrize("name", ["embeddings", "class_names", "settings", "format"])
def test_headers_of_any_kind_are_refused_in_one_line(tmp_path, name, content):
    message = error_of(read_embeddings, replaced(tmp_path, name, content))
    assert message.startswith("cannot read ")
    assert len(message) < 600


@pytest.mark.parametrize(("version", "length"), [(2, 2**32 - 1), (2, 10_001), (1, 65_535)])
def test_a_header_that_claims_much_is_not_read(tmp_path, version, length):
    content = header(" " * 20_000_000, length, version)
    assert f"a header of {length:,} bytes" in error_of(read_embeddings, replaced(tmp_path, "embeddings", content))


@pytest.mark.parametrize("name", ["class_names", "settings", "format"])
@pytest.mark.parametrize(
    ("descr", "shape", "expected"),
    [
        ("'<U500000000'", "()", "claims 2,000,000,000 bytes, expected at most 16,777,216"),
        ("'<U4000000'", "()", "claims 16,000,000 bytes and has 4, it is damaged"),
        ("'<U0'", "(1000000000000,)", "expected at most 65,536 elements"),
    ],
)
def test_texts_that_claim_much_are_not_read(tmp_path, name, descr, shape, expected):
    assert expected in error_of(read_embeddings, replaced(tmp_path, name, described(descr, shape) + bytes(4)))


@pytest.mark.parametrize("character", [b"\xff\xff\xff\xff", b"\x00\x00\x11\x00", b"\x00\xd8\x00\x00"])
@pytest.mark.parametrize(("name", "shape"), [("class_names", "(2,)"), ("settings", "()")])
def test_texts_of_impossible_characters_are_told(tmp_path, name, shape, character):
    content = described("'<U2'", shape) + character * (4 if name == "class_names" else 2)
    message = error_of(read_embeddings, replaced(tmp_path, name, content))
    assert f"'{name}' holds what are no characters, it is damaged" in message


def test_class_names_of_any_alphabet_and_byte_order_are_read(tmp_path):
    maps = members(classes=np.stack([SHARES, 1 - SHARES], axis=-1))
    np.savez(tmp_path / "a.npz", **maps, class_names=np.array(["Zelle", "細胞🔬"], ">U5"))
    assert read_embeddings(tmp_path / "a.npz").class_names == ("Zelle", "細胞🔬")


@pytest.mark.parametrize("text", ["[" * 99_999, '{"min_size": ' + "9" * 9_999 + "}", '{"min_size": 1e999}'])
def test_settings_that_are_damaged_are_told(npz, text):
    assert len(error_of(read_embeddings, npz(settings=np.array(text)))) < 600


@pytest.mark.parametrize("compression", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_compressions_than_those_of_numpy_are_refused(tmp_path, compression):
    path = replaced(tmp_path, "embeddings", claim((2, 3, 4), bytes(96)), compression)
    assert "compressed in a way that NumPy has not" in error_of(read_embeddings, path)


def test_encrypted_members_are_told(npz):
    path = npz()
    content = bytearray(path.read_bytes())
    # The flag of the first member, in its header and in the directory.
    content[6] |= 1
    content[content.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)
    assert "it is damaged" in error_of(read_embeddings, path)


def test_what_python_2_wrote_is_read_without_a_warning(tmp_path):
    text = "{'descr': '<f4', 'fortran_order': False, 'shape': (2L, 3L, 4L), }\n"
    path = replaced(tmp_path, "embeddings", header(text) + VECTORS.astype("<f4").tobytes())
    assert np.array_equal(read_embeddings(path).embeddings, VECTORS)
