"""EfficientNet-Lite0, the one backbone with ImageNet weights that pip can bring."""

import re
from collections.abc import Mapping
from typing import NamedTuple

import keras
import numpy as np

STEM_FILTERS = 32
HEAD_FILTERS = 1280


class _Stage(NamedTuple):
    repeats: int
    kernel_size: int
    stride: int  # of the first block; the others have 1
    expansion: int
    filters: int


STAGES = (
    _Stage(1, 3, 1, 1, 16),
    _Stage(2, 3, 2, 6, 24),
    _Stage(2, 5, 2, 6, 40),
    _Stage(3, 3, 2, 6, 80),
    _Stage(3, 5, 1, 6, 112),
    _Stage(4, 5, 2, 6, 192),
    _Stage(1, 3, 1, 6, 320),
)

# Layer of this module -> module of the PyTorch network; the blocks' names go behind `_blocks.<index>.`.
TORCH_MODULES = {"stem_conv": "_conv_stem", "stem_norm": "_bn0", "head_conv": "_conv_head", "head_norm": "_bn1"}
TORCH_BLOCK_MODULES = {
    "expand_conv": "_expand_conv",
    "expand_norm": "_bn0",
    "depthwise_conv": "_depthwise_conv",
    "depthwise_norm": "_bn1",
    "project_conv": "_project_conv",
    "project_norm": "_bn2",
}
NORM_VARIABLES = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}


def efficientnet_lite0(image_size: int, *, name: str = "efficientnet_lite0") -> keras.Model:
    """Build EfficientNet-Lite0 without its classifier.

    EfficientNet-B0 made for phones: ReLU6 in place of swish and no squeeze-and-excitation. Convolutions pad like
    TensorFlow's "same"; batch normalisation has momentum 0.99 and epsilon 1e-3. Weights start at random: see
    `load_efficientnet_lite0_weights`.

    Args:
        image_size: side of the square input in pixels, at least 32; the weights were trained at 224.
        name: name of the model.

    Returns:
        Model from normalised images (B, S, S, 3), which are (255 x - 127) / 128 of pixels x in [0, 1], to pooled
        features (B, 1280).

    Raises:
        ValueError: `image_size` is below 32.

    Example:
        >>> efficientnet_lite0(64).output_shape
        (None, 1280)

    References:
        - Tan and Le, EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks, ICML 2019
          (arXiv:1905.11946).

    Differs from the authors' code: stochastic depth ("drop connect", up to 0.2) and the dropout before the classifier
    are left out, so that training and inference differ in batch normalisation alone.
    """
    if image_size < 32:
        raise ValueError(
            "efficientnet_lite0 halves the side five times and needs images of at least 32 pixels. "
            f"Received: image_size={image_size}. Resize the images to 32 pixels or more."
        )
    inputs = keras.Input((image_size, image_size, 3), name="images")
    x = _conv(inputs, STEM_FILTERS, "stem", kernel_size=3, stride=2)  # (B, S, S, 3) -> (B, S/2, S/2, 32)
    index = 0
    for stage in STAGES:
        for repeat in range(stage.repeats):
            x = _block(x, stage, stage.stride if repeat == 0 else 1, f"block{index}")
            index += 1
    x = _conv(x, HEAD_FILTERS, "head")  # (B, S/32, S/32, 320) -> (B, S/32, S/32, 1280)
    outputs = keras.layers.GlobalAveragePooling2D(name="features")(x)  # -> (B, 1280)
    return keras.Model(inputs, outputs, name=name)


