"""Other people's models as encoders: what they give and what is refused."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import saat_tf
from export.saved_model import export_saved_model
from saat_tf.attacks import mainstay_attack
from saat_tf.data import RetrievalData, array_split
from saat_tf.evaluation import encode_data, evaluate
from saat_tf.layers import CodeBank
from saat_tf.models import HashingModel, as_encoder

BITS, SIZE = 8, 12
RNG = np.random.default_rng(0)
IMAGES = RNG.random((3, SIZE, SIZE, 3), np.float32)
WEIGHTS = RNG.normal(size=(SIZE * SIZE * 3, BITS)).astype(np.float32)
LOGITS = IMAGES.reshape(3, -1) @ WEIGHTS


def linear(images):
    return tf.reshape(images, (-1, SIZE * SIZE * 3)) @ WEIGHTS


def keras_model():
    model = keras.Sequential([keras.Input((SIZE, SIZE, 3)), keras.layers.Flatten(), keras.layers.Dense(BITS)])
    model.layers[-1].set_weights([WEIGHTS, np.zeros(BITS)])
    return model


def saved(folder):
    module = tf.Module()
    module.weights = tf.Variable(WEIGHTS)
    spec = tf.TensorSpec((None, SIZE, SIZE, 3), tf.float32, name="pixels")

    @tf.function(input_signature=[spec])
    def embed(pixels):
        numbers = tf.reshape(pixels, (-1, SIZE * SIZE * 3)) @ module.weights
        return {"numbers": numbers, "halves": 0.5 * numbers, "codes": tf.cast(numbers > 0, tf.uint8)}

    tf.saved_model.save(module, str(folder), signatures={"embed": embed})
    return folder


@pytest.fixture(scope="module", params=["function", "keras", "folder", "loaded"])
def encoder(request, tmp_path_factory):
    if request.param == "function":
        return as_encoder(linear, image_size=SIZE)
    if request.param == "keras":
        return as_encoder(keras_model())
    folder = saved(tmp_path_factory.mktemp("saved"))
    model = folder if request.param == "folder" else tf.saved_model.load(str(folder))
    return as_encoder(model, signature="embed", output="numbers")


def test_it_puts_the_tanh_on_and_takes_the_sign(encoder):
    assert (encoder.image_size, encoder.code_length) == (SIZE, BITS)
    np.testing.assert_allclose(encoder.logits(IMAGES), LOGITS, rtol=1e-4, atol=1e-5)
    for alpha in (0.1, 1.0):
        np.testing.assert_allclose(encoder(IMAGES, alpha=alpha), np.tanh(alpha * LOGITS), atol=1e-5)
    np.testing.assert_array_equal(encoder.encode(IMAGES)[:, 0], np.packbits(LOGITS >= 0, axis=1)[:, 0])
    assert encoder.encode(IMAGES[:0]).shape == (0, 1) and encoder(IMAGES[:0]).shape == (0, BITS)


def test_an_attack_climbs_on_tanh_of_alpha_z(encoder):
    """One sign step at alpha 0.1 from the image itself, by the slope written out by hand."""
    bank = CodeBank.from_labels(np.eye(3), BITS)
    bank.update([0, 1, 2], encoder(IMAGES))
    attack = mainstay_attack(0.05, bank, num_steps=1, objective="plain")
    goal = attack.goal(encoder, IMAGES, tf.eye(3), (0, 0)).numpy()
    start = attack.threat_model.random_start(tf.constant(IMAGES), (0, 0)).numpy()
    slope = ((1 - np.tanh(0.1 * start.reshape(3, -1) @ WEIGHTS) ** 2) * goal) @ WEIGHTS.T
    moved = start + np.float32(1 / 255) * np.sign(slope).reshape(IMAGES.shape)
    expected = np.clip(np.clip(moved, IMAGES - 0.05, IMAGES + 0.05), 0, 1)
    gain = np.tanh(expected.reshape(3, -1) @ WEIGHTS) * goal - np.tanh(LOGITS) * goal
    expected = np.where((gain.mean(1) > 0)[:, None, None, None], expected, IMAGES)
    np.testing.assert_allclose(attack(encoder, IMAGES, np.eye(3), seed=0), expected, atol=1e-5)


@pytest.mark.slow
def test_it_is_encoded_attacked_and_scored_as_a_model_of_ours(encoder):
    split = array_split(IMAGES, np.float32(np.eye(3)))
    data = RetrievalData("three", ["a", "b", "c"], split, split, split)
    packed = np.packbits(LOGITS >= 0, axis=1)
    np.testing.assert_array_equal(encode_data(encoder, data).test, packed)
    report = evaluate(encoder, data, lambda known: mainstay_attack(0.1, known.train, num_steps=2))
    assert report.clean_map == 1.0 and 0 < report.attacked_map <= 1.0
    np.testing.assert_array_equal(report.query_codes, packed)


@pytest.mark.parametrize("threshold", [2.5, np.median(LOGITS, axis=0) + 0.01], ids=["one", "each"])
def test_codes_of_an_embedding_are_cut_at_the_threshold(threshold):
    found = saat_tf.as_encoder(linear, image_size=SIZE, threshold=threshold)
    np.testing.assert_array_equal(found.encode(IMAGES), np.packbits(LOGITS >= np.float32(threshold), axis=1))
    np.testing.assert_allclose(found(IMAGES, alpha=0.5), np.tanh(0.5 * (LOGITS - threshold)), atol=1e-5)


def test_a_hashing_model_is_an_encoder_already():
    model = HashingModel(keras.Sequential([keras.Input((SIZE, SIZE, 3)), keras.layers.Flatten()]), BITS)
    assert as_encoder(model) is model
    np.testing.assert_allclose(as_encoder(model, threshold=0.5).logits(IMAGES), model.logits(IMAGES) - 0.5, atol=1e-6)


@pytest.mark.slow
def test_an_export_of_ours_is_attacked_by_its_logits(tmp_path):
    model = HashingModel(keras.Sequential([keras.Input((SIZE, SIZE, 3)), keras.layers.Flatten()]), BITS)
    export_saved_model(model, tmp_path / "1", card={})
    with pytest.raises(ValueError, match=r"of serving_default.*another `signature` of .*encode_logits"):
        as_encoder(tmp_path / "1")
    found = as_encoder(tmp_path / "1", signature="encode_logits")
    np.testing.assert_allclose(found(IMAGES, alpha=0.3), model(IMAGES, alpha=0.3), atol=1e-5)


def scaled(images):
    return tf.numpy_function(lambda x: x.reshape(len(x), -1)[:, :BITS], [images], tf.float32)


REFUSED = {
    "a number": (3, {}, "Received: a int"),
    "a function without a size": (linear, {}, r"Received: no `image_size`.*\(height, width\)"),
    "a map": (lambda x: x, {"image_size": SIZE}, r"floats \(batch, bits\). Received: .* of shape \(2, 12, 12, 3\)"),
    "no batch": (lambda x: tf.zeros((1, BITS)), {"image_size": SIZE}, r"shape \(1, 8\) for 2 images"),
    "integers": (lambda x: tf.ones((2, BITS), tf.int32), {"image_size": SIZE}, "int32"),
    "a dict": (lambda x: {"z": linear(x)}, {"image_size": SIZE}, "Received: a dict"),
    "not finite": (lambda x: linear(x) / 0.0, {"image_size": SIZE}, "NaN or infinity"),
    "no gradient": (lambda x: tf.round(linear(x)), {"image_size": SIZE}, "without one. Look for rounding"),
    "a NumPy function": (lambda x: tf.ensure_shape(scaled(x), (2, BITS)), {"image_size": SIZE}, "NumPy function"),
    "codes": (lambda x: tf.sign(linear(x)), {"image_size": SIZE}, "gradient is zero everywhere.*in front of the sign"),
    "another size": (keras_model, {"image_size": 9}, "takes images of 12 x 12 pixels. Received: image_size=9"),
    "thresholds of another length": (linear, {"image_size": SIZE, "threshold": np.zeros(3)}, r"each of the 8 bits"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_an_encoder_is_refused_with_the_remedy(name):
    model, options, message = REFUSED[name]
    with pytest.raises(ValueError, match=message):
        as_encoder(model() if model is keras_model else model, **options)


def test_a_saved_model_is_asked_by_names_that_it_has(tmp_path):
    folder = saved(tmp_path / "saved")
    with pytest.raises(ValueError, match=r"must be one of embed\. Received: 'serving_default'"):
        as_encoder(folder)
    with pytest.raises(ValueError, match=r"chosen by `output`.*codes \(uint8 .*halves \(float32 .*numbers \(float32"):
        as_encoder(folder, signature="embed")
    with pytest.raises(FileNotFoundError, match="no SavedModel"):
        as_encoder(tmp_path / "nothing")


def test_an_evaluation_refuses_a_model_that_drops_alpha():
    split = array_split(IMAGES, np.float32(np.eye(3)))
    with pytest.raises(ValueError, match=r"Sequential \(.*\), which takes no `alpha`. Wrap it: saat_tf.as_encoder"):
        encode_data(keras_model(), RetrievalData("three", ["a", "b", "c"], split, split, split))
