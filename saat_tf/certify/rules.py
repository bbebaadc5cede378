"""The rules of layers: from a Keras network to its steps. Layers without a rule are refused by name."""

from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from saat_tf.backbones.adaptive_pooling import AdaptiveAveragePooling
from saat_tf.certify.steps import Affine, Monotone, Step
from saat_tf.layers import BatchNormalization, Dropout, GaussianNoise, HashHead, MaxMin, PixelNormalization

# Libraries approximate tanh in float32 to a few units in the last place of 1.
TANH_ERROR = 1e-6


def network_steps(model: keras.Layer) -> list[Step]:
    """Return the steps of a network from images to the values whose signs are the bits.

    Args:
        model: a layer with a rule, a functional model of such layers one after the other, or a model that names its
            parts by `stages()`, as `HashingModel` does.

    Raises:
        ValueError: a layer has no rule, or layers do not form a chain; the message names the layer.
    """
    return [step for layer in network_layers(model) for step in layer_steps(layer)]


def network_layers(model: keras.Layer) -> list[keras.Layer]:
    """Return the layers of a network in the order in which it applies them; see `network_steps`."""
    if hasattr(model, "stages"):
        return [layer for stage in model.stages() for layer in network_layers(stage)]
    if not isinstance(model, keras.Model):
        return [model]
    if not (hasattr(model, "inputs") and model.inputs):
        raise _no_rule(model, "It is a model of a class of its own")
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise _no_rule(model, "It has several inputs or outputs")
    layers, tensor = [], model.outputs[0]
    while tensor is not model.inputs[0]:
        operation, node_index, _ = tensor._keras_history
        sources = operation._inbound_nodes[node_index].input_tensors
        if len(sources) != 1:
            raise _no_rule(operation, "It joins several inputs")
        layers.append(operation)
        tensor = sources[0]
    return [layer for operation in reversed(layers) for layer in network_layers(operation)]


def layer_steps(layer: keras.Layer) -> list[Step]:
    """Return the steps of one layer.

    Raises:
        ValueError: there is no rule for it; the message names it.
    """
    if getattr(layer, "compute_dtype", "float32") != "float32":
        raise _no_rule(layer, f"It computes in {layer.compute_dtype}, rules are for float32")
    rule = RULES.get(type(layer))
    if rule is None:
        raise _no_rule(layer, "Its kind is unknown")
    return rule(layer)


def batch_norm(layer: keras.layers.BatchNormalization, mean: tf.Tensor, variance: tf.Tensor) -> Affine:
    """Return the affine map of batch norm with these statistics (C,)."""

    def scale(dtype: tf.DType) -> tf.Tensor:
        slope = tf.math.rsqrt(tf.cast(variance, dtype) + tf.cast(layer.epsilon, dtype))
        return slope * tf.cast(layer.gamma, dtype) if layer.scale else slope

    def bias(dtype: tf.DType) -> tuple[tf.Tensor, tf.Tensor]:
        shift = tf.cast(mean, dtype) * scale(dtype)
        beta = tf.cast(layer.beta, dtype) if layer.center else tf.zeros_like(shift)
        return beta - shift, tf.abs(beta) + tf.abs(shift)

    return Affine(
        layer.name,
        lambda x, absolute: x * (tf.abs(scale(x.dtype)) if absolute else scale(x.dtype)),
        bias,
        2,
        lambda: float(tf.reduce_max(tf.abs(scale(tf.float64)))),
    )


def _no_rule(layer: keras.Operation, reason: str) -> ValueError:
    known = sorted({kind.__name__ for kind in RULES})
    return ValueError(
        f"Layer {layer.name!r} ({type(layer).__name__}) has no rule for certified bounds. {reason}. There are rules "
        f"for chains of {', '.join(known)}. Certify this model by smoothing, which takes any."
    )


def _without_bias(dtype: tf.DType) -> tuple[float, float]:
    return tf.zeros((), dtype), tf.zeros((), dtype)


def _positive(name: str, apply: Callable[[tf.Tensor], tf.Tensor], terms: int, norm: float = 1.0) -> Affine:
    """Return an affine map whose W has no negative entry, and no bias."""
    return Affine(name, lambda x, absolute: apply(x), _without_bias, terms, lambda: norm)


