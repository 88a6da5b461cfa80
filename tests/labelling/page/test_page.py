"""The page of `instseg label` in a real browser, by the real server, with a network that is not learnt but drawn."""

import numpy as np
import pytest

from instseg.io.label_images import read_label_values


def test_an_image_is_labelled_from_the_first_click_to_the_next_image(page, served, folder):
    page.open(served.address)
    assert page.text("#state") == "not yet labelled"
    page.click(48, 140)
    page.counts(5, 1)
    labels = served.labels()
    assert (labels == labels[48, 140]).sum() == pytest.approx(np.pi * 14**2, rel=0.1)
    assert page.text("#state") == "partly labelled"
    assert page.find("#veil-note").is_displayed()

    page.press("j")
    page.drag((140, 36), (140, 60))
    page.counts(4, 2)
    labels = served.labels()
    assert labels[140, 36] == labels[140, 60] > 0

    page.press("s")
    page.drag((141.5, 120), (141.5, 160))
    page.counts(5, 4)
    labels = served.labels()
    assert 0 < labels[130, 140] != labels[153, 140] > 0

    page.press("a")
    page.at(48, 48).perform()
    page.press("d")
    page.counts(4, 4)
    assert served.labels()[48, 48] == 0
    page.chord("CONTROL", "z")
    page.counts(5, 4)
    page.chord("CONTROL", "SHIFT", "z")
    page.counts(4, 4)
    page.chord("CONTROL", "z")
    page.counts(5, 4)

    page.press("ENTER")
    page.wait_for("#state", "accepted")
    page.wait(lambda: page.text("#counts") == "5 objects")
    page.wait_for("#folder-summary", "1 of 3 accepted")
    before = served.labels()
    page.browser.refresh()
    page.wait(lambda: page.text("#title") == "one" and page.text("#state") == "accepted", "reloading keeps the image")
    page.wait(lambda: page.text("#counts") == "5 objects")
    assert served.sitting.folder.flush()
    kept = read_label_values(folder / "labels" / "one.png")
    assert np.array_equal(kept > 0, before > 0)
    assert len(np.unique(kept)) == 6
    page.press("ENTER")
    page.wait(lambda: page.text("#title") in ("two", "three") and page.text("#state") == "not yet labelled")


def test_what_was_added_grows_and_shrinks_and_takes_more_clicks(page, served):
    page.open(served.address)
    page.click(48, 140)
    page.counts(5, 1)
    assert "Reach 1." in page.text("#hint")
    page.press("]", "]")
    page.wait_for("#hint", "Reach 2.")
    page.press("[")
    page.wait_for("#hint", "Reach 1.4")
    page.counts(5, 1)
    # Steps of one object are undone together.
    page.chord("CONTROL", "z")
    page.counts(4, 0)


def test_brush_eraser_polygon_and_rectangle(page, served):
    page.open(served.address)
    page.press("b")
    page.drag((96, 90), (96, 110))
    page.counts(5, 1)
    assert served.labels()[96, 100] > 0
    page.press("e")
    page.drag((96, 92), (96, 100))
    page.wait(lambda: served.labels()[96, 95] == 0, "the eraser takes away")
    page.press("p")
    for row, column in ((80, 150), (80, 180), (110, 165)):
        page.click(row, column)
    page.press("ENTER")
    page.counts(6, 2)
    assert served.labels()[90, 165] > 0
    page.press("r")
    page.drag((20, 20), (76, 76))
    page.counts(6, 3)


def test_a_line_deletes_all_that_it_crosses(page, served):
    page.open(served.address)
    page.at(96, 96).perform()
    page.press("d")
    page.drag((140, 36), (140, 60))
    page.counts(2, 0)
    page.chord("CONTROL", "z")
    page.counts(4, 0)
    page.press("a")
    page.drag((120, 140), (165, 140), button=2)
    page.counts(3, 0)
    page.at(48, 48).context_click().perform()
    page.counts(2, 0)
    # With D held where an object is, this one goes at once, and a line goes on.
    page.chord("CONTROL", "z")
    page.counts(3, 0)
    chain = page.at(48, 48).key_down("d").move_to_element_with_offset(page.find("#canvas"), *page.offset(140, 36))
    chain.click_and_hold().move_to_element_with_offset(page.find("#canvas"), *page.offset(140, 60)).release()
    chain.key_up("d").perform()
    page.counts(0, 0)
    assert page.find("#tools [aria-pressed=true]").get_attribute("data-name") == "add"


