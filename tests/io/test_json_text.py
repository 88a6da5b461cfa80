"""JSON of others is bounded in size, depth and digits."""

import pytest

from instseg.errors import InstsegError
from instseg.io.json_text import MAX_BYTES, parse_json, read_json


def test_json_is_parsed() -> None:
    assert parse_json(b'{"a": [1, 2.5, null, "\xc3\xa9"]}') == {"a": [1, 2.5, None, "é"]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 100_000 + "]" * 100_000, "nested too deeply"),
        ("[" * 65 + "]" * 65, "nested too deeply"),
        ('{"a":' * 65 + "1" + "}" * 65, "nested too deeply"),
        ("1" * 401, "401 digits"),
        ("{", "Expecting"),
        (b"\xff", "decode"),
        (" " * (MAX_BYTES + 1), "characters"),
    ],
)
def test_what_is_no_json_of_ours_is_refused(text: str | bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_json(text)


def test_the_file_is_named(tmp_path) -> None:
    (tmp_path / "a.json").write_text("[")
    with pytest.raises(InstsegError, match=r"cannot read .*a\.json: .*; copy"):
        read_json(tmp_path / "a.json")
    with pytest.raises(InstsegError, match="No such file"):
        read_json(tmp_path / "b.json")
