"""Devices that a run can and cannot be spread over."""

import types

import pytest
import tensorflow as tf

from trainers.distributed.cluster import Cluster
from trainers.distributed.strategy import build_strategy, check_replicas
from trainers.recipes.scenes import ScenesRecipe


@pytest.mark.parametrize(
    "devices, message",
    [
        (("GPU:7",), r"must be of CPU:0.*Received: GPU:7"),
        (("CPU:0", "CPU:0"), "must differ"),
        (("CPU:0", "CPU:1"), "makes no more CPUs"),
    ],
)
def test_devices_that_there_are_not_are_refused_by_name(devices, message):
    tf.constant(0)  # TensorFlow runs, and its devices are settled
    with pytest.raises(ValueError, match=message):
        build_strategy(devices)


def test_devices_are_not_chosen_for_several_workers():
    with pytest.raises(ValueError, match=r"--devices is for one machine.*Received: GPU:0.*CUDA_VISIBLE_DEVICES"):
        build_strategy(("GPU:0",), Cluster(("a:1", "b:1"), 0))


@pytest.mark.skipif(bool(tf.config.list_physical_devices("GPU")), reason="the default on a machine without a GPU")
def test_without_a_gpu_a_run_has_one_replica():
    assert build_strategy(()).num_replicas_in_sync == build_strategy(("CPU:0",)).num_replicas_in_sync == 1


@pytest.mark.parametrize(
    "options, message",
    [
        ({"batch_size": 3}, "at least the number of devices, 4"),
        ({"defense": "atrdh"}, "--defense atrdh trains on one device"),
        ({"inner": "free"}, "--inner free trains on one device"),
        ({"inner": "fgsm-prior"}, "--inner fgsm-prior trains on one device"),
        ({"weight_perturbation": 0.005}, "--weight-perturbation trains on one device"),
    ],
)
def test_what_replicas_cannot_share_is_refused_before_training(options, message):
    recipe = ScenesRecipe(**options)
    check_replicas(recipe, types.SimpleNamespace(num_replicas_in_sync=1))
    with pytest.raises(ValueError, match=message):
        check_replicas(recipe, types.SimpleNamespace(num_replicas_in_sync=4))
