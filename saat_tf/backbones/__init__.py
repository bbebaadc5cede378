"""Backbones by name: networks from normalized images to feature vectors."""

import functools
from pathlib import Path
from typing import Any

import keras

from saat_tf.backbones import efficientnet_lite, resnet, vgg
from saat_tf.backbones.alexnet import alexnet
from saat_tf.backbones.convert import load_state_dict, read_state_dict, write_safetensors
from saat_tf.backbones.keras_applications import KERAS_APPLICATIONS
from saat_tf.backbones.lipschitz_cnn import lipschitz_cnn
from saat_tf.backbones.robust import robust_backbones, robust_weights_file
from saat_tf.backbones.small_cnn import small_cnn
from saat_tf.backbones.spec import IMAGENET_MEAN, IMAGENET_STD, BackboneSpec

__all__ = [
    "BACKBONES",
    "BackboneSpec",
    "backbone_spec",
    "load_pretrained_weights",
    "load_weights_file",
    "robust_backbones",
    "robust_weights_file",
    "save_weights_file",
]

_IMAGENET: dict[str, Any] = {"mean": IMAGENET_MEAN, "std": IMAGENET_STD}

BACKBONES: dict[str, BackboneSpec] = {
    "small_cnn": BackboneSpec(build=small_cnn, mean=(0.5,) * 3, std=(0.25,) * 3),
    "lipschitz_cnn": BackboneSpec(build=lipschitz_cnn, mean=(0.5,) * 3, std=(0.25,) * 3),
    "alexnet": BackboneSpec(
        build=alexnet, load_state_dict=functools.partial(load_state_dict, classifier="classifier.6"), **_IMAGENET
    ),
    **{
        f"vgg{depth}{suffix}": BackboneSpec(
            build=functools.partial(vgg.vgg, depth=depth, batch_norm=batch_norm),
            load_state_dict=functools.partial(load_state_dict, classifier="classifier.6"),
            **_IMAGENET,
        )
        for depth in vgg.CONVOLUTIONS
        for suffix, batch_norm in (("", False), ("_bn", True))
    },
    **{
        f"resnet{depth}": BackboneSpec(
            build=functools.partial(resnet.resnet, depth=depth),
            load_state_dict=functools.partial(load_state_dict, classifier="fc"),
            **_IMAGENET,
        )
        for depth in resnet.BLOCKS
    },
    **{
        f"efficientnet_lite{version}": BackboneSpec(
            build=functools.partial(efficientnet_lite.efficientnet_lite, version=version),
            mean=(127 / 255,) * 3,
            std=(128 / 255,) * 3,
            load_pretrained=functools.partial(efficientnet_lite.load_pretrained, version=version),
            load_state_dict=efficientnet_lite.load_efficientnet_lite_weights,
            state_dict=efficientnet_lite.efficientnet_lite_state_dict,
        )
        for version in efficientnet_lite.MULTIPLIERS
    },
    "mobilenet_v3": KERAS_APPLICATIONS["MobileNetV3Large"],
    "convnext_tiny": KERAS_APPLICATIONS["ConvNeXtTiny"],
    **KERAS_APPLICATIONS,
}


def backbone_spec(name: str) -> BackboneSpec:
    """Look a backbone up by name.

    Raises:
        ValueError: there is no backbone of that name.
    """
    if name not in BACKBONES:
        own = [known for known in BACKBONES if known not in KERAS_APPLICATIONS]
        raise ValueError(
            f"Unknown backbone. Expected one of {', '.join(own)}, or of keras.applications: "
            f"{', '.join(KERAS_APPLICATIONS)}. Received: {name!r}."
        )
    return BACKBONES[name]


def load_pretrained_weights(backbone: keras.Model, name: str) -> None:
    """Give a backbone its ImageNet weights, from an installed package or by Keras' download.

    Args:
        backbone: what `backbone_spec(name).build` built.
        name: a name in `BACKBONES`.

    Raises:
        ValueError: there is no such backbone, or there are no weights of it to be had.
        ImportError: the package with the weights is not installed.
        ConnectionError: the weights cannot be downloaded.

    Example:
        >>> backbone = backbone_spec("small_cnn").build(32)
        >>> load_pretrained_weights(backbone, "small_cnn")
        Traceback (most recent call last):
        ValueError: There are no pretrained weights of small_cnn to fetch. ...
    """
    spec = backbone_spec(name)
    if spec.load_pretrained is None:
        fetched = [known for known, other in BACKBONES.items() if other.load_pretrained]
        raise ValueError(
            f"There are no pretrained weights of {name} to fetch. Give a file of weights, or choose one of these: "
            f"{', '.join(fetched)}."
        )
    spec.load_pretrained(backbone)


def load_weights_file(backbone: keras.Model, name: str, path: str | Path) -> None:
    """Give a backbone weights from a `.pth` or `.safetensors` file: of PyTorch, or of `save_weights_file`.

    The files of torchvision fit alexnet, vgg and resnet: they are converted without PyTorch, and nothing in a file is
    run. The file's classifier is passed over.

    Args:
        backbone: what `backbone_spec(name).build` built.
        name: a name in `BACKBONES`.
        path: the file.

    Raises:
        FileNotFoundError: there is no such file.
        UnsafeCheckpointError: the file names a class or function other than those of tensors.
        ValueError: there is no such backbone; the file is corrupt; or its tensors are not this backbone's, and the
            message lists those that are missing, left over or unfit.

    Example:
        >>> backbone = backbone_spec("resnet18").build(64)
        >>> load_weights_file(backbone, "resnet18", "resnet18-f37072fd.pth")  # doctest: +SKIP
    """
    spec = backbone_spec(name)
    state_dict = read_state_dict(path)
    try:
        spec.load_state_dict(backbone, state_dict)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def save_weights_file(backbone: keras.Model, name: str, path: str | Path, *, dtype: str = "float32") -> None:
    """Write the weights of a backbone to a `.safetensors` file, which `load_weights_file` reads.

    Tensors have the names and the layout of the PyTorch network where there is one.

    Args:
        backbone: what `backbone_spec(name).build` built.
        name: a name in `BACKBONES`.
        path: the file, which is replaced as a whole.
        dtype: "float32", or "float16" for half the bytes.

    Raises:
        ValueError: there is no such backbone, or a weight is not finite in `dtype`.
    """
    arrays = backbone_spec(name).state_dict(backbone, dtype=dtype)
    write_safetensors(arrays, Path(path), backbone=name)
