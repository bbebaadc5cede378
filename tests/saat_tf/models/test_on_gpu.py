"""What only a GPU can show; skipped without one. `python -m benchmarks.gpu` runs these first."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from saat_tf.layers import CodeBank
from saat_tf.losses import DPH
from saat_tf.mainstay import mainstay_codes
from saat_tf.models import SAAT, HashingModel
from saat_tf.random_numbers import fold_in, normal, uniform

HAS_GPU = bool(tf.config.list_physical_devices("GPU"))
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not HAS_GPU, reason="there is no GPU")]
rng = np.random.default_rng(0)
LABELS = (rng.random((16, 5)) < 0.4).astype(np.float32)
BATCH = tuple(map(tf.constant, (rng.random((16, 16, 16, 3), np.float32), LABELS, np.arange(16))))


def loss_on(device, *, jit_compile):
    keras.utils.set_random_seed(0)
    with tf.device(device):
        saat = SAAT(HashingModel("small_cnn", 16, 16), CodeBank.from_labels(LABELS, 16), DPH(), num_steps=1)
        saat.compile(keras.optimizers.SGD(0.01), jit_compile=jit_compile)
        saat.fit(tf.data.Dataset.from_tensors(BATCH), verbose=0)
    return float(saat.get_metrics_result()["loss"])


def test_a_step_on_the_gpu_is_one_on_the_cpu_up_to_rounding():
    expected = loss_on("CPU:0", jit_compile=False)
    for jit_compile in (False, True):
        assert loss_on("GPU:0", jit_compile=jit_compile) == pytest.approx(expected, abs=5e-3)


def test_draws_are_those_of_the_cpu():
    def drawn(device):
        with tf.device(device):
            seed = tf.constant([3, 7], tf.int64)
            return [uniform((33, 5), seed).numpy(), normal((33, 5), seed).numpy(), fold_in(seed, 2).numpy()]

    for one, other in zip(drawn("CPU:0"), drawn("GPU:0"), strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-5)


def test_sums_and_mainstay_codes_are_exact():
    codes = rng.choice(np.float32([-1, 1]), (4000, 32))
    labels = (rng.random((4000, 5)) < 0.4).astype(np.float32)
    with tf.device("GPU:0"):
        bank = CodeBank.from_labels(labels, 32)
        bank.update(tf.range(4000), tf.constant(codes))
        found = SAAT(HashingModel("small_cnn", 32, 16), bank, DPH()).target_codes(tf.constant(labels[:50]))
    with tf.device("CPU:0"):
        expected = mainstay_codes(labels[:50], labels, codes, tf.ones(4000))
    np.testing.assert_array_equal(found, expected)
