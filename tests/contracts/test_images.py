"""One contract of images, float32 in [0, 1] of the model's size, at every entrance."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from export.litert.conversion import LiteRTEncoder, convert
from export.saved_model import export_saved_model
from saat_tf.attacks import Knowledge, build_attack
from saat_tf.evaluation import filled_bank
from saat_tf.evaluation.attack_runner import attack_runner
from saat_tf.models import HashingModel, PurifiedModel, Purifier

BITS, SIZE = 16, 16
SEED = tf.constant([0, 0])


def images_with(value):
    images = np.random.default_rng(0).random((3, SIZE, SIZE, 3), np.float32)
    images[1, 2, 3, 0] = value
    return images


FAULTY_PIXELS = {
    "NaN": (images_with(np.nan), "NaN or infinite"),
    "infinite": (images_with(-np.inf), "NaN or infinite"),
    "above 1": (images_with(1.01), r"outside of \[0, 1\].*Received: .* to 1.0"),
    "below 0": (images_with(-0.01), r"outside of \[0, 1\].*Received: -0.0"),
    "levels of 0 to 255": (255 * images_with(0.5), r"outside of \[0, 1\].*Divide pixels of 0..255 by 255"),
}
FAULTY_SHAPES = {
    "uint8": np.zeros((1, SIZE, SIZE, 3), np.uint8),
    "another size": np.zeros((1, SIZE + 1, SIZE + 1, 3), np.float32),
    "gray": np.zeros((1, SIZE, SIZE, 1), np.float32),
    "no batch": np.zeros((SIZE, SIZE, 3), np.float32),
    "another size, and empty": np.zeros((0, SIZE + 1, SIZE + 1, 3), np.float32),
}


@pytest.fixture(scope="module")
def encoder():
    keras.utils.set_random_seed(0)
    return HashingModel("small_cnn", BITS, SIZE)


@pytest.fixture(scope="module")
def runners(encoder):
    bank = filled_bank(np.uint8([[1, 2], [3, 4]]), np.eye(2, dtype=np.float32))
    attack = build_attack("mainstay", 8 / 255, Knowledge(bank, bank), num_steps=2)
    return [attack_runner(attack, encoder, early_stop=early_stop) for early_stop in (False, True)]


@pytest.fixture(scope="module")
def litert(encoder, tmp_path_factory):
    file = tmp_path_factory.mktemp("litert") / "encoder.tflite"
    file.write_bytes(convert(encoder, "float32", images_with(0.5)))
    return LiteRTEncoder(file)


@pytest.fixture(scope="module")
def entrances(encoder, runners, litert):
    labels = tf.constant(np.eye(2, dtype=np.float32)[[0, 1, 0]])
    return {
        "encode": encoder.encode,
        "LiteRT": litert.encode,
        "evaluation": lambda images: runners[0](images, labels[: len(images)], SEED),
        "evaluation, stopping early": lambda images: runners[1](images, labels[: len(images)], SEED),
    }


NAMES = ("encode", "LiteRT", "evaluation", "evaluation, stopping early")


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("images", "message"), FAULTY_PIXELS.values(), ids=FAULTY_PIXELS)
def test_faulty_pixels_are_refused_at_every_entrance_in_the_same_words(entrances, name, images, message):
    with pytest.raises(ValueError, match=message):
        entrances[name](images)


@pytest.mark.parametrize("name", ("encode", "LiteRT", "evaluation"))
@pytest.mark.parametrize("images", FAULTY_SHAPES.values(), ids=FAULTY_SHAPES)
def test_another_type_or_shape_is_refused_at_every_entrance_in_the_same_words(entrances, name, images):
    message = rf"floats in \[0, 1\] of shape \(batch, {SIZE}, {SIZE}, 3\)\. Received: {images.dtype} of shape"
    with pytest.raises(ValueError, match=message):
        entrances[name](images)


@pytest.mark.parametrize("images", FAULTY_SHAPES.values(), ids=FAULTY_SHAPES)
def test_a_call_of_the_model_looks_at_type_and_shape(encoder, images):
    with pytest.raises(ValueError, match=r"floats in \[0, 1\] of shape"):
        encoder.logits(tf.constant(images))


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_an_empty_batch_gives_an_empty_result_and_the_next_call_works(entrances, name):
    empty, good = np.zeros((0, SIZE, SIZE, 3), np.float32), images_with(0.5)
    found = [entrances[name](images) for images in (empty, good)]
    if name.startswith("evaluation"):
        found = [images for images, _ in found]
    assert [len(one) for one in found] == [0, 3]
    assert found[0].shape[1:] == found[1].shape[1:] and found[0].dtype == found[1].dtype


def test_a_call_on_an_empty_batch_gives_no_codes(encoder):
    empty = tf.zeros((0, SIZE, SIZE, 3))
    for model in (encoder, PurifiedModel.from_parts(Purifier(), encoder)):
        assert model(empty).shape == model.logits(empty).shape == (0, BITS)


@pytest.mark.slow
def test_an_exported_graph_says_which_images_it_could_not_take(encoder, tmp_path):
    export_saved_model(encoder, tmp_path / "1", card={})
    signatures = tf.saved_model.load(str(tmp_path / "1")).signatures
    good = images_with(0.5)
    codes, logits = encoder.encode(good).numpy(), encoder.logits(good).numpy()
    for images, _ in FAULTY_PIXELS.values():
        expected = [False] * 3 if images.max() > 2 else [True, False, True]
        ok = np.array(expected)[:, None]
        for name, output, value in (("serving_default", "packed_codes", codes), ("encode_logits", "logits", logits)):
            found = signatures[name](images=tf.constant(images))
            assert set(found) == {output, "ok"} and found["ok"].numpy().tolist() == expected
            np.testing.assert_allclose(found[output].numpy(), np.where(ok, value, 0), atol=1e-5)
    for name, output, shape in (("serving_default", "packed_codes", (0, 2)), ("encode_logits", "logits", (0, BITS))):
        found = signatures[name](images=tf.zeros((0, SIZE, SIZE, 3)))
        assert found[output].shape == shape and found["ok"].shape == (0,)
