"""Hashing networks that were trained in PyTorch, read from their state dict."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from saat_tf.backbones import backbone_spec
from saat_tf.backbones.convert import listed, read_state_dict
from saat_tf.images import ImageSize
from saat_tf.models.hashing_model import HashingModel

# What the layers of ResNet are called when they stand in one sequence: conv1, bn1, ReLU, pooling, then the stages.
RESNET_STAGES = {"0": "conv1", "1": "bn1", **{str(3 + stage): f"layer{stage}" for stage in range(1, 5)}}
# The hidden dense layers in torchvision's `classifier`, where a network has them in one sequence with the hash layer.
HIDDEN = {"alexnet": ("classifier.1", "classifier.4"), "vgg": ("classifier.0", "classifier.3")}


def hashing_model_from_torch(
    path: str | Path, *, backbone: str, hash_layer: str, image_size: ImageSize = 224, **options: Any
) -> HashingModel:
    """Make a hashing model of the state dict of a PyTorch network: a backbone and a linear hash layer, z = W f + b.

    The layouts of the public repositories are read: torchvision's names (`features.*`, `classifier.*`; `conv1`,
    `layer1`, ...), those below `feature_layers`, hidden layers in one sequence with the hash layer, each also below
    `module.`.
    Nothing in the file is run. The network's own tanh or sign is left out: it is the same after it.

    Args:
        path: a `.pth` or `.safetensors` file.
        backbone: alexnet, or a name of vgg or resnet in `saat_tf.backbones.BACKBONES`.
        hash_layer: name of the hash layer in the network, such as "hash_layer", "fc" or "classifier.6"; or of the
            sequence that ends with it.
        image_size: side of the square input in pixels, or (height, width).
        **options: those of `HashingModel`; `mean` and `std` where the network was not trained on pixels normalized as
            torchvision does.

    Raises:
        FileNotFoundError: there is no such file.
        UnsafeCheckpointError: the file names a class or function other than those of tensors.
        ValueError: the file is corrupt, has no such hash layer, or its tensors are not those of the backbone; the
            message lists them, by torchvision's names.

    Example:
        >>> hashing_model_from_torch("dph_coco.pth", backbone="alexnet", hash_layer="hash_layer")  # doctest: +SKIP
    """
    arrays = without_prefix(read_state_dict(path))
    family = backbone.rstrip("0123456789_bn")
    if family not in ("alexnet", "vgg", "resnet"):
        raise ValueError(f"`backbone` must be alexnet, or one of vgg or resnet. Received: {backbone!r}.")
    try:
        arrays, kernel, bias = split_hash_layer(arrays, hash_layer, family)
        arrays = in_torchvision_names(arrays, family)
        model = HashingModel(backbone, kernel.shape[0], image_size, **options)
        if kernel.shape[1] != model.num_features:
            raise ValueError(
                f"The hash layer of {backbone} maps {model.num_features} features to bits. Received: {hash_layer} of "
                f"shape {kernel.shape}. Choose the backbone that the file was made for, or the last layer's name."
            )
        backbone_spec(backbone).load_state_dict(model.backbone, arrays)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    model.hash_head.projection.set_weights([kernel.T, bias])
    return model


def without_prefix(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Drop the prefix `module.`, which networks that were trained on several GPUs have on every name.

    Example:
        >>> sorted(without_prefix({"module.fc.weight": np.ones(1), "module.fc.bias": np.ones(1)}))
        ['fc.bias', 'fc.weight']
    """
    if all(name.startswith("module.") for name in arrays):
        return {name.removeprefix("module."): array for name, array in arrays.items()}
    return dict(arrays)


def split_hash_layer(
    arrays: Mapping[str, np.ndarray], hash_layer: str, family: str
) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """Return the arrays without the hash layer, its kernel (K, F) and its bias (K,), which is zero where it has none.

    Raises:
        ValueError: there is no such layer, or it is not linear; the message lists the linear layers.
    """
    rest = dict(arrays)
    sequence = _linear(name for name in arrays if re.fullmatch(rf"{re.escape(hash_layer)}\.\d+\.weight", name))
    name = hash_layer
    if f"{hash_layer}.weight" not in arrays and sequence:
        *hidden, name = sequence
        places = HIDDEN.get(family, ())
        for old, new in zip(hidden, places, strict=False):
            for part in ("weight", "bias"):
                if f"{old}.{part}" in rest:
                    rest[f"{new}.{part}"] = rest.pop(f"{old}.{part}")
    kernel = rest.pop(f"{name}.weight", None)
    if kernel is None or kernel.ndim != 2:
        linear = _linear(name for name, array in arrays.items() if array.ndim == 2)
        raise ValueError(
            f"Expected a linear hash layer {hash_layer}. Received: a state dict with "
            f"{listed('linear layers', linear)}. Name one of them."
        )
    return rest, kernel, rest.pop(f"{name}.bias", np.zeros(len(kernel), np.float32))


def in_torchvision_names(arrays: Mapping[str, np.ndarray], family: str) -> dict[str, np.ndarray]:
    """Return the arrays of a backbone by the names that they have in torchvision.

    A tensor that is registered twice is taken once.

    Raises:
        ValueError: two tensors of one name differ.

    Example:
        >>> list(in_torchvision_names({"feature_layers.4.0.conv1.weight": np.ones(1)}, "resnet"))
        ['layer1.0.conv1.weight']
        >>> list(in_torchvision_names({"feature_layers.1.classifier4.bias": np.ones(1)}, "vgg"))
        ['classifier.4.bias']
    """
    found: dict[str, np.ndarray] = {}
    for name, array in arrays.items():
        known = _in_torchvision(name, family)
        if known in found and not np.array_equal(found[known], array):
            raise ValueError(f"Expected one tensor for {known}. Received: two that differ, one of them as {name}.")
        found[known] = array
    return found


def _in_torchvision(name: str, family: str) -> str:
    if family == "resnet":
        return re.sub(r"^(?:feature_layers|features)\.([014567])\.", lambda found: f"{RESNET_STAGES[found[1]]}.", name)
    name = re.sub(r"^feature_layers\.0\.(\d+)\.(?=[^.]+$)", r"features.\1.", name)
    name = re.sub(r"^feature_layers\.1\.(?=(?:classifier)?\d+\.[^.]+$)", "classifier.", name)
    name = re.sub(r"^feature_layers\.(\d+)\.(?=[^.]+$)", r"features.\1.", name)
    return re.sub(r"^classifier\.classifier(\d+)\.", r"classifier.\1.", name)


def _linear(names: Iterable[str]) -> list[str]:
    """Return the layers of these weights, in the order of their numbers."""
    layers = [name.removesuffix(".weight") for name in names]
    return sorted(layers, key=lambda layer: [int(part) if part.isdigit() else -1 for part in layer.split(".")])
