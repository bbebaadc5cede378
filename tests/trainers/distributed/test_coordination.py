"""Runs of two processes, which find each other by TF_CONFIG or SLURM's variables, beside a run of one."""

import json
import signal

import numpy as np
import pytest
import tensorflow as tf

from saat_tf.training.workers import Workers
from tests.stress.kill_resume import KILLED, Runs
from tests.trainers.addresses import free_addresses, is_free
from trainers.distributed.cluster import FIRST_PORT, JOBS, PORTS_A_JOB, Cluster
from trainers.distributed.coordination import lost_worker
from trainers.recipes.scenes import ScenesRecipe

# 43 images, and 4 held out, in batches of 8: the last has 3, of which one worker takes 1 and the other 2. Checkpoints
# every 2 steps.
OPTIONS = {
    "num_train": 47, "held_out_queries": 4, "hashing_loss": "dph", "optimizer": "sgd", "pretrain_learning_rate": 0.05,
    "learning_rate": 0.05, "epochs": 1, "worker_timeout": 100.0,
}  # fmt: skip
METRICS = {"hashing": 2, "saat": 8}  # a sum and a count for each loss: the last arrays of a checkpoint


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return Runs(tmp_path_factory.mktemp("runs"))


def by_tf_config():
    addresses = free_addresses(2)
    return [
        {"TF_CONFIG": json.dumps({"cluster": {"worker": addresses}, "task": {"type": "worker", "index": i}})}
        for i in range(2)
    ]


def by_slurm():
    job = next(j for j in range(JOBS) if all(is_free(FIRST_PORT + PORTS_A_JOB * j + i) for i in range(2)))
    step = {"SLURM_JOB_ID": job, "SLURM_STEP_NUM_TASKS": 2, "SLURM_STEP_NODELIST": "localhost"}
    step |= {"SLURM_STEP_TASKS_PER_NODE": 2, "SLURMD_NODENAME": "localhost"}
    return [{name: str(v) for name, v in {**step, "SLURM_PROCID": i, "SLURM_LOCALID": i}.items()} for i in range(2)]


def together(runs, name, struck_at=(None, None), by=signal.SIGKILL, environments=None, kill_rest=False):
    """Run two workers, `name` the chief and `name`-1 the other, with folders of their own; return the exit codes."""
    processes = [
        runs.start(name + "-1" * i, struck_at[i], by, environment, **OPTIONS)
        for i, environment in enumerate(environments or by_tf_config())
    ]
    for process in processes:
        process.join(240)
        if process.exitcode is None or kill_rest:
            for each in processes:
                each.kill()  # which does nothing to one that has ended
    return [process.exitcode for process in processes]


def arrays(runs, name):
    newest = sorted((runs.folder / name / "checkpoints").glob("[0-9]*"))[-1]
    with np.load(newest / "arrays.npz") as stored:
        state = [stored[key] for key in sorted(stored.files)]
    position = json.loads((newest / "facts.json").read_text())["position"]
    count = METRICS[position["phase"]]
    return position, state[:-count], state[-count:]


@pytest.fixture(scope="module")
def whole(runs):
    """A run of two workers that nothing stopped."""
    assert together(runs, "whole") == [0, 0], runs.said("whole") + runs.said("whole-1")
    return arrays(runs, "whole")


@pytest.mark.slow
def test_two_workers_train_to_the_weights_and_the_bank_of_one(runs, whole):
    # Without the probe, which trains nothing, and up to the pictures of what it has trained.
    assert runs.run("alone", ("plot_maps", 0), **OPTIONS, probe_images=0) == KILLED
    position, state, metrics = whole
    alone_position, alone_state, alone_metrics = arrays(runs, "alone")
    assert position == alone_position == {"phase": "saat", "epoch": 1, "step": 0, "steps": 6}
    for one, other in zip(alone_state + alone_metrics, state + metrics, strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-3, atol=1e-4)
    assert len(runs.states("whole")) == len(set(runs.states("whole"))) == 9  # they train, and
    assert runs.states("whole") == runs.states("whole-1")  # to the bit, the same in both


@pytest.mark.slow
def test_only_the_chief_writes(runs, whole):
    alone = {path.name for path in (runs.folder / "whole").iterdir()}
    assert {"card.json", "hashing.keras", "robust.keras", "logs", "checkpoints", "maps.png"} <= alone
    assert sorted(path.name for path in runs.folder.iterdir() if "whole" in path.name) == ["whole"]
    assert [path.name for path in (runs.folder / "whole").rglob(".*")] == [".lock"]  # and no temporary file is left


