"""Batch norm folded into the convolutions before it."""

import keras
import numpy as np

from saat_tf.layers import BatchNormalization


def folded(backbone: keras.Model) -> keras.Model | None:
    """Return a copy of a network for inference, in which a convolution does what the batch norm behind it did.

        gamma (w * x + b - mean) / sigma + beta  =  (s w) * x + s (b - mean) + beta,   s = gamma / sigma

    In inference batch norm is an affine map with constants, so the copy computes the same up to rounding, and spares
    one pass over the activations forward and one backward. Later training does not change it.

    Args:
        backbone: a functional or sequential model of layers of 32 bits; it is left as it is, and so are models in it.

    Returns:
        The copy; None where no batch norm comes right behind a convolution of its own, or the model is of another kind.

    Example:
        >>> x = keras.Input((8, 8, 3))
        >>> y = keras.layers.BatchNormalization()(keras.layers.Conv2D(4, 3)(x))
        >>> [type(layer).__name__ for layer in folded(keras.Model(x, y)).layers]
        ['InputLayer', 'Conv2D']

    References:
        Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference",
        CVPR 2018, section 3.2.
    """
    if not is_layer_graph(backbone):
        return None
    if isinstance(backbone, keras.Sequential):
        backbone = keras.Model(backbone.inputs, backbone.outputs)
    norms = {}
    for layer in backbone.layers:
        if _is_affine_norm(layer):
            before = layer.input._keras_history.operation
            if _can_take_over(before):
                norms[before.name] = layer
    if not norms:
        return None
    gone = {norm.name for norm in norms.values()}

    def copied(layer: keras.Layer) -> keras.Layer:
        config = layer.get_config()
        return type(layer).from_config({**config, "use_bias": True} if layer.name in norms else config)

    copy = keras.models.clone_model(
        backbone,
        clone_function=copied,
        call_function=lambda layer, x, *args, **kwargs: x if layer.name in gone else layer(x, *args, **kwargs),
    )
    for layer in backbone.layers:
        if layer.weights and layer.name not in gone:
            norm = norms.get(layer.name)
            weights = layer.get_weights() if norm is None else _merged(layer, norm)
            copy.get_layer(layer.name).set_weights(weights)
    return copy


def is_layer_graph(model: keras.Model) -> bool:
    """Tell whether Keras knows a model as a graph of layers: functional and sequential ones.

    A class derived from them may compute something else.

    Example:
        >>> is_layer_graph(keras.Sequential([keras.Input((3,))]))
        True
    """
    kind = type(model)
    return kind is keras.Sequential or (kind.__name__ == "Functional" and kind.__module__.startswith("keras."))


def _is_affine_norm(layer: keras.Layer) -> bool:
    """Tell whether a layer is batch norm over channels by stored statistics, read once; subclasses may differ."""
    if type(layer) not in (keras.layers.BatchNormalization, BatchNormalization) or len(layer._inbound_nodes) != 1:
        return False
    is_last_axis = layer.axis in (-1, len(layer.input.shape) - 1)
    return is_last_axis and not layer._inbound_nodes[0].arguments.kwargs.get("training")


def _can_take_over(layer: keras.Operation) -> bool:
    return (
        type(layer) in (keras.layers.Conv2D, keras.layers.DepthwiseConv2D)
        and layer.data_format == "channels_last"
        and len(layer._inbound_nodes) == 1
        and layer.activation is keras.activations.linear
        and len(layer._outbound_nodes) == 1
    )


def _merged(convolution: keras.Layer, norm: keras.layers.BatchNormalization) -> list[np.ndarray]:
    """Return kernel and bias of a convolution that normalizes as well."""
    kernel, *bias = convolution.get_weights()
    mean, variance = norm.moving_mean.numpy(), norm.moving_variance.numpy()
    scale = (norm.gamma.numpy() if norm.scale else 1.0) / np.sqrt(variance + norm.epsilon)
    shift = norm.beta.numpy() if norm.center else 0.0
    is_depthwise = isinstance(convolution, keras.layers.DepthwiseConv2D)  # its kernel is (h, w, channels, multiplier)
    scales = scale.reshape(kernel.shape[2:]) if is_depthwise else scale
    return [kernel * scales, (sum(bias) - mean) * scale + shift]
