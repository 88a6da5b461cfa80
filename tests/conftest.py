"""What several test files share: small discs to learn from, and one model that was trained on them."""

import json
import shutil

import pytest

from instseg.settings import DiscSettings, ModelSettings, TrainSettings


def pytest_addoption(parser):
    group = parser.getgroup("damaged files")
    group.addoption("--fuzz-mutants", type=int, default=2000, metavar="N", help="how many damaged files to try")
    group.addoption("--fuzz-seed", default="0", metavar="S", help="other damaged files for another seed")


@pytest.fixture(scope="session")
def chromium(tmp_path_factory):
    """A real browser, by Selenium; tests are skipped where there is none."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="pages are tested by Selenium, which is not installed")
    binary, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if binary is None or driver is None:
        pytest.skip("pages are tested in Chromium, which is not here with its driver (apt install chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for name in (
        "headless",
        "no-sandbox",
        "disable-gpu",
        "disable-quic",
        "disable-dev-shm-usage",
        "no-first-run",
        "disable-background-networking",
        "disable-component-update",
        "disable-sync",
        # What moves cannot be clicked.
        "force-prefers-reduced-motion",
        "window-size=1200,900",
    ):
        options.add_argument(f"--{name}")
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('chromium')}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    browser = webdriver.Chrome(options, webdriver.ChromeService(driver))
    # The page that it begins with asks for many files of its own.
    browser.get("about:blank")
    yield browser
    browser.quit()


@pytest.fixture
def open_page(chromium):
    """A function that opens a page; in the end nothing but the page was asked for, and nothing was complained about."""
    opened = []

    def open_page(path):
        for kind in ("browser", "performance"):
            chromium.get_log(kind)
        opened.append(path.resolve().as_uri())
        chromium.get(opened[-1])
        return chromium

    yield open_page
    assert chromium.get_log("browser") == []
    events = [json.loads(entry["message"])["message"] for entry in chromium.get_log("performance")]
    urls = [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]
    assert {url for url in urls if not url.startswith("data:")} <= set(opened)


@pytest.fixture(scope="session")
def tiny_discs():
    """Settings of images of 64 x 64 pixels with a few discs; a training shows more of them."""
    return DiscSettings(size=64, min_discs=2, max_discs=3)


@pytest.fixture(scope="session")
def tiny_plan():
    """A function that plans a training of a network of some 5,000 weights; options are those of TrainSettings."""
    from instseg.models.config import TrainingConfig

    def plan(iterations, *, loss="overlap", channels=1, **options):
        defaults = {"batch_size": 2, "patch_size": 32, "learning_rate": 5e-2, "warmup": 5, "validation_every": 1000}
        return TrainingConfig(
            model=ModelSettings(channels=channels, loss=loss, embeddings=4, widths=(8, 8), diameter=19.0),
            train=TrainSettings(iterations=iterations, averaging=0.9, **(defaults | options)),
        )

    return plan


@pytest.fixture(scope="session")
def tiny_training(tmp_path_factory, tiny_plan, tiny_discs):
    """A training of 60 iterations on small discs: its folder, with `model` and `report`, its plan and its events."""
    from instseg.data.datasets import disc_data
    from instseg.training.events import PhaseStarted
    from instseg.training.loop import iter_training

    folder = tmp_path_factory.mktemp("tiny")
    plan = tiny_plan(60)
    events = iter_training(folder / "model", plan, disc_data(plan.train, tiny_discs), report=folder / "report")
    events = [event for event in events if not isinstance(event, PhaseStarted)]
    return folder, plan, events


@pytest.fixture(scope="session")
def tiny_model(tiny_training):
    """The directory of the model that `tiny_training` left; copy it before you change it."""
    folder, _, _ = tiny_training
    return folder / "model"


@pytest.fixture(scope="session")
def ball_maps():
    """A function that draws balls, and returns their labels and the maps that a good network would give for them.

    As the network's, they are the same for a block of the volume, but for positions, which begin with the block.
    """
    import numpy as np

    from instseg.clustering.embeddings import Embeddings
    from instseg.data.balls import draw_balls
    from instseg.settings import BallSettings

    def ball_maps(seed=0, *, noise=0.5, spacing_z=2.0, depth=24, size=48, balls=12):
        rng = np.random.default_rng(seed)
        settings = BallSettings(depth=depth, size=size, spacing_z=spacing_z, min_balls=balls, max_balls=balls)
        _, labels = draw_balls(rng, settings)
        spacing = (spacing_z, 1.0, 1.0)
        places = np.indices(labels.shape).reshape(3, -1).T * spacing
        flat = labels.ravel()
        area = np.maximum(np.bincount(flat), 1)
        centres = np.stack([np.bincount(flat, column) / area for column in places.T], axis=1)
        radius = np.maximum((0.75 / np.pi * area * spacing_z) ** (1 / 3), 1)
        away = np.linalg.norm(places - centres[flat], axis=1) / radius[flat]
        vectors = centres[flat] + noise * rng.normal(size=places.shape)
        inside = flat > 0
        return labels, Embeddings(
            embeddings=np.where(inside[:, None], vectors, places).reshape(*labels.shape, 3),
            foreground=inside.astype(np.float32).reshape(labels.shape),
            seeds=np.where(inside, np.exp(-(away**2)), 0).reshape(labels.shape),
            bandwidth=np.where(inside, 0.6 * radius[flat], 1.0).reshape(labels.shape),
            spacing=spacing,
        )

    return ball_maps
