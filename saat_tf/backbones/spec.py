"""Specification of a backbone: builder, pixels and source of weights."""

import dataclasses
from collections.abc import Callable, Mapping

import keras
import numpy as np

from saat_tf.backbones.convert import load_state_dict, state_dict_of
from saat_tf.images import ImageSize

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclasses.dataclass(frozen=True, kw_only=True)
class BackboneSpec:
    """Builder, expected pixels and source of weights of a backbone.

    Args:
        build: image size in pixels -> Keras model from normalized images (B, H, W, 3) to features (B, F), with random
            weights.
        mean: per channel of RGB, subtracted from pixels of [0, 1].
        std: per channel of RGB, divides what remains.
        channel_order: "rgb", or "bgr" where the network was trained on blue first.
        load_pretrained: gives a built backbone its ImageNet weights, from a package or a download; None where there
            are none to be had.
        load_state_dict: gives a built backbone the arrays of a PyTorch network by name; where there is no such network,
            those that `state_dict` names.
        state_dict: (backbone, dtype=...) -> its weights, as `load_state_dict` reads them.
    """

    build: Callable[[ImageSize], keras.Model]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    channel_order: str = "rgb"
    load_pretrained: Callable[[keras.Model], None] | None = None
    load_state_dict: Callable[[keras.Model, Mapping[str, np.ndarray]], None] = load_state_dict
    state_dict: Callable[..., dict[str, np.ndarray]] = state_dict_of
