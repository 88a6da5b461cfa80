"""What several test files share: small discs to learn from, and one model that was trained on them."""

import pytest

from instseg.settings import DiscSettings, ModelSettings, TrainSettings


@pytest.fixture(scope="session")
def tiny_discs():
    """Settings of images of 64 x 64 pixels with a few discs."""
    return DiscSettings(size=64, min_discs=3, max_discs=6)


@pytest.fixture(scope="session")
def tiny_plan():
    """A function that plans a training of a network of some 5,000 weights; options are those of TrainSettings."""
    from instseg.train import Plan

    def plan(iterations, *, loss="overlap", channels=1, **options):
        defaults = {"batch_size": 2, "patch_size": 32, "learning_rate": 1e-2, "warmup": 5, "validation_every": 1000}
        return Plan(
            model=ModelSettings(channels=channels, loss=loss, embeddings=4, widths=(8, 8), diameter=19.0),
            train=TrainSettings(iterations=iterations, averaging=0.9, **(defaults | options)),
        )

    return plan


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory, tiny_plan, tiny_discs):
    """The directory of a model that was trained for 60 iterations on small discs; copy it before you change it."""
    from instseg.data.training import disc_data
    from instseg.train import train

    folder = tmp_path_factory.mktemp("tiny") / "model"
    plan = tiny_plan(60)
    for _ in train(folder, plan, disc_data(plan.train, tiny_discs)):
        pass
    return folder
