"""What tests of the page share: a served folder of drawn images, and the page in a browser."""

import json
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import ndimage

from instseg.settings import ClusterSettings, ModelSettings

TOKEN = "token-of-the-test"
WAIT = 20
# Gray values of the drawn objects: what the model finds, what it finds only where somebody points.
FOUND, FAINT, OTHER_HALF = 200, 120, 230
SIDE = 192


def disc(image, row, column, radius, value):
    rows, columns = np.ogrid[: image.shape[0], : image.shape[1]]
    image[(rows - row) ** 2 + (columns - column) ** 2 <= radius**2] = value


def draw():
    """An image: a disc (48, 48), a faint one (48, 140), one that is taken for two (140, 48), and two taken for one."""
    image = np.full((SIDE, SIDE), 20, np.uint8)
    disc(image, 48, 48, 16, FOUND)
    disc(image, 48, 140, 14, FAINT)
    disc(image, 140, 48, 18, FOUND)
    image[:, 48:][(image[:, 48:] == FOUND) & (np.arange(SIDE)[:, None] > 100)] = OTHER_HALF
    disc(image, 130, 140, 13, FOUND)
    disc(image, 153, 140, 13, FOUND)
    return image


def drawn_network(images, low, high, magnification):
    """Maps of a network for which each connected region of one gray value is an object, faint ones no foreground."""
    image = images[0, :, :, 0]
    labels = np.zeros(image.shape, np.int32)
    for value in (FOUND, FAINT, OTHER_HALF):
        components, count = ndimage.label(image == value)
        labels[components > 0] = components[components > 0] + labels.max()
    embeddings = np.zeros((*image.shape, 4), np.float32)
    embeddings[..., 0], embeddings[..., 1] = np.indices(image.shape)
    seeds, bandwidth = np.zeros(image.shape, np.float32), np.ones(image.shape, np.float32)
    for label in range(1, labels.max() + 1):
        inside = labels == label
        middle = np.argwhere(inside).mean(axis=0)
        embeddings[inside, :2] = middle
        distance = np.hypot(*(np.argwhere(inside) - middle).T)
        seeds[inside] = np.exp(-distance / 8) * (0.02 if image[inside][0] == FAINT else 1)
        bandwidth[inside] = 6
    foreground = np.select([image == FAINT, labels > 0], [0.2, 1], 0).astype(np.float32)
    return {
        "embeddings": embeddings[None],
        "foreground": foreground[None],
        "seeds": seeds[None],
        "bandwidth": bandwidth[None],
    }


def drawn_model(folder, model, number, options):
    from instseg.inference.embedder import Embedder
    from instseg.labelling.network_worker import LoadedModel
    from instseg.labelling.segmenting import Predictions

    settings = ModelSettings(channels=1, loss="overlap", embeddings=4, widths=(8, 8), diameter=19.0)
    return LoadedModel(Embedder(drawn_network, settings, ClusterSettings()), Predictions(folder, number, {"drawn": 1}))


@pytest.fixture
def folder(tmp_path):
    from PIL import Image

    (tmp_path / "images").mkdir()
    for name in ("one", "two", "three"):
        Image.fromarray(draw()).save(tmp_path / "images" / f"{name}.png")
    return tmp_path


@pytest.fixture
def serve(tiny_model):
    """A function that serves a folder in a thread, and returns its sitting and its address."""
    pytest.importorskip("uvicorn", reason="the page is served by uvicorn, which is not installed")
    from instseg.labelling.server.app import make_app
    from instseg.labelling.server.running import Server, address_of, listen
    from instseg.labelling.server.sitting import Sitting

    running = []

    def serve(folder, port=None, load=drawn_model):
        sitting = Sitting(folder, tiny_model, load=load)
        sitting.start()
        listening = listen("127.0.0.1", port)
        port, started = listening.getsockname()[1], threading.Event()
        server = Server(make_app(sitting, TOKEN), listening, started.set)
        thread = threading.Thread(target=server.run)
        thread.start()
        assert started.wait(WAIT)

        def stop():
            server.stop()
            thread.join()
            sitting.close()

        running.append(stop)
        address = address_of("127.0.0.1", port, TOKEN)
        names = [image.name for image in sitting.folder.images]
        return SimpleNamespace(
            sitting=sitting,
            address=address,
            port=port,
            stop=lambda: running.pop()(),
            labels=lambda name="one": sitting.document(names.index(name)).read(),
        )

    yield serve
    for stop in reversed(running):
        stop()


