"""The models of keras.applications as backbones, each with its own scaling of pixels in front."""

import contextlib
import functools
import socket
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import keras
import numpy as np
from keras import applications

from saat_tf.backbones.convert import load_state_dict, state_dict_of
from saat_tf.backbones.spec import IMAGENET_MEAN, IMAGENET_STD, BackboneSpec
from saat_tf.images import ImageSize, image_shape
from saat_tf.layers import BatchNormalization, Dropout

CONNECTION_TIMEOUT = 10.0  # seconds
# The weights are the same for images of any size; at this one Keras does not warn that it has no others.
PRETRAINED_SIZE = 224

# What the models' own preprocess_input does to pixels 255 x: its modes "tf", "torch" and "caffe", which is blue first.
TF = {"mean": (0.5,) * 3, "std": (0.5,) * 3}
TORCH = {"mean": IMAGENET_MEAN, "std": IMAGENET_STD}
CAFFE = {
    "mean": (123.68 / 255, 116.779 / 255, 103.939 / 255),
    "std": (1 / 255,) * 3,
    "channel_order": "bgr",
}
# 255 x / 128 - 1
SIGNED_BYTE = {"mean": (128 / 255,) * 3, "std": (128 / 255,) * 3}
# EfficientNet divides by 255 itself, always.
TORCH_TIMES_255 = {"mean": IMAGENET_MEAN, "std": tuple(std / 255 for std in IMAGENET_STD)}
WITHOUT_SCALING = {"include_preprocessing": False}


class _Family(NamedTuple):
    pixels: dict
    options: dict
    models: tuple[Callable[..., keras.Model], ...]


FAMILIES = (
    _Family(
        CAFFE,
        {},
        (applications.VGG16, applications.VGG19,
         applications.ResNet50, applications.ResNet101, applications.ResNet152),
    ),
    _Family(
        TF,
        {},
        (applications.ResNet50V2, applications.ResNet101V2, applications.ResNet152V2,
         applications.InceptionV3, applications.InceptionResNetV2, applications.Xception,
         applications.MobileNet, applications.MobileNetV2, applications.NASNetMobile, applications.NASNetLarge),
    ),
    _Family(TF, WITHOUT_SCALING, (applications.MobileNetV3Small, applications.MobileNetV3Large)),
    _Family(TORCH, {}, (applications.DenseNet121, applications.DenseNet169, applications.DenseNet201)),
    _Family(
        TORCH,
        WITHOUT_SCALING,
        (applications.ConvNeXtTiny, applications.ConvNeXtSmall, applications.ConvNeXtBase,
         applications.ConvNeXtLarge, applications.ConvNeXtXLarge,
         applications.EfficientNetV2B0, applications.EfficientNetV2B1,
         applications.EfficientNetV2B2, applications.EfficientNetV2B3),
    ),
    _Family(
        SIGNED_BYTE,
        WITHOUT_SCALING,
        (applications.EfficientNetV2S, applications.EfficientNetV2M, applications.EfficientNetV2L),
    ),
    _Family(
        TORCH_TIMES_255,
        {},
        (applications.EfficientNetB0, applications.EfficientNetB1, applications.EfficientNetB2,
         applications.EfficientNetB3, applications.EfficientNetB4, applications.EfficientNetB5,
         applications.EfficientNetB6, applications.EfficientNetB7),
    ),
)  # fmt: skip


def keras_application(image_size: ImageSize, *, model: Callable[..., keras.Model], options: dict) -> keras.Model:
    """Build a model of keras.applications without its classifier and without its own scaling of pixels.

    Args:
        image_size: side of the square input in pixels, or (height, width); each model has a least side of its own.
        model: a function of keras.applications.
        options: further arguments of that function.

    Returns:
        Model from scaled images (B, S, S, 3) to pooled features (B, F), with random weights.

    Raises:
        ValueError: the model cannot take images of that size.

    Example:
        >>> keras_application(32, model=applications.MobileNetV2, options={}).output_shape
        (None, 1280)
    """
    try:
        return _build(image_size, model, options, weights=None)
    except ValueError as error:
        raise ValueError(
            f"{model.__name__} cannot be built for images of {image_size} pixels. Received: "
            f"image_size={image_size}; Keras says: {error} Use larger images or another backbone."
        ) from error


def load_pretrained(backbone: keras.Model, *, model: Callable[..., keras.Model], options: dict) -> None:
    """Give a backbone the ImageNet weights that keras.applications downloads, once, into `~/.keras/models`.

    Args:
        backbone: what `keras_application` built.
        model: the same.
        options: the same.

    Raises:
        ConnectionError: the weights are not there yet and cannot be downloaded.
    """
    try:
        with _socket_timeout(CONNECTION_TIMEOUT):
            donor = _build(PRETRAINED_SIZE, model, options, weights="imagenet")
    except Exception as error:  # Keras raises plain exceptions where a download fails
        raise ConnectionError(
            f"Pretrained weights of {model.__name__} are downloaded by Keras. Received: {error}. Run again with a "
            "connection to the internet, or bring the file from another machine into the folder ~/.keras/models "
            "($KERAS_HOME/models)."
        ) from error
    for own, trained in zip(_weighted_layers(backbone), _weighted_layers(donor), strict=True):
        own.set_weights(trained.get_weights())


def load_own_state_dict(backbone: keras.Model, state_dict: Mapping[str, np.ndarray]) -> None:
    """Give a backbone the arrays that `own_state_dict` returned."""
    load_state_dict(backbone, state_dict, module_of=_places(backbone).__getitem__)


def own_state_dict(backbone: keras.Model, *, dtype: str = "float32") -> dict[str, np.ndarray]:
    """Return the weights of a backbone; layers are called by their place, since many get a new name in each process."""
    return state_dict_of(backbone, module_of=_places(backbone).__getitem__, dtype=dtype)


def _places(backbone: keras.Model) -> dict[str, str]:
    return {layer.name: f"layers.{place}" for place, layer in enumerate(_weighted_layers(backbone))}


def _build(
    image_size: ImageSize, model: Callable[..., keras.Model], options: dict, *, weights: str | None
) -> keras.Model:
    network = model(include_top=False, weights=weights, input_shape=image_shape(image_size), pooling="avg", **options)
    copy = keras.models.clone_model(network, clone_function=_own_layer)
    copy.set_weights(network.get_weights())
    return copy


def _own_layer(layer: keras.layers.Layer) -> keras.layers.Layer:
    """Copy a layer, Dropout and BatchNormalization as those of `saat_tf.layers`, which do the same."""
    kind = type(layer)
    if kind is keras.layers.Dropout:
        kind = Dropout
    elif kind is keras.layers.BatchNormalization and layer.scale and layer.center:
        kind = BatchNormalization
    return kind.from_config(layer.get_config())


def _weighted_layers(model: keras.Model) -> list[keras.layers.Layer]:
    """List what has weights, less the normalization of pixels, which stands in front of the backbone."""
    return [
        layer for layer in model.layers if layer.weights and not isinstance(layer, keras.layers.Normalization)
    ]  # fmt: skip


@contextlib.contextmanager
def _socket_timeout(seconds: float) -> Iterator[None]:
    """Bound how long Keras' download waits for an answer; it has no option for that."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


KERAS_APPLICATIONS: dict[str, BackboneSpec] = {
    model.__name__: BackboneSpec(
        build=functools.partial(keras_application, model=model, options=family.options),
        load_pretrained=functools.partial(load_pretrained, model=model, options=family.options),
        load_state_dict=load_own_state_dict,
        state_dict=own_state_dict,
        **family.pixels,
    )
    for family in FAMILIES
    for model in family.models
}
