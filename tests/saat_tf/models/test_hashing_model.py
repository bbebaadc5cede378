"""The encoder: codes, relaxed codes, saving."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras.src.applications import convnext, efficientnet

from saat_tf.backbones import vgg
from saat_tf.models import HashingModel


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    return HashingModel("small_cnn", code_length=24, image_size=32)


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).random((5, 32, 32, 3), np.float32)


def test_encode_packs_the_signs_of_the_logits(model, images):
    expected = np.packbits(model.logits(images).numpy() >= 0, axis=1)
    np.testing.assert_array_equal(model.encode(images).numpy(), expected)


@pytest.mark.parametrize("alpha", [0.1, 1.0, 5.0])
def test_relaxed_codes_are_the_tanh_of_alpha_times_the_logits(model, images, alpha):
    expected = np.tanh(alpha * model.logits(images).numpy())
    np.testing.assert_allclose(model(images, alpha=alpha).numpy(), expected, atol=1e-5)


def test_pixels_are_normalized_inside_the_model(model, images):
    by_hand = model.backbone((images - 0.5) / 0.25)
    np.testing.assert_allclose(model.logits(images), model.hash_head.logits(by_hand), atol=1e-4)


def test_networks_that_expect_blue_first_get_it():
    model = HashingModel("VGG16", code_length=8, image_size=32)
    images = np.random.default_rng(0).random((2, 32, 32, 3), np.float32)
    by_hand = model.backbone(255 * images[..., ::-1] - np.float32([103.939, 116.779, 123.68]))
    np.testing.assert_allclose(model.logits(images), model.hash_head.logits(by_hand), atol=1e-4)


def test_inference_changes_no_variable(model, images):
    before = [variable.numpy() for variable in model.variables]
    model(images)
    model.encode(images)
    for variable, value in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)


@pytest.mark.slow
@pytest.mark.parametrize(("backbone", "image_size"), [("small_cnn", 32), ("alexnet", 64), ("efficientnet_lite0", 32)])
def test_a_saved_model_gives_the_same_codes(tmp_path, backbone, image_size):
    model = HashingModel(backbone, code_length=16, image_size=image_size)
    images = np.random.default_rng(1).random((3, image_size, image_size, 3), np.float32)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    np.testing.assert_array_equal(loaded.encode(images), model.encode(images))
    np.testing.assert_array_equal(loaded.logits(images), model.logits(images))


@pytest.mark.slow
@pytest.mark.parametrize(
    "backbone", ["vgg11_bn", "resnet18", "VGG16", "EfficientNetB0", "MobileNetV3Small", "convnext_tiny"]
)
def test_a_saved_model_of_every_family_gives_the_same_logits(tmp_path, backbone, monkeypatch):
    monkeypatch.setattr(vgg, "DENSE_FEATURES", 64)  # 480 MB less to write
    monkeypatch.setitem(convnext.MODEL_CONFIGS["tiny"], "depths", [1, 1, 1, 1])
    monkeypatch.setattr(efficientnet, "DEFAULT_BLOCKS_ARGS", efficientnet.DEFAULT_BLOCKS_ARGS[:2])
    model = HashingModel(backbone, code_length=16, image_size=32)
    images = np.random.default_rng(1).random((2, 32, 32, 3), np.float32)
    expected = model.logits(images).numpy()
    assert len(np.unique(expected)) > 16  # not the same for both images
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    np.testing.assert_array_equal(loaded.logits(images), expected)


def test_uint8_images_are_refused_with_the_remedy(model):
    with pytest.raises(ValueError, match=r"uint8.*Divide uint8 pixels by 255"):
        model.encode(np.zeros((1, 32, 32, 3), np.uint8))


def test_images_of_another_size_are_refused(model):
    with pytest.raises(ValueError, match="32, 32, 3"):
        model.encode(tf.zeros((1, 31, 32, 3)))


def test_an_unknown_backbone_is_refused_with_the_names():
    with pytest.raises(ValueError, match="small_cnn"):
        HashingModel("resnet1", code_length=16, image_size=32)


def test_codes_that_fill_no_whole_bytes_train_but_do_not_pack():
    model = HashingModel("small_cnn", code_length=12, image_size=16)
    images = tf.zeros((1, 16, 16, 3))
    assert model(images).shape == (1, 12)
    with pytest.raises(ValueError, match="multiple of 8"):
        model.encode(images)
