"""Floating point operations of a SAAT step, counted from the shapes of layers; and the most that the machine does."""

import keras
import numpy as np
import tensorflow as tf

from benchmarks.timing import in_turns

MATRIX_SIDE = 2048


def layer_flops(layer: keras.layers.Layer) -> int:
    """Return the operations of a layer's forward pass on one image: two for each weight that meets an input.

    Convolutions and dense layers are counted; what is left out (ReLU, batch norm, pooling) is less than a hundredth of
    them in AlexNet. A convolution is counted as its formula has it, whatever algorithm computes it.
    """
    if isinstance(layer, keras.layers.Dense):
        return 2 * int(np.prod(layer.kernel.shape))
    if isinstance(layer, (keras.layers.Conv2D, keras.layers.DepthwiseConv2D)):
        height, width = layer.output.shape[1:3]
        return 2 * int(np.prod(layer.kernel.shape)) * height * width
    return 0


def forward_flops(encoder: keras.Model) -> tuple[int, int]:
    """Return the operations of the forward pass of a `HashingModel` on one image, and those of its first layer."""
    counts = [layer_flops(layer) for layer in (*encoder.backbone.layers, encoder.hash_head.projection)]
    return sum(counts), next(count for count in counts if count)


def step_flops(encoder: keras.Model, batch_size: int, num_steps: int) -> int:
    """Return the operations of a SAAT step.

    An inner step is a forward pass and a backward pass to the pixels, which costs the same again. The outer step goes
    forward on adversarial and clean images, and back to weights and to inputs, those of the first layer excepted:

        B (2 T F + 2 (3 F - F_1))
    """
    forward, first = forward_flops(encoder)
    return batch_size * (2 * num_steps * forward + 2 * (3 * forward - first))


def peak_flops_per_second(*, repeats: int = 9) -> float:
    """Measure what the machine reaches in float32: two matrices of 2048 x 2048 multiplied, the fastest of all calls."""
    matrix = tf.random.stateless_normal((MATRIX_SIDE, MATRIX_SIDE), (0, 0))
    product = tf.function(lambda: tf.reduce_sum(tf.matmul(matrix, matrix)))
    timing = in_turns({"product": lambda: product().numpy()}, repeats=repeats, warm_up=3)["product"]
    return 2 * MATRIX_SIDE**3 / min(timing.seconds)
