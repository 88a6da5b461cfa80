"""HTML of texts that others have named."""

import json
from html.parser import HTMLParser

import pytest

from instseg.reports.markup import Markup, escape, json_block, number, tag, void

NASTY = "</script><script>alert(1)</script><!--\u2028\u202e\x00\"'&amp;"


class _Reader(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.text = [], ""

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.text += data


def read(markup):
    reader = _Reader()
    reader.feed(markup)
    reader.close()
    return reader


def test_texts_stay_texts_in_content_and_in_attributes():
    reader = read(tag("p", NASTY, title=NASTY))
    assert [name for name, _ in reader.tags] == ["p"]
    shown = NASTY.replace("\u2028", "\\u2028").replace("\u202e", "\\u202e").replace("\x00", "\\x00")
    assert reader.text == shown
    assert reader.tags[0][1]["title"] == shown


def test_markup_is_not_escaped_twice_and_what_is_added_to_it_is_escaped():
    assert tag("b", tag("i", "<")) == "<b><i>&lt;</i></b>"
    assert Markup("<br>") + "<" == "<br>&lt;"
    assert isinstance(tag("b") + tag("i"), Markup)
    assert void("input", checked=True, disabled=False, value=None) == "<input checked>"
    assert escape(None) == ""


def test_no_text_ends_a_block_of_data():
    block = json_block({"name": NASTY, NASTY: [1, float("nan"), None]}, class_="data")
    assert block.count("<") == 2
    reader = read(block)
    (name, attributes), *others = reader.tags
    assert (name, attributes, others) == ("script", {"type": "application/json", "class": "data"}, [])
    stored = json.loads(reader.text)
    assert stored["name"].startswith("</script><script>alert(1)</script><!--\\u2028")
    assert list(stored.values())[1] == [1, None, None]


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (1234567, "1,234,567"), (0.98765, "0.988"), (float("inf"), "–"), (-2.5, "-2.5")]
)
def test_numbers(value, text):
    assert number(value) == text
