"""Make the animated picture of `instseg label`: an object is added by a click and grown, two are split by a line.

    python tests/benchmarks/label_picture.py data/dsb2018_rgb/train/images/4e92129f4e80.png images/label.webp

The page is the real one, in Chromium by Selenium, with the model `general`.
"""

import argparse
import base64
import io
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from instseg.labelling.server.app import make_app
from instseg.labelling.server.running import Server, address_of, listen
from instseg.labelling.server.sitting import Sitting

TOKEN = "token-of-the-picture"
# What the picture shows, in pixels of the image: its middle (row, column), and how many times larger it is seen.
MIDDLE, SCALE = (213, 84), 5.0
WIDTH, HEIGHT = 720, 430
FRAME = 70  # milliseconds
MISSED = (244, 52)
BETWEEN = ((229, 93), (230, 136))
ARROW = ((0, 0), (0, 17), (4, 13), (7, 20), (10, 19), (7, 12), (12, 12))


class Film:
    """The page in the browser, frame by frame, with a pointer that is drawn as there is none without a screen."""

    def __init__(self, browser: Any) -> None:
        from selenium.webdriver.common.by import By

        self.browser = browser
        self.canvas = browser.find_element(By.ID, "canvas")
        self.frames: list[tuple[Image.Image, int]] = []
        self.caption = ""
        self._at = (float(MIDDLE[0] - 15), float(MIDDLE[1]))
        self._font = ImageFont.load_default(19)

    def chain(self) -> Any:
        from selenium.webdriver.common.action_chains import ActionChains

        return ActionChains(self.browser, 10)

    def place(self, place: tuple[float, float]) -> tuple[int, int]:
        """Return where a place (row, column) of the image is, right of and below the middle of the canvas."""
        return round((place[1] - MIDDLE[1]) * SCALE), round((place[0] - MIDDLE[0]) * SCALE)

    def shoot(self, milliseconds: int = FRAME) -> None:
        bounds = self.canvas.rect
        clip = {
            "x": bounds["x"] + bounds["width"] / 2 - WIDTH / 2,
            "y": bounds["y"] + bounds["height"] / 2 - HEIGHT / 2,
            "width": WIDTH,
            "height": HEIGHT,
            "scale": 1,
        }
        shot = self.browser.execute_cdp_cmd("Page.captureScreenshot", {"format": "png", "clip": clip})
        image = Image.open(io.BytesIO(base64.b64decode(shot["data"]))).convert("RGB")
        draw = ImageDraw.Draw(image, "RGBA")
        right, down = self.place(self._at)
        arrow = [(WIDTH / 2 + right + x, HEIGHT / 2 + down + y) for x, y in ARROW]
        draw.polygon(arrow, fill="white", outline="black", width=1)
        if self.caption:
            length = draw.textlength(self.caption, self._font)
            draw.rounded_rectangle((12, 12, 32 + length, 44), 6, fill=(20, 22, 26, 215))
            draw.text((22, 16), self.caption, fill="white", font=self._font)
        self.frames.append((image, milliseconds))

    def move(self, place: tuple[float, float], frames: int) -> None:
        """Move the pointer there, slower at both ends, whatever it holds."""
        for at in between(self._at, place, frames):
            self._at = at
            self.chain().move_to_element_with_offset(self.canvas, *self.place(at)).perform()
            self.shoot()

    def wait(self, words: str) -> None:
        """Wait until the page says so, and has drawn it."""
        until = time.monotonic() + 60
        while words not in self.browser.execute_script("return document.getElementById('live').textContent"):
            if time.monotonic() > until:
                raise TimeoutError(f"the page never said {words!r}")
            time.sleep(0.05)
        time.sleep(0.4)

    def save(self, path: Path) -> None:
        first, *others = [frame for frame, _ in self.frames]
        durations = [milliseconds for _, milliseconds in self.frames]
        first.save(path, save_all=True, append_images=others, duration=durations, loop=0, quality=62, method=6)


def between(start: tuple[float, float], end: tuple[float, float], steps: int) -> Iterator[tuple[float, float]]:
    for share in np.linspace(0, 1, steps + 1)[1:]:
        eased = share * share * (3 - 2 * share)
        yield tuple(np.add(start, eased * np.subtract(end, start)).tolist())


def act(film: Film) -> None:
    """What the picture shows."""
    film.caption = "Yellow: found by the model, not yet confirmed"
    film.shoot(1100)
    film.move(MISSED, 12)
    film.caption = "A click adds what is missing"
    film.shoot(500)
    film.chain().click().perform()
    film.wait("Added")
    film.shoot(900)
    film.caption = "] or Shift and wheel: it reaches farther"
    film.browser.execute_script("document.getElementById('live').textContent = ''")
    film.chain().send_keys("]").perform()
    film.wait("Added")
    film.shoot(1200)
    film.move(BETWEEN[0], 12)
    film.caption = "S and a line: split"
    film.chain().send_keys("s").perform()
    film.shoot(300)
    film.chain().click_and_hold().perform()
    film.move(BETWEEN[1], 12)
    film.chain().release().perform()
    film.wait("Split")
    film.shoot(500)
    film.move((BETWEEN[1][0] - 25, BETWEEN[1][1] + 10), 6)
    film.shoot(1500)


def look_closely(film: Film) -> None:
    """Zoom to what the picture shows, and bring it to the middle."""
    from selenium.webdriver.common.actions.wheel_input import ScrollOrigin

    bounds, height, width = film.canvas.rect, *film.size
    fitting = min(bounds["width"] / width, bounds["height"] / height) * 0.97
    start = round((MIDDLE[1] - width / 2) * fitting), round((MIDDLE[0] - height / 2) * fitting)
    origin = ScrollOrigin.from_element(film.canvas, *start)
    film.chain().scroll_from_origin(origin, 0, round(-np.log(SCALE / fitting) / 0.0025)).perform()
    time.sleep(1)
    chain = film.chain().move_to_element_with_offset(film.canvas, *start).click_and_hold()
    chain.move_to_element_with_offset(film.canvas, 0, 0).release().perform()
    time.sleep(1)


def film_of(address: str, size: tuple[int, int]) -> Film:
    """Open the page and act."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for name in ("headless", "no-sandbox", "disable-gpu", "disable-dev-shm-usage", "window-size=1440,900"):
        options.add_argument(f"--{name}")
    browser = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
    try:
        browser.get(address)
        film = Film(browser)
        film.size = size
        film.wait("objects")
        look_closely(film)
        act(film)
    finally:
        browser.quit()
    return film


def main() -> None:
    """Serve the image, and film the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("image", type=Path)
    parser.add_argument("picture", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(arguments.image, folder)
        sitting = Sitting(folder, "general")
        sitting.start()
        listening = listen("127.0.0.1", 0)
        server = Server(make_app(sitting, TOKEN), listening)
        address = address_of("127.0.0.1", listening.getsockname()[1], TOKEN)
        thread = threading.Thread(target=server.run)
        thread.start()
        try:
            while not (shown := sitting.folder_view()["images"][0])["predicted"]:
                time.sleep(0.2)
            film_of(address, (shown["height"], shown["width"])).save(arguments.picture)
        finally:
            server.stop()
            thread.join()
            sitting.close()


if __name__ == "__main__":
    main()