def load_efficientnet_lite0_weights(backbone: keras.Model, state_dict: Mapping[str, np.ndarray]) -> None:
    """Give a backbone the weights of the PyTorch network, tensor by tensor, by name.

    Nothing is assigned unless everything fits. The classifier (`_fc.*`) and PyTorch's batch counters
    (`*.num_batches_tracked`) have no place in the backbone and are passed over.

    Args:
        backbone: model made by `efficientnet_lite0`.
        state_dict: PyTorch name -> array, as `read_torch_state_dict` returns it.

    Raises:
        ValueError: a layer is unknown, a tensor is missing, left over, or of another shape.

    Example:
        >>> from saat_tf.backbones import weights
        >>> backbone = efficientnet_lite0(64)
        >>> path = weights.efficientnet_lite0_checkpoint()  # doctest: +SKIP
        >>> load_efficientnet_lite0_weights(backbone, weights.read_torch_state_dict(path))  # doctest: +SKIP
    """
    targets = _torch_targets(backbone)
    missing = sorted(targets.keys() - state_dict.keys())
    left_over = sorted(
        name
        for name in state_dict.keys() - targets.keys()
        if not name.startswith("_fc.") and not name.endswith(".num_batches_tracked")
    )
    if missing or left_over:
        raise ValueError(
            "Expected the state dict of efficientnet-lite0. "
            f"Received: one with {len(missing)} names missing {missing} and {len(left_over)} left over {left_over}. "
            "Use the file that efficientnet_lite0_checkpoint() finds."
        )
    for name, (variable, axes) in targets.items():
        expected = tuple(variable.shape[axes.index(axis)] for axis in range(len(axes)))
        if np.shape(state_dict[name]) != expected:
            raise ValueError(
                f"Expected {name} of shape {expected}. Received: {np.shape(state_dict[name])}. "
                "Use the file that efficientnet_lite0_checkpoint() finds."
            )
    for name, (variable, axes) in targets.items():
        variable.assign(np.transpose(state_dict[name], axes))


def _conv(x: keras.KerasTensor, filters: int, name: str, *, kernel_size: int = 1, stride: int = 1) -> keras.KerasTensor:
    """Convolve, normalise and apply ReLU6."""
    x = keras.layers.Conv2D(
        filters,
        kernel_size,
        strides=stride,
        padding="same",
        use_bias=False,
        kernel_initializer=_initializer(),
        name=f"{name}_conv",
    )(x)
    return keras.layers.ReLU(max_value=6.0, name=f"{name}_relu")(_norm(x, name))


def _block(x: keras.KerasTensor, stage: _Stage, stride: int, name: str) -> keras.KerasTensor:
    """Expand the channels, convolve each by itself, project them back; add the input where the shapes allow it."""
    inputs = x
    if stage.expansion != 1:
        x = _conv(x, x.shape[-1] * stage.expansion, f"{name}_expand")
    x = keras.layers.DepthwiseConv2D(
        stage.kernel_size,
        strides=stride,
        padding="same",
        use_bias=False,
        depthwise_initializer=_initializer(),
        name=f"{name}_depthwise_conv",
    )(x)
    x = keras.layers.ReLU(max_value=6.0, name=f"{name}_depthwise_relu")(_norm(x, f"{name}_depthwise"))
    x = keras.layers.Conv2D(
        stage.filters, 1, use_bias=False, kernel_initializer=_initializer(), name=f"{name}_project_conv"
    )(x)
    x = _norm(x, f"{name}_project")
    if stride == 1 and inputs.shape[-1] == stage.filters:
        x = keras.layers.Add(name=f"{name}_add")([x, inputs])
    return x


def _norm(x: keras.KerasTensor, name: str) -> keras.KerasTensor:
    return keras.layers.BatchNormalization(momentum=0.99, epsilon=1e-3, name=f"{name}_norm")(x)


def _initializer() -> keras.initializers.Initializer:
    """Return the authors' initializer: normal with variance 2 / fan-out."""
    return keras.initializers.VarianceScaling(2.0, mode="fan_out", distribution="untruncated_normal")


def _torch_targets(backbone: keras.Model) -> dict[str, tuple[keras.Variable, tuple[int, ...]]]:
    """Map each PyTorch name to its variable and the axes that bring the tensor into the variable's layout."""
    targets = {}
    for layer in backbone.layers:
        if not layer.variables:
            continue
        block = re.fullmatch(r"block(\d+)_(\w+)", layer.name)
        module = TORCH_BLOCK_MODULES.get(block[2]) if block else TORCH_MODULES.get(layer.name)
        if module is None:
            raise ValueError(
                f"Expected a backbone made by efficientnet_lite0. Received: {backbone.name!r} with a layer "
                f"{layer.name!r}. Load the weights before adding layers to the backbone."
            )
        prefix = f"_blocks.{block[1]}.{module}" if block else module
        if isinstance(layer, keras.layers.BatchNormalization):
            targets |= {f"{prefix}.{NORM_VARIABLES[v.name]}": (v, (0,)) for v in layer.variables}
        elif isinstance(layer, keras.layers.DepthwiseConv2D):
            targets[f"{prefix}.weight"] = (layer.kernel, (2, 3, 0, 1))  # (C, 1, H, W) -> (H, W, C, 1)
        else:
            targets[f"{prefix}.weight"] = (layer.kernel, (2, 3, 1, 0))  # (O, I, H, W) -> (H, W, I, O)
    return targets