def _activation(layer: keras.Layer, function: Callable | None) -> list[Step]:
    relu = Monotone(layer.name, tf.nn.relu, is_relu=True)
    known: dict[Callable, list[Step]] = {
        keras.activations.linear: [],
        keras.activations.relu: [relu],
        keras.activations.relu6: [Monotone(layer.name, tf.nn.relu6)],
        keras.activations.tanh: [Monotone(layer.name, tf.tanh, error=TANH_ERROR)],
    }
    if function is None:
        return []
    if function not in known:
        raise _no_rule(layer, f"Its activation {getattr(function, '__name__', function)!r} is unknown")
    return known[function]


def _relu(layer: keras.layers.ReLU) -> list[Step]:
    if layer.negative_slope or layer.threshold:
        raise _no_rule(layer, "It has a negative slope or a threshold")
    if layer.max_value is None:
        return [Monotone(layer.name, tf.nn.relu, is_relu=True)]
    return [
        Monotone(layer.name, lambda x: tf.clip_by_value(x, tf.zeros((), x.dtype), tf.cast(layer.max_value, x.dtype)))
    ]


def _kernel(layer: keras.Layer, dtype: tf.DType, absolute: bool) -> tf.Tensor:
    kernel = tf.cast(layer.kernel, dtype)
    return tf.abs(kernel) if absolute else kernel


def _layer_bias(layer: keras.Layer) -> Callable:
    if not layer.use_bias:
        return _without_bias
    return lambda dtype: (tf.cast(layer.bias, dtype), tf.abs(tf.cast(layer.bias, dtype)))


def _matrix_norm(matrix: np.ndarray) -> float:
    """Bound the largest singular value of a matrix: LAPACK's is right to a multiple of float64's precision."""
    return float(np.linalg.norm(np.asarray(matrix, np.float64), 2)) * (1 + 1e-10)


def _dense(layer: keras.layers.Dense) -> list[Step]:
    def apply(x: tf.Tensor, absolute: bool) -> tf.Tensor:
        return tf.tensordot(x, _kernel(layer, x.dtype, absolute), 1)

    terms = int(layer.kernel.shape[0])
    dense = Affine(layer.name, apply, _layer_bias(layer), terms, lambda: _matrix_norm(layer.kernel.numpy()))
    return [dense, *_activation(layer, layer.activation)]


