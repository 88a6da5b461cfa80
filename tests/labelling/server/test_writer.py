"""One page at a time may act."""

from instseg.labelling.server.writer import SILENCE, Writer


def test_the_first_page_that_acts_holds_the_folder():
    writer = Writer(lambda: 0.0)
    assert writer.hear("one")
    assert writer.hear("two")
    assert writer.claim("two")
    assert not writer.claim("one")
    assert not writer.hear("one")
    assert writer.hear("two")


def test_another_page_may_take_over():
    writer = Writer(lambda: 0.0)
    writer.claim("one")
    writer.take_over("two")
    assert writer.claim("two")
    assert not writer.claim("one")


def test_a_page_that_is_gone_holds_nothing():
    now = [0.0]
    writer = Writer(lambda: now[0])
    writer.claim("one")
    now[0] = SILENCE
    assert not writer.claim("two")
    assert writer.hear("one")
    now[0] = 2 * SILENCE
    assert not writer.claim("two")
    now[0] = 2 * SILENCE + 1
    assert writer.hear("two")
    assert writer.claim("two")
    assert not writer.hear("one")


def test_a_page_that_leaves_holds_nothing():
    writer = Writer(lambda: 0.0)
    writer.claim("one")
    writer.leave("two")
    assert not writer.claim("two")
    writer.leave("one")
    assert writer.claim("two")
