"""A finished run on drawn scenes, made once by its command line for all who look at it or attack a copy of it."""

import pytest

from tests.trainers.commands import SMALL, run


@pytest.fixture(scope="session")
def scenes_run(tmp_path_factory):
    """The folder of a run of 96 training images and 10 queries, and what the run printed."""
    run_dir = tmp_path_factory.mktemp("runs") / "scenes"
    done = run("trainers.scenes", "--run-dir", run_dir, "--num-train", 96, "--num-queries", 10, *SMALL)
    assert done.returncode == 0, done.stderr
    return run_dir, done.stdout
