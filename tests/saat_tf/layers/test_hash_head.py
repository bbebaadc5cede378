"""The last layer of a hashing model."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from saat_tf.layers import HashHead


@pytest.fixture(scope="module")
def head():
    keras.utils.set_random_seed(0)
    head = HashHead(12)
    head.build((None, 5))
    head.projection.bias.assign(np.linspace(-1, 1, 12, dtype=np.float32))
    return head


@pytest.fixture(scope="module")
def features():
    return np.random.default_rng(0).normal(size=(7, 5)).astype(np.float32)


def logits_by_hand(head, features):
    kernel, bias = (weight.numpy().astype(np.float64) for weight in head.weights)
    return features.astype(np.float64) @ kernel + bias


def test_logits_are_an_affine_map_of_the_features(head, features):
    assert [weight.shape for weight in head.weights] == [(5, 12), (12,)]
    np.testing.assert_allclose(head.logits(features).numpy(), logits_by_hand(head, features), atol=1e-5)


@pytest.mark.parametrize("alpha", [0.1, 0.5, 1.0, 7.0])
def test_relaxed_codes_are_the_tanh_of_alpha_times_the_logits_eagerly_and_in_a_graph(head, features, alpha):
    expected = np.tanh(alpha * logits_by_hand(head, features))
    run = tf.function(lambda x, a: head(x, alpha=a), input_signature=[tf.TensorSpec([None, 5]), tf.TensorSpec([])])
    np.testing.assert_allclose(head(features, alpha=alpha).numpy(), expected, atol=1e-5)
    np.testing.assert_allclose(run(features, alpha).numpy(), expected, atol=1e-5)


def test_alpha_is_one_unless_given(head, features):
    np.testing.assert_array_equal(head(features).numpy(), head(features, alpha=1.0).numpy())


def test_alpha_changes_no_sign_and_no_weight(head, features):
    before = [weight.numpy() for weight in head.weights]
    signs = [head(features, alpha=alpha).numpy() >= 0 for alpha in (0.1, 1.0, 5.0)]
    for other in signs:
        np.testing.assert_array_equal(other, logits_by_hand(head, features) >= 0)
    for weight, value in zip(head.weights, before, strict=True):
        np.testing.assert_array_equal(weight.numpy(), value)


@pytest.mark.parametrize("code_length", [0, -8])
def test_a_head_without_bits_is_refused(code_length):
    with pytest.raises(ValueError, match=f"at least 1 bit. Received: {code_length}"):
        HashHead(code_length)


def test_it_comes_back_from_its_configuration_with_its_weights(head, features):
    other = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(head))
    assert type(other) is HashHead
    assert other.code_length == 12
    other.set_weights(head.get_weights())
    np.testing.assert_array_equal(other(features).numpy(), head(features).numpy())
