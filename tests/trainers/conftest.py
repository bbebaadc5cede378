"""Finished runs on drawn scenes, made once for all who look at them or attack a copy of them."""

import pytest

from tests.small_graphs import flat_backbone, small_graphs
from tests.trainers.commands import SMALL, run
from trainers.recipes import scenes
from trainers.recipes.scenes import ScenesRecipe
from trainers.runs.run import main


@pytest.fixture(scope="session")
def scenes_run(tmp_path_factory):
    """The folder of a run of 96 training images and 10 queries, and what the run printed."""
    run_dir = tmp_path_factory.mktemp("runs") / "scenes"
    done = run("trainers.scenes", "--run-dir", run_dir, "--num-train", 96, "--num-queries", 10, *SMALL)
    assert done.returncode == 0, done.stderr
    return run_dir, done.stdout


@pytest.fixture(scope="session")
def made_tiny_run(tmp_path_factory):
    """The folder of a run as `scenes_run`, of encoders of one convolution."""
    run_dir = tmp_path_factory.mktemp("runs") / "tiny"
    small = {"bits": 16, "pretrain_epochs": 2, "epochs": 1, "num_steps": 2, "attack_steps": 3}
    recipe = ScenesRecipe(run_dir=run_dir, num_train=96, num_queries=10, **small)
    with small_graphs(flat_backbone):
        assert main(recipe, "scenes", lambda: scenes.load(recipe)) == 0
    return run_dir


@pytest.fixture
def tiny_run(made_tiny_run):
    """The folder of a run of one convolution, for tests that are the same on any network, and what it needs to load."""
    with small_graphs(flat_backbone):
        yield made_tiny_run