def test_doubtful_objects_are_marked_and_removed_together(page, served):
    page.expected = ["willReadFrequently"]
    page.open(served.address)
    assert page.text("#remove-doubtful") == "Remove 0 objects X"
    page.press("x")
    page.wait_for("#live", "No object is marked")
    scores = [score for score in page.scores(0) if score is not None]
    assert len(scores) == 4
    page.browser.execute_script(
        "const slider = document.getElementById('score'); slider.value = 1;"
        "slider.dispatchEvent(new Event('input', {bubbles: true}))"
    )
    assert page.text("#remove-doubtful") == "Remove 4 objects X"
    page.settle()
    shown = [page.colour(48 + step, 48) for step in range(8)]
    assert max(red - blue for red, _, blue in shown) > 50, "hatched in red"
    page.at(48, 48).perform()
    page.press("c")
    page.counts(4, 1)
    page.wait(lambda: page.text("#remove-doubtful") == "Remove 3 objects X", "a confirmed one is none")
    page.press("x")
    page.counts(1, 1)
    page.wait_for("#live", "3 objects are deleted")
    page.chord("CONTROL", "z")
    page.counts(4, 1)


def test_the_edge_of_an_object_is_added_by_a_second_click_only(page, served):
    page.open(served.address)
    page.press("p")
    for row, column in ((30, 129), (30, 158), (66, 158), (66, 129)):
        page.click(row, column)
    page.press("ENTER")
    page.counts(5, 1)
    page.press("a")
    page.click(48, 127.5)
    page.wait_for("#live", "the edge of object")
    page.counts(5, 1)
    page.click(48, 127.5)
    page.counts(6, 2)


def test_classes_are_given_by_number_and_objects_confirmed_by_key(page, served):
    page.open(served.address)
    page.find("#class-name").send_keys("nucleus", page.keys.ENTER)
    page.wait_for("#classes", "nucleus")
    page.at(48, 48).perform()
    page.press("1")
    page.counts(4, 1)
    page.wait_for("#where", "nucleus")
    page.at(130, 140).perform()
    page.press("c")
    page.counts(4, 2)
    page.wait_for("#where", "confirmed")


def test_confirmed_objects_and_unknown_regions_look_different(page, served):
    page.expected = ["willReadFrequently"]
    page.open(served.address)
    page.press("f")
    page.settle()
    model, ground = page.colour(48, 48), page.colour(96, 96)
    page.at(130, 140).perform()
    page.press("c")
    page.counts(4, 1)
    page.at(96, 96).perform()
    page.settle()
    confirmed = page.colour(130, 140)
    assert model[0] > model[2] + 20, "amber: found by the model"
    assert confirmed[2] > confirmed[0] + 20, "blue and green: confirmed"
    assert sum(page.colour(96, 96)) > sum(ground), "a veil: nobody has said what is there"
    page.press("f", "o")
    page.settle()
    assert page.colour(48, 48)[0] == page.colour(48, 48)[2]


def test_a_held_key_chooses_a_tool_for_one_use(page, served):
    page.open(served.address)
    pressed = lambda: page.find("#tools [aria-pressed=true]").get_attribute("data-name")  # noqa: E731
    canvas = page.find("#canvas")
    chain = page.at(140, 36).key_down("j").click_and_hold()
    chain.move_to_element_with_offset(canvas, *page.offset(140, 60)).release().key_up("j").perform()
    page.counts(3, 1)
    assert pressed() == "add"
    page.press("j")
    assert pressed() == "join"