class Page:
    """The page in the browser, by the image's coordinates."""

    def __init__(self, browser):
        from selenium.webdriver.common.action_chains import ActionChains
        from selenium.webdriver.common.by import By
        from selenium.webdriver.common.keys import Keys

        self.browser, self.keys, self._by, self._chains = browser, Keys, By.CSS_SELECTOR, ActionChains

    def find(self, selector):
        return self.browser.find_element(self._by, selector)

    def find_all(self, selector):
        return self.browser.find_elements(self._by, selector)

    def text(self, selector):
        return self.browser.execute_script("return document.querySelector(arguments[0]).textContent", selector)

    def wait(self, condition, what="", seconds=WAIT):
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if result := condition():
                return result
            time.sleep(0.03)
        what = what() if callable(what) else what
        raise AssertionError(f"{what}; the page says {self.text('#live')!r}, {self.text('#notices')!r}")

    def wait_for(self, selector, words):
        self.wait(lambda: words in self.text(selector), lambda: f"{selector} is {self.text(selector)!r}, not {words!r}")

    def counts(self, objects, confirmed):
        words = f"{objects} objects, {confirmed} confirmed"
        self.wait_for("#counts", words)

    def open(self, address, name="one", objects=4):
        self.browser.get(address)
        self.wait(lambda: self.text("#title"), "no image is open")
        for row in self.find_all("#list li"):
            if name in row.text:
                row.click()
        self.wait(lambda: self.text("#title") == name)
        if objects:
            self.wait_for("#counts", f"{objects} objects")
            self.settle()

    def settle(self):
        """Wait until labels are drawn, as the canvas shows them."""
        self.browser.execute_async_script(
            "const done = arguments[0]; let last = '';"
            "const look = () => { const now = document.getElementById('canvas').toDataURL();"
            "  if (now === last) done(); else { last = now; setTimeout(look, 150); } }; look();"
        )

    def offset(self, row, column):
        """Where a place of the image is from the middle of the canvas, while the whole image is shown."""
        width, height = self.browser.execute_script(
            "const canvas = document.getElementById('canvas'); return [canvas.clientWidth, canvas.clientHeight]"
        )
        scale = min(width, height) * 0.97 / SIDE
        return round((column - SIDE / 2) * scale), round((row - SIDE / 2) * scale)

    def at(self, row, column):
        """A chain of actions that begins with the pointer there."""
        return self._chains(self.browser, 30).move_to_element_with_offset(
            self.find("#canvas"), *self.offset(row, column)
        )

    def click(self, row, column):
        self.at(row, column).click().perform()

    def drag(self, *places, button=0):
        chain = self.at(*places[0])
        chain.w3c_actions.pointer_action.pointer_down(button=button)
        chain.w3c_actions.key_action.pause()
        for row, column in places[1:]:
            chain.move_to_element_with_offset(self.find("#canvas"), *self.offset(row, column))
        chain.w3c_actions.pointer_action.pointer_up(button=button)
        chain.perform()

    def scores(self, index):
        return self.browser.execute_async_script(
            "fetch(`/api/images/${arguments[0]}/objects`).then(answer => answer.json())"
            ".then(objects => arguments[1](objects.scores))",
            index,
        )

    def press(self, *keys):
        for key in keys:
            self._chains(self.browser, 30).send_keys(getattr(self.keys, key) if len(key) > 1 else key).perform()

    def chord(self, *keys):
        """Press the last key while the others are held."""
        chain = self._chains(self.browser, 30)
        for key in keys[:-1]:
            chain.key_down(getattr(self.keys, key))
        chain.send_keys(keys[-1])
        for key in keys[:-1]:
            chain.key_up(getattr(self.keys, key))
        chain.perform()

    def colour(self, row, column):
        """What the canvas shows at a place of the image."""
        right, down = self.offset(row, column)
        return self.browser.execute_script(
            "const canvas = document.getElementById('canvas');"
            "const x = canvas.width / 2 + arguments[0], y = canvas.height / 2 + arguments[1];"
            "return Array.from(canvas.getContext('2d').getImageData(x, y, 1, 1).data).slice(0, 3)",
            right,
            down,
        )


@pytest.fixture
def page(chromium, serve):
    """The page; in the end nothing but the server was asked, and only what `page.expected` has was complained about."""
    page = Page(chromium)
    page.expected = []
    for kind in ("browser", "performance"):
        chromium.get_log(kind)
    yield page
    complaints = [entry["message"] for entry in chromium.get_log("browser")]
    assert [line for line in complaints if not any(words in line for words in page.expected)] == []
    events = [json.loads(entry["message"])["message"] for entry in chromium.get_log("performance")]
    urls = [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]
    assert [url for url in urls if not url.startswith(("http://127.0.0.1:", "data:", "blob:", "about:"))] == []
    chromium.execute_script("sessionStorage.clear(); localStorage.clear()")
    chromium.get("about:blank")
    chromium.delete_all_cookies()


@pytest.fixture
def served(serve, folder):
    return serve(folder)
