"""A backbone cut behind its first layer."""

from collections.abc import Callable

import keras
import tensorflow as tf

from saat_tf.backbones.fold import is_layer_graph
from saat_tf.models.image_model import ImageModel

FOLLOWERS = (keras.layers.BatchNormalization, keras.layers.Activation, keras.layers.ReLU)


def split_after_first_layer(
    encoder: ImageModel, *, training: bool
) -> tuple[Callable[[tf.Tensor], tf.Tensor], Callable[[tf.Tensor, tf.Tensor], tf.Tensor]]:
    """Return the encoder as two functions: images -> f_0 (B, ...), and (f_0, alpha) -> what it returns (B, K).

    f_0 is the output of the backbone's first layer with trainable weights, and of batch norm and activation where these
    alone read it.

    Raises:
        ValueError: the backbone is no functional or sequential model.

    Example:
        >>> from saat_tf.models import HashingModel
        >>> encoder = HashingModel("small_cnn", code_length=16, image_size=32)
        >>> first, rest = split_after_first_layer(encoder, training=False)
        >>> features = first(tf.zeros((1, 32, 32, 3)))
        >>> features.shape, bool(tf.reduce_all(rest(features, 1.0) == encoder(tf.zeros((1, 32, 32, 3)))))
        (TensorShape([1, 16, 16, 24]), True)
    """
    head, tail = _cut(encoder.backbone)

    def first(images: tf.Tensor) -> tf.Tensor:
        return head(encoder.normalized(encoder.reduced(images), training), training=training)

    def rest(features: tf.Tensor, alpha: float | tf.Tensor) -> tf.Tensor:
        return encoder.relax(encoder.pooled(tail(features, training=training)), alpha=alpha)

    return first, rest


def _cut(backbone: keras.Model) -> tuple[keras.Model, keras.Model]:
    if not is_layer_graph(backbone):
        raise ValueError(
            "A network is cut behind its first layer where Keras knows its layers: functional and sequential models. "
            f"Received: a {type(backbone).__name__}. Choose another inner attack, such as Steps or NFGSM."
        )
    layer = next(layer for layer in backbone.layers if layer.trainable_weights)
    while len(readers := _readers(backbone, layer)) == 1 and isinstance(readers[0], FOLLOWERS):
        layer = readers[0]
    return keras.Model(backbone.inputs, layer.output), keras.Model(layer.output, backbone.output)


def _readers(backbone: keras.Model, layer: keras.layers.Layer) -> list[keras.layers.Layer]:
    return [other for other in backbone.layers if any(tensor is layer.output for tensor in _inputs(other))]


def _inputs(layer: keras.layers.Layer) -> list:
    return [] if isinstance(layer, keras.layers.InputLayer) else keras.tree.flatten(layer.input)