def test_the_wheel_zooms_to_the_pointer_and_a_drag_moves(page, served):
    from selenium.webdriver.common.actions.wheel_input import ScrollOrigin

    page.open(served.address)
    percent = lambda: int(page.text("#zoom-fit").split()[0])  # noqa: E731
    before = percent()
    origin = ScrollOrigin.from_element(page.find("#canvas"), *page.offset(48.5, 48.5))
    page.at(48.5, 48.5).scroll_from_origin(origin, 0, -400).perform()
    page.wait(lambda: percent() > 2 * before, "the wheel zooms")
    page.wait_for("#where", "row 48, column 48")
    page.drag((48.5, 48.5), (96, 96))
    page.wait_for("#where", "row 48, column 48")
    page.press("HOME")
    page.wait(lambda: percent() == before, "Home shows the whole image")
    # A drag is no click: nothing was added or selected.
    assert page.text("#counts") == "4 objects, 0 confirmed"


def test_keys_zoom_and_move_also_while_the_list_has_the_focus(page, served):
    page.open(served.address)
    page.find("#list").click()
    title = page.text("#title")
    percent = lambda: int(page.text("#zoom-fit").split()[0])  # noqa: E731
    page.wait(lambda: percent() > 1, "the image is shown")
    page.at(96, 96).perform()
    before = percent()
    page.press("+", "+", "-")
    page.wait(lambda: abs(percent() - 1.5 * before) < 3, "plus and minus zoom")
    place = page.text("#where")
    page.chord("SHIFT", page.keys.ARROW_DOWN)
    page.chord("SHIFT", page.keys.ARROW_RIGHT)
    page.at(96, 97).perform()
    page.wait(lambda: page.text("#where") != place, "the view moves")
    assert page.text("#title") == title
    page.press("HOME")
    page.wait(lambda: percent() == before, "Home shows the whole image")


def test_shift_enter_accepts_and_opens_the_next_image(page, served):
    page.open(served.address)
    page.chord("SHIFT", page.keys.ENTER)
    page.wait(lambda: page.text("#title") in ("two", "three"), "the next image is open")
    page.wait_for("#folder-summary", "1 of 3 accepted")
    assert page.text("#state") == "not yet labelled"
    assert served.labels("one").max() > 0


def test_images_are_searched_and_reached_by_keys(page, served):
    page.open(served.address)
    page.press("/")
    page.press("w")
    assert [row.get_attribute("data-index") for row in page.find_all("#list li")] == ["2"]
    page.press("ENTER")
    page.wait(lambda: page.text("#title") == "two")
    page.find("#search").clear()
    page.press("ESCAPE")
    page.press("?")
    assert page.find("#help").get_attribute("open")
    page.press("ESCAPE")
    assert not page.find("#help").get_attribute("open")


def test_a_second_page_looks_and_takes_over(page, served):
    page.open(served.address)
    page.click(48, 140)
    page.counts(5, 1)
    first = page.browser.current_window_handle
    page.browser.switch_to.new_window("tab")
    try:
        page.open(served.address, objects=5)
        page.wait_for("#notices", "only looks")
        page.at(48, 48).perform()
        page.press("d")
        page.wait_for("#live", "only looks")
        assert served.labels()[48, 48] > 0
        page.find("#notices button").click()
        page.wait(lambda: page.text("#notices") == "", "it takes over")
        page.at(48, 48).perform()
        page.press("d")
        page.counts(4, 1)
    finally:
        page.browser.close()
        page.browser.switch_to.window(first)
    page.counts(4, 1)


def test_what_is_done_while_the_server_is_away_is_sent_when_it_is_back(page, serve, folder):
    served = serve(folder)
    page.open(served.address)
    served.stop()
    page.expected = ["ERR_CONNECTION_REFUSED", "ERR_EMPTY_RESPONSE", "ERR_CONNECTION_RESET"]
    page.at(48, 48).perform()
    page.press("d")
    page.at(130, 140).perform()
    page.press("c")
    page.wait_for("#notices", "does not answer")
    page.wait_for("#notices", "2 actions wait")
    served = serve(folder, served.port)
    page.counts(3, 1)
    assert served.labels()[48, 48] == 0
    page.wait(lambda: page.text("#notices") == "", "nothing waits any more")


