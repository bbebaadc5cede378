"""Orthogonal kernels against SVD, sorting against NumPy, noise against its distribution."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from saat_tf.layers import GaussianNoise, HashHead, MaxMin, Orthogonal


@pytest.mark.parametrize("shape", [(20, 6), (6, 20), (2, 2, 3, 8), (8, 8)])
def test_the_nearest_orthogonal_kernel_is_the_polar_factor(shape):
    near = keras.initializers.Orthogonal(seed=0)(shape) + 0.02 * np.random.default_rng(0).normal(size=shape)
    left, _, right = np.linalg.svd(np.reshape(near, (-1, shape[-1])), full_matrices=False)
    kernel = Orthogonal()(tf.cast(near, tf.float32)).numpy()
    np.testing.assert_allclose(kernel.reshape(-1, shape[-1]), left @ right, atol=1e-5)


def test_norms_are_at_most_one_from_anywhere():
    for seed, scale in enumerate((1e-3, 1.0, 1e3)):
        value = scale * np.random.default_rng(seed).normal(size=(3, 3, 4, 10)).astype(np.float32)
        kernel = Orthogonal()(value).numpy().reshape(-1, 10)
        assert np.linalg.norm(kernel, 2) <= 1 + 1e-5
    assert not Orthogonal()(tf.zeros((4, 2))).numpy().any()


def test_an_optimizer_keeps_the_head_orthogonal():
    head = HashHead(4, orthogonal=True)
    head.build((None, 6))
    features = np.random.default_rng(0).normal(size=(8, 6)).astype(np.float32)
    optimizer = keras.optimizers.SGD(1.0)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(head(features) ** 2)
    before = head.projection.kernel.numpy()
    optimizer.apply(tape.gradient(loss, head.trainable_variables), head.trainable_variables)
    kernel = head.projection.kernel.numpy()
    assert np.abs(kernel - before).max() > 0.01
    np.testing.assert_allclose(kernel.T @ kernel, np.eye(4), atol=1e-4)
    copy = HashHead.from_config(head.get_config())
    assert copy.orthogonal and isinstance(copy.projection.kernel_constraint, Orthogonal)


def test_pairs_are_sorted_and_lengths_kept():
    x = np.random.default_rng(0).normal(size=(5, 3, 8)).astype(np.float32)
    y = MaxMin()(x).numpy()
    np.testing.assert_array_equal(np.stack([y[..., 4:], y[..., :4]]), np.sort(np.stack([x[..., :4], x[..., 4:]]), 0))
    with pytest.raises(ValueError, match="Received: 3 channels"):
        MaxMin()(tf.zeros((1, 3)))


def test_noise_is_normal_in_training_and_absent_otherwise():
    layer = GaussianNoise(0.25, seed=1)
    noise = [layer(tf.zeros((100, 100)), training=True).numpy() for _ in range(2)]
    assert noise[0].std() == pytest.approx(0.25, rel=0.03)
    assert abs(noise[0].mean()) < 0.01
    assert (noise[0] != noise[1]).any()
    assert not layer(tf.zeros((3, 3)), training=False).numpy().any()
