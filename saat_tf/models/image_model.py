"""What every model of images has: a backbone, and the normalization of pixels in front of it."""

import random
from typing import Any

import keras
import tensorflow as tf

from saat_tf.backbones import backbone_spec
from saat_tf.backbones.fold import folded
from saat_tf.backbones.precision import Precision, layers_of
from saat_tf.images import shaped_images
from saat_tf.layers import PixelNormalization


class ImageModel(keras.Model):
    """Base of `HashingModel` and `Classifier`: f(x) are the backbone's features, a subclass adds the head.

    Args:
        backbone: a name in `saat_tf.backbones.BACKBONES`.
        image_size: side of the square input in pixels.
        precision: in which the backbone computes: "float32"; or "mixed_bfloat16" or "mixed_float16", 16 bits with
            weights of 32. Pixels, their normalization, features and all behind them are float32.

    Raises:
        ValueError: unknown backbone or precision, or an image size that cannot be.
    """

    def __init__(self, backbone: str, image_size: int, *, precision: Precision = "float32", **kwargs: Any) -> None:
        # Whatever Keras' global policy or an old file say, no more than the backbone is of lower precision.
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.backbone_name = backbone
        self.image_size = image_size
        self.precision = precision
        spec = backbone_spec(backbone)
        self.pixel_normalization = PixelNormalization(
            spec.mean, spec.std, spec.channel_order, name="pixel_normalization", dtype="float32"
        )
        with layers_of(precision):
            self.backbone = spec.build(image_size)

    def features(self, images: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Return f(x): images float32 (B, S, S, 3) in [0, 1] -> float32 (B, F).

        Type and size are checked, pixels are not: attacks ask for slopes outside of the range too.

        Raises:
            ValueError: the images are not floats of the model's size.
        """
        images = shaped_images(images, self.image_size)
        if images.shape[0] == 0:
            return tf.zeros((0, self.backbone.output_shape[-1]))
        return tf.cast(self.backbone(self.pixel_normalization(images), training=training), tf.float32)

    def relax(self, features: tf.Tensor, alpha: float | tf.Tensor = 1.0) -> tf.Tensor:
        """Return what gradient attacks climb on: features float32 (B, F) -> float32 (B, K)."""
        raise NotImplementedError(f"{type(self).__name__} must implement `relax`.")

    def call(self, images: tf.Tensor, alpha: float | tf.Tensor = 1.0, training: bool = False) -> tf.Tensor:
        """Return `relax` of the features of images float32 (B, S, S, 3) in [0, 1]: float32 (B, K)."""
        return self.relax(self.features(images, training), alpha=alpha)

    def with_precision(self, precision: Precision) -> "ImageModel":
        """Return a copy with the same weights whose backbone computes in another precision."""
        copy = type(self).from_config({**self.get_config(), "precision": precision})
        copy.set_weights(self.get_weights())
        return copy

    def for_inference(self) -> "ImageModel":
        """Return a model of the same outputs up to rounding that infers faster, with the weights of now.

        Batch norm is folded into convolutions (`saat_tf.backbones.fold`). The model itself is returned where there is
        nothing to fold, or its backbone computes in 16 bits, whose rounding folding would change.
        """
        # New layers draw initial values, which are overwritten: what is drawn later must not depend on that.
        drawn = random.getstate()
        try:
            backbone = folded(self.backbone) if self.precision == "float32" else None
            if backbone is None:
                return self
            faster = type(self).from_config(self.get_config())
            faster.set_weights(self.get_weights())
            faster.backbone = backbone
            return faster
        finally:
            random.setstate(drawn)

    def get_config(self) -> dict:
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "backbone": self.backbone_name,
            "image_size": self.image_size,
            "precision": self.precision,
        }
