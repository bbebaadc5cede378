"""Networks so small that the truth can be found: all corners of the ball, or a mixed-integer program."""

import keras
import numpy as np
from scipy import optimize

from saat_tf.backbones.adaptive_pooling import AdaptiveAveragePooling
from saat_tf.layers import BatchNormalization, Dropout, MaxMin, PixelNormalization

BITS = 3


def _network(shape, layers, seed):
    """A chain of layers with weights, statistics and biases that are all random."""
    keras.utils.set_random_seed(seed)
    inputs = x = keras.Input(shape)
    for layer in layers:
        x = layer(x)
    model = keras.Model(inputs, x)
    random = np.random.default_rng(seed)
    for layer in model.layers:
        for weight in layer.weights:
            positive = "variance" in weight.name or "gamma" in weight.name
            drawn = random.uniform(0.5, 1.5, weight.shape) if positive else random.normal(size=weight.shape) * 0.5
            weight.assign(drawn)
    return model


def relu_network(seed=0):
    """Normalized pixels, two convolutions' worth of what small_cnn is made of: 12 pixels, 8 ReLUs."""
    layers = [
        PixelNormalization([0.5, 0.4, 0.3], [0.25, 0.5, 0.3], "bgr"),
        keras.layers.Conv2D(2, 2, padding="same", use_bias=False),
        BatchNormalization(),
        keras.layers.ReLU(),
        keras.layers.GlobalAveragePooling2D(),
        keras.layers.Dense(BITS),
    ]
    return _network((2, 2, 3), layers, seed)


def pooling_network(seed=0):
    """What alexnet and vgg are made of: padding, max pooling, averages over cells, channels first, dense layers."""
    layers = [
        keras.layers.ZeroPadding2D(1),
        keras.layers.Conv2D(4, 3, activation="relu"),
        keras.layers.MaxPooling2D(2, 1),
        AdaptiveAveragePooling(2),
        keras.layers.Permute((3, 1, 2)),
        keras.layers.Flatten(),
        Dropout(0.5),
        keras.layers.Dense(5, activation="relu"),
        keras.layers.Dropout(0.5),
        keras.layers.Dense(BITS),
    ]
    return _network((2, 2, 3), layers, seed)


def other_network(seed=0):
    """The other rules: ReLU6, average pooling, sorting, tanh, strides and dilation."""
    layers = [
        keras.layers.Conv2D(4, 2, dilation_rate=1, padding="same", activation="relu6"),
        MaxMin(),
        keras.layers.AveragePooling2D(2, 1),
        keras.layers.Conv2D(4, 1, strides=1),
        keras.layers.ReLU(max_value=0.7),
        keras.layers.Flatten(),
        keras.layers.Dense(4, activation="tanh"),
        keras.layers.Activation("relu"),
        keras.layers.Dense(BITS),
    ]
    return _network((2, 2, 3), layers, seed)


NETWORKS = {"relu": relu_network, "pooling": pooling_network, "other": other_network}


def corners(image, epsilon):
    """All corners of the ball within [0, 1], and points inside: float32 (n, ...)."""
    size = image.size
    signs = 2.0 * ((np.arange(1 << size)[:, None] >> np.arange(size)) & 1) - 1
    inside = np.random.default_rng(0).uniform(-1, 1, (2000, size))
    points = image + epsilon * np.concatenate([signs, inside]).reshape(-1, *image.shape)
    return np.clip(points, 0, 1).astype(np.float32)


def least_by_program(model, image, epsilon, signs):
    """The least s_k z_k of each bit over the ball, by HiGHS: exact for affine -> ReLU -> affine."""
    place = next(i for i, layer in enumerate(model.layers) if isinstance(layer, keras.layers.ReLU))
    front, back = model.layers[1:place], model.layers[place + 1 :]
    weights, bias = _matrix(front, model.input_shape[1:])
    out, offset = _matrix(back, model.layers[place].output.shape[1:])
    low, high = np.clip(image - epsilon, 0, 1).ravel(), np.clip(image + epsilon, 0, 1).ravel()
    center, radius = (low + high) / 2, (high - low) / 2
    most = weights @ center + bias + np.abs(weights) @ radius
    least = weights @ center + bias - np.abs(weights) @ radius
    n, m = weights.shape[1], len(bias)
    identity, zeros = np.eye(m), np.zeros((m, n))
    rows = np.block(
        [
            [-weights, identity, np.zeros((m, m))],  # a - W x >= b
            [weights, -identity, np.diag(least)],  # a <= W x + b - l (1 - d)
            [zeros, -identity, np.diag(most)],  # a <= u d
        ]
    )
    bounds = np.concatenate([bias, least - bias, np.zeros(m)])
    found = []
    for sign, row, constant in zip(signs, out, offset, strict=True):
        result = optimize.milp(
            np.concatenate([np.zeros(n), sign * row, np.zeros(m)]),
            constraints=optimize.LinearConstraint(rows, bounds, np.inf),
            bounds=optimize.Bounds(
                np.concatenate([low, np.zeros(2 * m)]), np.concatenate([high, np.maximum(most, 0), np.ones(m)])
            ),
            integrality=np.repeat([0, 0, 1], [n, m, m]),
        )
        assert result.success
        found.append(result.fun + sign * constant)
    return np.array(found)


def _matrix(layers, shape):
    """Matrix and offset of an affine part, by what it makes of unit vectors."""
    points = np.concatenate([np.zeros((1, np.prod(shape))), np.eye(np.prod(shape))]).reshape(-1, *shape)
    x = points.astype(np.float32)
    for layer in layers:
        x = layer(x, training=False) if isinstance(layer, keras.layers.BatchNormalization) else layer(x)
    values = np.asarray(x, np.float64).reshape(len(points), -1)
    return (values[1:] - values[0]).T, values[0]
