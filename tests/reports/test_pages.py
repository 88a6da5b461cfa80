"""Pages in a real browser: they open offline, and what is in them works by mouse and by keyboard."""

import numpy as np
import pytest

from instseg.reports.figures import ObjectTable, OutlineGroup, grid, image_figure
from instseg.reports.markup import tag
from instseg.reports.outlines import outline_paths
from instseg.reports.page import outline_switches, section, text_list, write_page
from instseg.reports.pictures import encode, to_8bit
from instseg.reports.tables import Cell, sortable_table

NASTY = '<img src=x onerror="window.hacked=1">\'</script><script>window.hacked=1</script>'


def blocks():
    labels = np.zeros((60, 90), np.int32)
    labels[5:25, 5:25], labels[30:55, 40:80] = 1, 2
    return labels


def figure(anchor, name):
    labels = blocks()
    picture = encode(to_8bit(labels[:, :, None]), 512, 10_000, labels.shape)
    groups = [
        OutlineGroup("right", {1: outline_paths(labels, 1000).paths[1]}),
        OutlineGroup("missed", {2: outline_paths(labels, 1000).paths[2]}),
    ]
    objects = ObjectTable(["object", "area", "class"], [[1, 400, NASTY], [2, 1000, None]])
    return image_figure(anchor, name, "2 objects", picture, labels.shape, groups, objects)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A page of two images and a table, in which everything that others name is hostile."""
    path = tmp_path_factory.mktemp("page") / "page.html"
    rows = [["b", 10, Cell("1.0 %", 1.0)], ["a10", 9, Cell("20.0 %", 20.0)], ["a9", None, Cell("3.0 %", 3.0)]]
    sections = [
        section("Images", outline_switches([("right", "right"), ("missed", "missed")]), anchor="images"),
        grid([figure("one", "first"), figure("two", NASTY)]),
        section("Table", sortable_table("Rows", ["image", "objects", "share"], rows), anchor="table"),
        tag("details", tag("summary", "More"), text_list([NASTY])),
    ]
    write_page(path, NASTY, tag("p", NASTY), sections, contents=[("images", "Images")])
    return path


@pytest.fixture
def opened(open_page, page):
    return open_page(page)


@pytest.fixture
def find(opened):
    """A function that returns elements by a selector of CSS."""
    by = pytest.importorskip("selenium.webdriver.common.by").By.CSS_SELECTOR
    return lambda selector: opened.find_elements(by, selector)


@pytest.fixture
def press(opened):
    keys = pytest.importorskip("selenium.webdriver.common.keys").Keys
    chains = pytest.importorskip("selenium.webdriver.common.action_chains").ActionChains
    return lambda *names: [
        chains(opened).send_keys(getattr(keys, name) if len(name) > 1 else name).perform() for name in names
    ]


@pytest.fixture
def hover(opened):
    chains = pytest.importorskip("selenium.webdriver.common.action_chains").ActionChains
    return lambda element: chains(opened).move_to_element(element).perform()


def column(find, index):
    return [row.text for row in find(f"#table tbody td:nth-child({index})")]


def test_names_are_shown_as_they_are_and_never_run(opened, find):
    assert opened.execute_script("return window.hacked") is None
    assert opened.title == NASTY
    assert find("h1")[0].text == NASTY
    assert find("#two figcaption button")[0].text == NASTY
    assert len(find("img")) == 0
    assert len(find("script:not([type])")) == 1


def test_the_page_cannot_reach_the_network(opened, chromium):
    directive = opened.execute_async_script(
        "const done = arguments[0];"
        "document.addEventListener('securitypolicyviolation', event => done(event.effectiveDirective));"
        "fetch('https://example.org/').catch(() => null);"
    )
    assert directive == "connect-src"
    # The browser says so, too.
    assert "Content Security Policy" in "".join(entry["message"] for entry in chromium.get_log("browser"))


def test_switches_hide_outlines_in_all_images(opened, find):
    right, missed = find("g.right path"), find("g.missed path")
    assert all(path.is_displayed() for path in [*right, *missed])
    find("input[data-group=missed]")[0].click()
    assert [path.is_displayed() for path in [*right, *missed]] == [True, True, False, False]
    find("input[data-group=missed]")[0].click()
    assert all(path.is_displayed() for path in missed)


def test_headings_sort_by_mouse_and_by_keyboard(opened, find, press):
    image, objects, share = find("#table th button")
    image.click()
    assert column(find, 1) == ["a9", "a10", "b"]
    objects.click()
    assert column(find, 2) == ["9", "10", "–"]
    assert [heading.get_attribute("aria-sort") for heading in find("#table th")] == [None, "ascending", None]
    opened.execute_script("arguments[0].focus()", objects)
    press("ENTER")
    assert column(find, 2) == ["10", "9", "–"]
    assert find("#table th")[1].get_attribute("aria-sort") == "descending"
    share.click()
    assert column(find, 3) == ["1.0 %", "3.0 %", "20.0 %"]


def test_pointing_at_an_object_shows_its_numbers(opened, find, hover):
    tip = find("#tip")[0]
    assert not tip.is_displayed()
    hover(find("#two g.right path")[0])
    assert tip.text.splitlines() == ["object 1", "area 400", f"class {NASTY}"]
    hover(find("#two g.missed path")[0])
    assert tip.text.splitlines() == ["object 2", "area 1,000"]
    hover(find("h1")[0])
    assert not tip.is_displayed()


def test_the_viewer_zooms_and_goes_from_object_to_object_by_keys(opened, find, press):
    view = lambda: list(map(float, find("#viewer-stage svg")[0].get_dom_attribute("viewBox").split()))  # noqa: E731
    opened.execute_script("arguments[0].focus()", find("#one figcaption button")[0])
    press("ENTER")
    assert find("dialog[open] #viewer-title")[0].text == "first"
    assert view() == [0, 0, 90, 60]
    press("+", "+")
    assert view()[2] == pytest.approx(90 / 1.5**2)
    assert find("#viewer-stage svg image")[0].is_displayed()
    press("-")
    assert view()[2] == pytest.approx(60)
    press("ARROW_RIGHT")
    status = find("#viewer-status")[0]
    assert status.text.startswith("object 1, area 400")
    assert len(find("#viewer-stage g.right path.current")) == 1
    press("ARROW_RIGHT")
    assert status.text == "object 2, area 1,000"
    press("ARROW_RIGHT")
    assert status.text.startswith("object 1")
    press("0")
    assert view() == [0, 0, 90, 60]
    press("ESCAPE")
    assert find("dialog[open]") == []
    assert opened.switch_to.active_element.text == "first"


def test_the_viewer_zooms_by_the_wheel_and_its_table_sorts_and_selects(opened, find):
    chains = pytest.importorskip("selenium.webdriver.common.action_chains").ActionChains
    origin = pytest.importorskip("selenium.webdriver.common.actions.wheel_input").ScrollOrigin
    find("#one svg")[0].click()
    stage = find("#viewer-stage svg")[0]
    chains(opened).scroll_from_origin(origin.from_element(stage), 0, -400).perform()
    assert float(stage.get_dom_attribute("viewBox").split()[2]) == pytest.approx(90 / np.e, rel=0.01)
    find("#viewer [data-do=fit]")[0].click()
    assert stage.get_dom_attribute("viewBox") == "0 0 90 60"
    area = find("#viewer-table th button")[1]
    area.click()
    area.click()
    assert [cell.text for cell in find("#viewer-table tbody td:first-child")] == ["2", "1"]
    find("#viewer-table tbody td button")[0].click()
    assert find("#viewer-status")[0].text == "object 2, area 1,000"
    find("#viewer [data-do=next]")[0].click()
    assert find("#viewer-title")[0].text == NASTY
    find("#viewer [data-do=close]")[0].click()


def test_what_is_hidden_is_not_visited(opened, find, press):
    find("input[data-group=right]")[0].click()
    find("#one svg")[0].click()
    press("ARROW_RIGHT")
    assert find("#viewer-status")[0].text == "object 2, area 1,000"
    press("ESCAPE")


def test_the_page_is_dark_where_it_is_asked_to_and_light_on_paper(opened, find):
    ground = lambda: find("body")[0].value_of_css_property("background-color")  # noqa: E731

    def emulate(media, scheme):
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        opened.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media, "features": features})

    try:
        emulate("screen", "light")
        assert ground() == "rgba(255, 255, 255, 1)"
        emulate("screen", "dark")
        assert ground() == "rgba(20, 22, 26, 1)"
        emulate("print", "dark")
        assert ground() == "rgba(255, 255, 255, 1)"
        assert not find("nav")[0].is_displayed()
        assert find("#one svg")[0].is_displayed()
    finally:
        opened.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": []})


def test_what_is_folded_is_printed(opened, find):
    opened.execute_script("window.dispatchEvent(new Event('beforeprint'))")
    assert find("details")[0].get_attribute("open")
    opened.execute_script("window.dispatchEvent(new Event('afterprint'))")
    assert not find("details")[0].get_attribute("open")


def test_everything_to_operate_has_a_name(opened):
    nameless = opened.execute_script(
        "return Array.from(document.querySelectorAll('button, input, svg[role], [role=region], dialog, nav, table'))"
        ".filter(one => !(one.getAttribute('aria-label') || one.getAttribute('aria-labelledby')"
        " || one.textContent.trim() || (one.labels && one.labels.length))).map(one => one.outerHTML)"
    )
    assert nameless == []
    assert opened.execute_script("return document.documentElement.lang") == "en"
    ids = opened.execute_script("return Array.from(document.querySelectorAll('[id]')).map(one => one.id)")
    assert len(ids) == len(set(ids))


def test_a_page_appears_when_it_is_complete(tmp_path):
    path = tmp_path / "page.html"
    path.write_text("before")

    def sections():
        yield tag("p", "one")
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        write_page(path, "Title", tag("p"), sections())
    assert path.read_text() == "before"
    assert [file.name for file in tmp_path.iterdir()] == ["page.html"]


def test_a_picture_is_not_needed():
    markup = image_figure("x", "name", "nothing", None, (5, 6), [], ObjectTable([], []))
    assert 'viewBox="0 0 6 5"' in markup
    assert "<image" not in markup
