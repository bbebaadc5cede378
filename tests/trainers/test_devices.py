"""Devices: those of others are hidden, a card that TensorFlow does not see is told, and steps wait for no device."""

import types

import pytest
import tensorflow as tf
from tensorflow.python.framework import ops

from saat_tf import devices
from saat_tf.devices import confine, device_names, hide_gpus, unseen_cards
from saat_tf.training.checkpointing import Checkpointing
from saat_tf.training.workers import Workers
from trainers.console.output import LOOK_EVERY, FitProgress
from trainers.distributed.strategy import check_replicas
from trainers.recipes.scenes import ScenesRecipe


@pytest.fixture
def three_gpus(monkeypatch):
    """A machine with three GPUs, as far as `tf.config` says; returns what is visible."""
    gpus = [types.SimpleNamespace(name=f"/physical_device:GPU:{i}", device_type="GPU") for i in range(3)]
    visible = list(gpus)

    def show(chosen, kind):
        assert kind == "GPU"
        visible[:] = chosen

    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind=None: gpus)
    monkeypatch.setattr(tf.config, "get_visible_devices", lambda kind=None: list(visible))
    monkeypatch.setattr(tf.config, "set_visible_devices", show)
    return visible


@pytest.mark.parametrize(
    "named, left, called",
    [
        ((), ["0", "1", "2"], []),
        (("GPU:1",), ["1"], ["GPU:0"]),
        (("GPU:2", "GPU:0"), ["0", "2"], ["GPU:1", "GPU:0"]),
        (("CPU:0", "CPU:1"), [], ["CPU:0", "CPU:1"]),
    ],
)
def test_a_process_sees_the_gpus_that_it_was_given_alone(three_gpus, named, left, called):
    assert confine(named) == called
    assert [gpu.name[-1] for gpu in three_gpus] == left


def test_bulk_work_hides_all_gpus(three_gpus):
    hide_gpus()
    assert three_gpus == [] and device_names() == ["CPU"]


def test_a_gpu_that_is_not_there_is_refused_and_so_is_hiding_one_too_late(three_gpus, monkeypatch):
    with pytest.raises(ValueError, match=r"must be of CPU:0, GPU:0, GPU:1, GPU:2. Received: GPU:3"):
        confine(("GPU:3",))

    def too_late(chosen, kind):
        raise RuntimeError("initialized")

    monkeypatch.setattr(tf.config, "set_visible_devices", too_late)
    with pytest.raises(ValueError, match="runs already and cannot hide a GPU"):
        confine(("GPU:1",))


def test_a_card_that_tensorflow_does_not_see_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind=None: [])
    (tmp_path / "0000:65:00.0").mkdir()
    assert "1 NVIDIA card, and" in unseen_cards({}, tmp_path)
    (tmp_path / "0000:66:00.0").mkdir()
    warning = unseen_cards({"CUDA_VISIBLE_DEVICES": "0"}, tmp_path)
    assert "THIS RUNS ON THE CPU" in warning and "2 NVIDIA cards" in warning and "saat-tf[gpu]" in warning
    assert unseen_cards({"CUDA_VISIBLE_DEVICES": "-1"}, tmp_path) is None  # hidden on purpose
    assert unseen_cards({}, tmp_path / "none") is None
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind=None: ["a GPU"])
    assert unseen_cards({}, tmp_path) is None
    assert devices.NVIDIA_CARDS.is_absolute()


def test_xla_is_for_one_device():
    with pytest.raises(ValueError, match="--jit trains on one device"):
        check_replicas(ScenesRecipe(jit=True), types.SimpleNamespace(num_replicas_in_sync=2))


def test_of_an_epochs_losses_every_tenth_step_alone_comes_to_the_host(monkeypatch):
    read = []
    to_host = ops._EagerTensorBase._numpy
    monkeypatch.setattr(ops._EagerTensorBase, "_numpy", lambda tensor: read.append(1) or to_host(tensor))
    training = types.SimpleNamespace(training_state=list, metric_variables=list)
    workers = Workers(tf.distribute.get_strategy())
    checkpointing = Checkpointing(None, training, epoch_steps=96, workers=workers)
    logs = {"loss": tf.constant(1.0), "hashing_loss": tf.constant(2.0)}
    with FitProgress("Training", 96) as progress:
        for step in range(96):
            for callback in (progress, checkpointing):
                callback.on_train_batch_end(step, logs)
    # Of 96 steps, those after 10, 20 ... 90, and the last one.
    assert LOOK_EVERY == 10 and len(read) == 10 * len(logs)
