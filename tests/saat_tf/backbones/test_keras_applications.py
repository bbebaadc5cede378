"""Models of keras.applications as backbones: their own scaling of pixels, their weights, their sizes."""

import inspect
import socket
import sys

import keras
import numpy as np
import pytest

from saat_tf.backbones import BACKBONES, backbone_spec, keras_applications, load_pretrained_weights
from saat_tf.backbones.keras_applications import KERAS_APPLICATIONS
from saat_tf.layers import PixelNormalization

SCALE_THEMSELVES = ("ConvNeXt", "EfficientNet", "MobileNetV3")


def normalization(name):
    spec = backbone_spec(name)
    return PixelNormalization(spec.mean, spec.std, spec.channel_order)


def module_of(name):
    return sys.modules[getattr(keras.applications, name).__module__]


@pytest.fixture
def pixels():
    return np.random.default_rng(0).random((2, 32, 32, 3), np.float32)


def test_every_model_of_keras_is_there():
    models = {name for name, value in vars(keras.applications).items() if inspect.isfunction(value)}
    assert set(KERAS_APPLICATIONS) == models
    assert models < set(BACKBONES)


@pytest.mark.parametrize("name", [name for name in KERAS_APPLICATIONS if not name.startswith(SCALE_THEMSELVES)])
def test_pixels_are_scaled_as_by_the_models_own_function(name, pixels):
    expected = module_of(name).preprocess_input(255 * pixels)
    scaled = normalization(name)(pixels).numpy()
    np.testing.assert_allclose(scaled, expected, rtol=1e-5, atol=1e-4 if np.abs(expected).max() > 10 else 1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["MobileNetV3Small", "EfficientNetV2B0", "EfficientNetV2S", "ConvNeXtTiny"])
def test_pixels_are_scaled_as_by_the_models_own_layers(name, pixels, monkeypatch):
    """The layers in front of the first convolution, run by themselves; of what is behind them, little is built."""
    blocks = getattr(module_of(name), "DEFAULT_BLOCKS_ARGS", {})
    for model in [model for model in blocks if model.startswith("efficientnetv2")]:
        monkeypatch.setitem(blocks, model, blocks[model][:1])
    model = getattr(keras.applications, name)(include_top=False, weights=None, input_shape=(32, 32, 3))
    x = keras.ops.convert_to_tensor(255 * pixels)
    for layer in model.layers[1:]:
        if not isinstance(layer, (keras.layers.Rescaling, keras.layers.Normalization)):
            break
        x = layer(x)
    np.testing.assert_allclose(normalization(name)(pixels), x, atol=1e-5)


def saved_weights(name, path):
    """Random weights as in Keras' file for `name`; EfficientNet's holds mean and deviation of pixels too."""
    keras.utils.set_random_seed(0)
    model = getattr(keras.applications, name)(include_top=False, weights=None, input_shape=(32, 32, 3), pooling="avg")
    random = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([random.uniform(0.5, 1.5, value.shape) for value in layer.get_weights()])
        elif isinstance(layer, keras.layers.Normalization) and layer.weights:
            layer.set_weights([np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225]), np.int64(0)])
    model.save_weights(path)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["VGG16", "EfficientNetB0"])
def test_pretrained_features_are_those_of_keras(name, pixels, tmp_path, monkeypatch):
    path = tmp_path / "file.weights.h5"
    if name == "EfficientNetB0":
        monkeypatch.setattr(module_of(name), "DEFAULT_BLOCKS_ARGS", module_of(name).DEFAULT_BLOCKS_ARGS[:2])
    saved_weights(name, path)
    monkeypatch.setattr(module_of(name).file_utils, "get_file", lambda *_, **__: str(path))
    theirs = getattr(keras.applications, name)(include_top=False, input_shape=(32, 32, 3), pooling="avg")
    expected = theirs(module_of(name).preprocess_input(255 * pixels)).numpy()
    backbone = BACKBONES[name].build(32)
    load_pretrained_weights(backbone, name)
    features = backbone(normalization(name)(pixels)).numpy()
    assert expected.std() > 1e-3
    np.testing.assert_allclose(features, expected, rtol=1e-3, atol=1e-4 * expected.std())


@pytest.mark.slow
def test_a_download_that_fails_says_so_and_waits_no_longer_than_seconds(monkeypatch):
    waited = []

    def get_file(*_, **__):
        waited.append(socket.getdefaulttimeout())
        raise Exception("URL fetch failed on https://example.org/file.h5: None -- Network is unreachable")

    backbone = BACKBONES["MobileNetV2"].build(32)
    before = [value.copy() for value in backbone.get_weights()]
    monkeypatch.setattr(module_of("MobileNetV2").file_utils, "get_file", get_file)
    with pytest.raises(ConnectionError, match=r"weights of MobileNetV2.*Network is unreachable.*\.keras/models"):
        load_pretrained_weights(backbone, "MobileNetV2")
    assert waited == [keras_applications.CONNECTION_TIMEOUT] and 0 < waited[0] <= 10
    assert socket.getdefaulttimeout() is None
    for old, new in zip(before, backbone.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize(("name", "size"), [("mobilenet_v3", 31), ("InceptionV3", 74), ("VGG19", 16)])
def test_images_that_are_too_small_are_refused(name, size):
    with pytest.raises(ValueError, match=rf"images of {size} pixels. Received: image_size={size}.*Use larger images"):
        BACKBONES[name].build(size)


def test_unknown_names_are_refused_with_all_choices():
    with pytest.raises(ValueError, match=r"Received: 'resnet1'") as refusal:
        backbone_spec("resnet1")
    words = str(refusal.value).replace(",", " ").replace(".", " ").split()
    assert not [name for name in BACKBONES if name not in words]


@pytest.mark.parametrize("name", ["alexnet", "vgg16", "small_cnn"])
def test_backbones_without_weights_to_fetch_say_where_weights_are(name):
    with pytest.raises(ValueError, match=rf"no pretrained weights of {name} .*a file.*efficientnet_lite0.*ResNet50"):
        load_pretrained_weights(None, name)