@pytest.mark.slow
def test_workers_that_are_interrupted_killed_and_lost_go_on_to_the_same_bits(runs, whole):
    # Ctrl-C at one worker, in its third step, ends both after the same step, with a checkpoint. Several workers tell
    # each other of signals every ten steps and where a checkpoint is due, which is every two steps here.
    step = "on_train_batch_end"
    assert together(runs, "cut", (None, (step, 2)), signal.SIGINT) == [130, 130]
    assert "--resume --run-dir" in runs.said("cut") and "--resume --run-dir" in runs.said("cut-1")
    assert arrays(runs, "cut")[0] == {"phase": "hashing", "epoch": 0, "step": 4, "steps": 4}
    # Both are killed, the chief as it puts a checkpoint in its place, the other when that has happened.
    chief, other = together(runs, "cut", (("replace", 2), None), kill_rest=True)
    assert chief == KILLED and other in (KILLED, 1)
    # One is killed in the middle of an epoch: the other ends by itself, and tells which.
    assert together(runs, "cut", (None, (step, 5))) == [1, KILLED]
    assert "error: worker 1 at localhost:" in runs.said("cut") and "is gone" in runs.said("cut")
    # The rest under SLURM.
    assert together(runs, "cut", environments=by_slurm()) == [0, 0]
    position, state, metrics = arrays(runs, "cut")
    assert position == whole[0]
    for one, other in zip(whole[1], state, strict=True):
        np.testing.assert_array_equal(other, one)
    # Means that were cut off are dealt out anew to the workers, and add up in another order.
    np.testing.assert_allclose(np.stack(metrics), np.stack(whole[2]), rtol=1e-6)
    assert together(runs, "cut") == [0, 0]  # it is finished, as both learn


@pytest.mark.slow
def test_a_wrong_address_ends_a_worker_within_a_minute_with_the_address(runs):
    right, wrong = free_addresses(2)
    cluster = {"cluster": {"worker": [right, wrong]}, "task": {"type": "worker", "index": 0}}
    environment = {"TF_CONFIG": json.dumps(cluster)}
    process = runs.start("lonely", environment=environment, worker_timeout=1.0)
    process.join(60)
    assert process.exitcode == 2 and "error: 1 of 1 other workers are not there after 1 seconds" in runs.said("lonely")
    assert f"worker 1 at {wrong} cannot be reached" in runs.said("lonely") and not (runs.folder / "lonely").exists()
    assert ScenesRecipe().worker_timeout <= 45  # and some seconds for Python to start


@pytest.fixture
def chief():
    """The chief of two, of whom the other adds nothing."""
    workers = Workers(tf.distribute.get_strategy())
    workers.count, workers._added = 2, lambda mine: np.asarray(mine, np.float32)
    return workers


def test_what_the_chief_sends_arrives_bit_for_bit(chief):
    arrays = [
        np.array([np.nan, -0.0, np.inf, 1e-45, 1 / 3], np.float32),
        np.array([[-1, 2**62 + 1]], np.int64),
        np.array([True, False, True]),
        np.array(7, np.uint32),
    ]
    for sent, came in zip(arrays, chief.from_chief(arrays), strict=True):
        assert (came.dtype, came.shape, came.tobytes()) == (sent.dtype, sent.shape, sent.tobytes())
    chief.is_chief = False
    assert not any(came.any() for came in chief.from_chief(arrays))


def test_flags_and_data_are_compared(chief):
    assert chief.any(True, False) == [True, False]
    chief.check_same("00ff")
    chief.is_chief = False  # and the chief's data has the digest 0000
    chief.check_same("0000")
    with pytest.raises(ValueError, match=r"same data.*Received here: SHA-256 00ff, at the chief 0000"):
        chief.check_same("00ff")


@pytest.mark.parametrize(
    "kind, text, expected",
    [
        (
            tf.errors.UnavailableError,
            "Graph execution error:\nCollective ops is aborted by: Socket closed\nfrom /job:worker/replica:0/task:1",
            "worker 1 at b:1 is gone (Socket closed). Its messages tell why",
        ),
        (tf.errors.UnavailableError, "Connection reset, /job:worker/task:1", "worker 1 at b:1 is gone. Its messages"),
        (tf.errors.InternalError, "Collective ops is aborted by: timeout", "another worker is gone (timeout)"),
        (tf.errors.InternalError, "a kernel failed on /job:worker/task:0", None),
        (tf.errors.ResourceExhaustedError, "out of memory at /job:worker/task:1", None),
    ],
)
def test_a_worker_that_is_gone_is_told_from_other_errors(kind, text, expected):
    found = lost_worker(kind(None, None, text), Cluster(("a:1", "b:1"), 0))
    assert found is None if expected is None else found.startswith(expected)
    assert lost_worker(kind(None, None, text), None) is None
