import pytest

from instseg.errors import UsageError
from instseg.labelling.actions import parse_action
from instseg.tiling.grid import Box


def test_actions_are_read():
    action = parse_action({"kind": "add", "inside": [[1, 2.5]], "outside": [], "reach": 2, "replace": 3, "more": 1})
    assert action.points.tolist() == [[1, 2.5]]
    assert action.outside.shape == (0, 2)
    assert (action.reach, action.instance) == (2.0, 3)
    assert parse_action({"kind": "accept_box", "box": [0.2, 1.0, 3.1, 4]}).box == Box(0, 1, 4, 4)
    assert parse_action({"kind": "delete", "line": [[0, 0], [1, 1]]}).points.tolist() == [[0, 0], [1, 1]]
    assert parse_action({"kind": "delete", "ids": [3, 1]}).instances == (3, 1)
    assert parse_action({"kind": "class", "point": [0, 0], "class": 4}).class_number == 4


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "kind is 'None', expected one of add, delete"),
        ({"kind": ["add"]}, "kind is"),
        ({"kind": "add", "inside": []}, "inside is"),
        ({"kind": "add", "inside": [[1, 2, 3]]}, "inside holds"),
        ({"kind": "add", "inside": [["a", 2]]}, "inside holds"),
        ({"kind": "add", "inside": [[float("nan"), 2]]}, "inside holds"),
        ({"kind": "add", "inside": [[1e9, 2]]}, "inside holds"),
        ({"kind": "add", "inside": [[1, 2]], "reach": 0}, "reach is 0.0"),
        ({"kind": "add", "inside": [[1, 2]], "replace": True}, "replace is True"),
        ({"kind": "delete"}, "point holds"),
        ({"kind": "delete", "point": 5}, "point holds"),
        ({"kind": "delete", "ids": []}, "ids is"),
        ({"kind": "delete", "ids": [1, None]}, "ids holds null"),
        ({"kind": "delete", "ids": ["1"]}, "ids is 1, expected"),
        ({"kind": "join", "line": [[0, 0]] * 10_001}, "line is"),
        ({"kind": "split", "line": [[0, 0], [1e6, 1e6]]}, "line is 1.41421e"),
        ({"kind": "paint", "line": [[0, 0]]}, "radius holds 'None'"),
        ({"kind": "paint", "line": [[0, 0]], "radius": 0}, "radius is 0.0"),
        ({"kind": "erase", "line": [[0, 0]], "radius": 1, "id": -1}, "id is -1"),
        ({"kind": "erase", "line": [[0, 0]], "radius": 1, "id": 2**31}, "id is 2147483648"),
        ({"kind": "polygon", "points": [[0, 0], [1, 1]]}, "points is"),
        ({"kind": "class", "point": [0, 0], "class": 256}, "class is 256"),
        ({"kind": "class", "point": [0, 0], "class": 1.5}, "class is 1.5"),
        ({"kind": "accept_box", "box": [0, 0, 1]}, "box is"),
        ({"kind": "accept_box", "box": [5, 5, 5, 9]}, "box is"),
    ],
)
def test_wrong_actions_are_refused(content, message):
    with pytest.raises(UsageError) as error:
        parse_action(content)
    assert str(error.value).startswith(message)
