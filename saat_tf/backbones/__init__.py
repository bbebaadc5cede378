"""Backbones by name: networks from normalised images to feature vectors."""

import dataclasses
from collections.abc import Callable

import keras

from saat_tf.backbones.alexnet import alexnet
from saat_tf.backbones.efficientnet_lite import efficientnet_lite0
from saat_tf.backbones.small_cnn import small_cnn

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclasses.dataclass(frozen=True)
class BackboneSpec:
    """How to build a backbone and what pixels it expects.

    Args:
        build: image size in pixels -> Keras model from normalised images (B, S, S, 3) to features (B, F).
        mean: per channel, subtracted from pixels of [0, 1].
        std: per channel, divides what remains.
    """

    build: Callable[[int], keras.Model]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


BACKBONES: dict[str, BackboneSpec] = {
    "alexnet": BackboneSpec(alexnet, IMAGENET_MEAN, IMAGENET_STD),
    "efficientnet_lite0": BackboneSpec(efficientnet_lite0, (127 / 255,) * 3, (128 / 255,) * 3),
    "small_cnn": BackboneSpec(small_cnn, (0.5,) * 3, (0.25,) * 3),
}


def backbone_spec(name: str) -> BackboneSpec:
    """Look a backbone up by name.

    Raises:
        ValueError: there is no backbone of that name.
    """
    if name not in BACKBONES:
        raise ValueError(f"Unknown backbone. Expected one of {', '.join(BACKBONES)}. Received: {name!r}.")
    return BACKBONES[name]