def _convolution(layer: keras.layers.Conv2D) -> list[Step]:
    if layer.groups != 1 or layer.data_format != "channels_last":
        raise _no_rule(layer, "It has groups, or channels first")
    height, width, channels, _ = (int(side) for side in layer.kernel.shape)

    def apply(x: tf.Tensor, absolute: bool) -> tf.Tensor:
        kernel = _kernel(layer, x.dtype, absolute)
        return tf.nn.conv2d(x, kernel, layer.strides, layer.padding.upper(), dilations=layer.dilation_rate)

    def norm() -> float:
        # An entry of x is in at most so many patches, and the kernel is one matrix on each patch.
        reach = [d * (k - 1) + 1 for d, k in zip(layer.dilation_rate, (height, width), strict=True)]
        patches = np.prod([-(-side // stride) for side, stride in zip(reach, layer.strides, strict=True)])
        kernel = layer.kernel.numpy()
        return _matrix_norm(kernel.reshape(-1, kernel.shape[-1])) * float(patches) ** 0.5

    convolution = Affine(layer.name, apply, _layer_bias(layer), height * width * channels, norm)
    return [convolution, *_activation(layer, layer.activation)]


def _normalization(layer: PixelNormalization) -> list[Step]:
    def apply(x: tf.Tensor, absolute: bool) -> tf.Tensor:
        scaled = x / tf.constant(layer.std, x.dtype)
        return tf.reverse(scaled, axis=[-1]) if layer.channel_order == "bgr" else scaled

    def bias(dtype: tf.DType) -> tuple[tf.Tensor, tf.Tensor]:
        shift = apply(tf.constant([layer.mean], dtype), False)
        return -shift, tf.abs(shift)

    return [Affine(layer.name, apply, bias, 1, lambda: 1 / min(layer.std))]


def _average_pooling(layer: keras.layers.AveragePooling2D) -> list[Step]:
    def apply(x: tf.Tensor) -> tf.Tensor:
        return tf.nn.avg_pool2d(x, layer.pool_size, layer.strides, layer.padding.upper())

    # Each output is a mean, each input is in so many of them.
    windows = np.prod([-(-size // stride) for size, stride in zip(layer.pool_size, layer.strides, strict=True)])
    norm = float(windows) ** 0.5
    if layer.padding == "valid":
        norm /= float(np.prod(layer.pool_size)) ** 0.5
    return [_positive(layer.name, apply, int(np.prod(layer.pool_size)), norm)]


def _max_pooling(layer: keras.layers.MaxPooling2D) -> list[Step]:
    def apply(x: tf.Tensor) -> tf.Tensor:
        return tf.nn.max_pool2d(x, layer.pool_size, layer.strides, layer.padding.upper())

    windows = np.prod([-(-size // stride) for size, stride in zip(layer.pool_size, layer.strides, strict=True)])
    return [Monotone(layer.name, apply, norm=float(windows) ** 0.5)]


def _global_average(layer: keras.layers.GlobalAveragePooling2D) -> list[Step]:
    places = int(np.prod(layer.input.shape[1:3]))
    axes = [1, 2]
    return [_positive(layer.name, lambda x: tf.reduce_mean(x, axes, keepdims=layer.keepdims), places, places**-0.5)]


def _adaptive_average(layer: AdaptiveAveragePooling) -> list[Step]:
    # Called past Keras, which would cast to float32. A place is in at most side^2 cells, an average of 1 each at most.
    places = int(np.prod(layer.input.shape[1:3]))
    return [_positive(layer.name, lambda x: type(layer).call(layer, x), places + layer.side, float(layer.side))]


def _moved(apply: Callable[[keras.Layer, tf.Tensor], tf.Tensor]) -> Callable[[keras.Layer], list[Step]]:
    """Return the rule of layers that move entries, or pad them by zeros."""
    return lambda layer: [
        Affine(layer.name, lambda x, absolute: apply(layer, x), _without_bias, 1, lambda: 1.0, is_exact=True)
    ]


def _padding(layer: keras.layers.ZeroPadding2D, x: tf.Tensor) -> tf.Tensor:
    return tf.pad(x, [[0, 0], *layer.padding, [0, 0]])


def _flatten(layer: keras.layers.Flatten, x: tf.Tensor) -> tf.Tensor:
    return tf.reshape(x, [tf.shape(x)[0], int(np.prod(x.shape[1:]))])


def _permute(layer: keras.layers.Permute, x: tf.Tensor) -> tf.Tensor:
    return tf.transpose(x, [0, *layer.dims])


def _frozen_norm(layer: keras.layers.BatchNormalization) -> list[Step]:
    return [batch_norm(layer, layer.moving_mean, layer.moving_variance)]


RULES: dict[type, Callable[[keras.Layer], list[Step]]] = {
    PixelNormalization: _normalization,
    keras.layers.Conv2D: _convolution,
    keras.layers.Dense: _dense,
    keras.layers.BatchNormalization: _frozen_norm,
    BatchNormalization: _frozen_norm,
    keras.layers.ReLU: _relu,
    keras.layers.Activation: lambda layer: _activation(layer, layer.activation),
    keras.layers.MaxPooling2D: _max_pooling,
    keras.layers.AveragePooling2D: _average_pooling,
    keras.layers.GlobalAveragePooling2D: _global_average,
    AdaptiveAveragePooling: _adaptive_average,
    keras.layers.ZeroPadding2D: _moved(_padding),
    keras.layers.Flatten: _moved(_flatten),
    keras.layers.Permute: _moved(_permute),
    keras.layers.InputLayer: lambda layer: [],
    MaxMin: lambda layer: [Monotone(layer.name, layer.call)],
    Dropout: lambda layer: [],
    GaussianNoise: lambda layer: [],
    keras.layers.Dropout: lambda layer: [],
    HashHead: lambda layer: _dense(layer.projection),
}
