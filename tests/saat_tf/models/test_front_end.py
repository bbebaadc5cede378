"""Pooling and noise in front of a model, and its stages."""

import numpy as np
import pytest
import tensorflow as tf

from saat_tf.models import HashingModel, PurifiedModel, Purifier

IMAGES = np.random.default_rng(0).random((2, 32, 32, 3), np.float32)


@pytest.fixture(scope="module")
def pooled():
    return HashingModel("small_cnn", 8, 32, pooling=2, noise=0.5, orthogonal_head=True)


def test_the_backbone_sees_means_of_squares_of_pixels(pooled):
    assert pooled.backbone.input_shape == (None, 16, 16, 3)
    means = IMAGES.reshape(2, 16, 2, 16, 2, 3).mean(axis=(2, 4))
    np.testing.assert_allclose(pooled.reduced(IMAGES), means, atol=1e-6)
    np.testing.assert_allclose(pooled.logits(tf.constant(IMAGES)), pooled.reduced_logits(means), atol=1e-5)
    np.testing.assert_allclose(
        pooled.for_inference().logits(tf.constant(IMAGES)), pooled.reduced_logits(means), atol=1e-5
    )


def test_noise_acts_in_training_alone(pooled):
    images = tf.constant(IMAGES)
    assert (pooled(images, training=False).numpy() == pooled(images, training=False).numpy()).all()
    assert (pooled.features(images, training=True).numpy() != pooled.features(images, training=True).numpy()).any()


def test_a_copy_and_a_purified_model_have_the_same_front_end(pooled):
    copy = HashingModel.from_config(pooled.get_config())
    purified = PurifiedModel.from_parts(Purifier(), pooled)
    for other in (copy, purified):
        assert (other.pooling_side, other.noise.stddev, other.hash_head.orthogonal) == (2, 0.5, True)
    names = [layer.name for layer in pooled.stages()]
    assert names == ["pooling", "noise", "pixel_normalization", "small_cnn", "hash_head"]
    assert [layer.name for layer in purified.stages()] == ["purifier", *names]
    plain = HashingModel("small_cnn", 8, 16)
    assert [layer.name for layer in plain.stages()] == names[1:]
    assert plain.reduced(IMAGES) is IMAGES


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pooling": 3}, "`pooling` must be at least 1 and divide the image size. Received: 3 for 32"),
        ({"pooling": 0}, "`pooling` must be at least 1"),
        ({"noise": -0.1}, "`noise` must be in"),
        ({"noise": float("nan")}, "`noise` must be in"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        HashingModel("small_cnn", 8, 32, **options)