def test_an_image_that_cannot_be_read_is_said(page, serve, folder):
    (folder / "images" / "two.png").write_bytes(b"no image")
    served = serve(folder)
    page.open(served.address, "two", objects=None)
    assert "cannot be read" in page.text("#empty")
    page.press("ARROW_RIGHT")
    page.wait(lambda: page.text("#title") != "two")


def test_everything_to_operate_has_a_name_and_a_key(page, served):
    page.open(served.address)
    nameless = page.browser.execute_script(
        "return Array.from(document.querySelectorAll('button, input, select, canvas, [role], dialog, aside, section'))"
        ".filter(one => !(one.getAttribute('aria-label') || one.getAttribute('aria-labelledby')"
        " || one.textContent.trim() || (one.labels && one.labels.length)"
        " || ['alert', 'status'].includes(one.getAttribute('role'))))"
        ".map(one => one.outerHTML)"
    )
    assert nameless == []
    ids = page.browser.execute_script("return Array.from(document.querySelectorAll('[id]')).map(one => one.id)")
    assert len(ids) == len(set(ids))
    for button in page.find_all("#tools button"):
        key = button.get_attribute("aria-keyshortcuts")
        assert f"({key.upper()})" in button.get_attribute("title")


def test_a_training_shows_how_far_it_is_and_its_curve(page, served, monkeypatch):
    status = {"round": 1, "state": "running", "done": False, "phase": "40 of 60 seconds", "share": 0.5, "seconds": 40}
    status |= {"of": 60, "curve": [[0, 0.9], [10, 0.5], [20, 0.4]], "measure": "loss", "images": 2, "message": None}
    monkeypatch.setattr(served.sitting.rounds, "status", lambda: status)
    page.open(served.address)
    page.wait_for("#train-phase", "40 of 60 seconds")
    assert page.find("#train-stop").is_displayed()
    assert page.find("#train-progress").get_attribute("value") == "0.5"
    assert page.find("#curve polyline").is_displayed()
    assert "from 0.9 to 0.4" in page.find("#curve").get_attribute("aria-label")
    status |= {"state": "failed", "done": True, "message": "it has run out of memory"}
    page.wait_for("#train-phase", "out of memory")
    page.wait_for("#live", "out of memory")
    assert page.find("#train").is_displayed()


def test_a_full_disc_is_said_until_there_is_room(page, served, monkeypatch):
    page.open(served.address)
    with monkeypatch.context() as patch:
        patch.setattr(type(served.sitting.folder), "error", property(lambda _: "no space left on device."))
        page.wait_for("#notices", "Labels cannot be saved: no space left on device.")
    page.wait(lambda: page.text("#notices") == "", "there is room again")


def test_a_round_of_training_in_a_process_of_its_own(page, serve, folder, monkeypatch):
    served = serve(folder)
    start = served.sitting.rounds.start
    small = {"batch_size": 2, "patch_size": 32}
    monkeypatch.setattr(served.sitting.rounds, "start", lambda minutes, **given: start(minutes / 60, **small, **given))
    page.open(served.address)
    assert not page.find("#train").is_enabled()
    page.press("ENTER")
    page.wait_for("#training-advice", "1 image accepted")
    field = page.find("#minutes")
    field.clear()
    field.send_keys("0.1")
    page.find("#train").click()
    page.wait(lambda: page.find("#train-stop").is_displayed(), "the training runs")
    page.wait_for("#training-advice", "go on labelling")
    page.wait(lambda: "Round 1, from 1 image," in page.text("#round-words"), "the round has ended", seconds=120)
    assert [row.text.split()[0] for row in page.find_all("#rounds tbody tr")] == ["start", "1"]
    assert page.find("#train").is_displayed()
    assert (folder / "model").is_dir()
