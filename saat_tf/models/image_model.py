"""What every model of images has: a backbone, and the normalization of pixels in front of it."""

import random
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from saat_tf.backbones import backbone_spec
from saat_tf.backbones.fold import folded
from saat_tf.backbones.own import feature_shape, in_float32, input_size, precision_of
from saat_tf.backbones.precision import Precision, layers_of
from saat_tf.batches import check_images_in_memory, is_array
from saat_tf.images import ImageSize, image_shape, image_size_of, shaped_images
from saat_tf.layers import GaussianNoise, PixelNormalization


class ImageModel(keras.Model):
    """Base of `HashingModel` and `Classifier`: f(x) are the backbone's features, a subclass adds the head.

    Args:
        backbone: a name in `saat_tf.backbones.BACKBONES`; or a Keras model from images (B, H, W, 3) to features (B, F)
            or to a map of them (B, H, W, F), which is averaged over its places.
        image_size: side of the square input in pixels, or (height, width); by default that of a model's own input.
        mean: per channel of RGB in pixel units of [0, 1], subtracted from the pixels. Default: that of the name; for a
            model, 0.
        std: per channel of RGB, divides what remains. Default: that of the name; for a model, 1, so that it sees the
            pixels in [0, 1] themselves.
        channel_order: "rgb", or "bgr" for a network that expects blue first. Default: that of the name, or "rgb".
        precision: in which the backbone computes: "float32"; or "mixed_bfloat16" or "mixed_float16", 16 bits with
            weights of 32. Pixels, their normalization, features and all behind them are float32. Default: float32, or
            that of a model as it was built.
        pooling: s, side of the squares of pixels whose means the backbone sees instead of the image; 1 for the image.
        noise: standard deviation of Gaussian noise on what the backbone sees in training, in pixel units of [0, 1].

    Raises:
        ValueError: unknown backbone or precision, an image size, pooling or noise that cannot be, or a model that takes
            no images or returns no features.
    """

    def __init__(
        self,
        backbone: str | keras.Model,
        image_size: ImageSize | None = None,
        *,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        channel_order: str | None = None,
        precision: Precision | None = None,
        pooling: int = 1,
        noise: float = 0.0,
        **kwargs: Any,
    ) -> None:
        # Whatever Keras' global policy or an old file say, no more than the backbone is of lower precision.
        super().__init__(**{**kwargs, "dtype": "float32"})
        if not 0 <= noise <= 10:
            raise ValueError(f"`noise` must be in [0, 10], in pixel units of [0, 1]. Received: {noise}.")
        inner_size = None if image_size is None else _reduced_size(image_size, pooling)
        self.pooling = keras.layers.AveragePooling2D(pooling, name="pooling", dtype="float32")
        self.noise = GaussianNoise(noise, name="noise", dtype="float32")
        self.backbone_name = backbone if isinstance(backbone, str) else None
        normalization: tuple[Sequence[float], Sequence[float], str] = (0.0,) * 3, (1.0,) * 3, "rgb"
        if isinstance(backbone, str):
            spec = backbone_spec(backbone)
            normalization = spec.mean, spec.std, spec.channel_order
            if inner_size is None:
                raise ValueError(f"{backbone} is built for one size of images. Received: no `image_size`. Give it.")
            self.precision = precision or "float32"
            with layers_of(self.precision):
                self.backbone: keras.Model = spec.build(inner_size)
        elif isinstance(backbone, keras.Model):
            inner_size, self.precision = input_size(backbone, inner_size), precision_of(backbone)
            if precision not in (None, self.precision):
                raise ValueError(
                    f"A model keeps the precision that it was built in, {self.precision}. Received: {precision!r}. "
                    "Build it under `keras.config.set_dtype_policy`."
                )
            self.backbone = backbone
        else:
            raise ValueError(f"`backbone` must be a name or a Keras model. Received: a {type(backbone).__name__}.")
        height, width, _ = image_shape(inner_size)
        self.image_size = image_size_of((height * pooling, width * pooling, 3))
        self.pixel_normalization = PixelNormalization(
            normalization[0] if mean is None else mean,
            normalization[1] if std is None else std,
            normalization[2] if channel_order is None else channel_order,
            name="pixel_normalization",
            dtype="float32",
        )
        self.num_features = feature_shape(self.backbone, inner_size)[-1]

    def features(self, images: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Return f(x): images float32 (B, H, W, 3) in [0, 1] -> float32 (B, F).

        Type and size are checked, pixels are not: attacks ask for slopes outside of the range too.

        Raises:
            ValueError: the images are not floats of the model's size.
        """
        images = shaped_images(images, self.image_size)
        if images.shape[0] == 0:
            return tf.zeros((0, self.num_features))
        return self.reduced_features(self.reduced(images), training)

    def reduced(self, images: tf.Tensor) -> tf.Tensor:
        """Return the means of s x s pixels: float32 (B, H, W, 3) -> float32 (B, H / s, W / s, 3)."""
        return images if self.pooling_side == 1 else self.pooling(images)

    def reduced_features(self, pixels: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Return the features of what `reduced` returns, of any range: float32 (B, F)."""
        return self.pooled(self.backbone(self.normalized(pixels, training), training=training))

    def normalized(self, pixels: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Return what the backbone sees of what `reduced` returns: with noise in training, normalized."""
        if training and self.noise.stddev:
            pixels = self.noise(pixels, training=True)
        return self.pixel_normalization(pixels)

    def stages(self) -> list[keras.layers.Layer]:
        """Return the layers and models that images go through, in their order."""
        front = [] if self.pooling_side == 1 else [self.pooling]
        shape = feature_shape(self.backbone, _reduced_size(self.image_size, self.pooling_side))
        behind = []
        if len(shape) == 4:
            behind = [keras.layers.GlobalAveragePooling2D(name="features_mean")]
            behind[0](keras.Input(shape[1:]))
        return [*front, self.noise, self.pixel_normalization, self.backbone, *behind]

    @property
    def pooling_side(self) -> int:
        """s, the side of the squares of pixels that are pooled; 1 for none."""
        return self.pooling.pool_size[0]

    def pooled(self, features: tf.Tensor) -> tf.Tensor:
        """Return what the backbone returns, (B, F) or averaged over the places of (B, H, W, F), as float32 (B, F)."""
        features = tf.cast(features, tf.float32)
        return tf.reduce_mean(features, axis=(1, 2)) if features.shape.rank == 4 else features

    def relax(self, features: tf.Tensor, alpha: float | tf.Tensor = 1.0) -> tf.Tensor:
        """Return what gradient attacks climb on: features float32 (B, F) -> float32 (B, K)."""
        raise NotImplementedError(f"{type(self).__name__} must implement `relax`.")

    def call(self, images: tf.Tensor, alpha: float | tf.Tensor = 1.0, training: bool = False) -> tf.Tensor:
        """Return `relax` of the features of images float32 (B, H, W, 3) in [0, 1]: float32 (B, K)."""
        return self.relax(self.features(images, training), alpha=alpha)

    def predict(self, x: Any, **options: Any) -> np.ndarray:
        """Predict as Keras does, from images that are checked where they are in memory; none give an empty result.

        Raises:
            ValueError: as `saat_tf.images.checked_images`.
        """
        check_images_in_memory(x, self.image_size)
        return self(x).numpy() if is_array(x) and not len(x) else super().predict(x, **options)

    def with_precision(self, precision: Precision) -> "ImageModel":
        """Return a model with the same weights whose backbone computes in another precision.

        Raises:
            ValueError: unknown precision; or the backbone is a model of the caller and `precision` not "float32".
        """
        if self.backbone_name is None and precision == self.precision:
            return self
        if self.backbone_name is not None:
            copy = type(self)(**{**self.arguments(), "precision": precision})
            copy.set_weights(self.get_weights())
            return copy
        if precision != "float32":
            raise ValueError(
                f"A backbone that is a model of your own can be copied in float32. Received: {precision!r}. Build it "
                "under `keras.config.set_dtype_policy`."
            )
        return self._with_backbone(in_float32(self.backbone))

    def for_inference(self) -> "ImageModel":
        """Return a model of the same outputs up to rounding that infers faster, with the weights of now.

        Batch norm is folded into convolutions (`saat_tf.backbones.fold`). The model itself is returned where there is
        nothing to fold, or its backbone computes in 16 bits, whose rounding folding would change.
        """
        # New layers draw initial values, which are overwritten: what is drawn later must not depend on that.
        drawn = random.getstate()
        try:
            backbone = folded(self.backbone) if self.precision == "float32" else None
            return self if backbone is None else self._with_backbone(backbone)
        finally:
            random.setstate(drawn)

    def _with_backbone(self, backbone: keras.Model) -> "ImageModel":
        """Return a model like this one, with the same weights behind and in front of another backbone."""
        model = type(self)(**{**self.arguments(), "backbone": backbone, "precision": None})
        for ours, theirs in zip(self.layers, model.layers, strict=True):
            if ours is not self.backbone:
                theirs.set_weights(ours.get_weights())
        return model

    def arguments(self) -> dict:
        """Return the constructor's arguments, the backbone as a name or as the model itself."""
        normalization = self.pixel_normalization
        return {
            "backbone": self.backbone_name or self.backbone,
            "image_size": self.image_size,
            "mean": normalization.mean,
            "std": normalization.std,
            "channel_order": normalization.channel_order,
            "precision": self.precision,
            "pooling": self.pooling_side,
            "noise": self.noise.stddev,
        }

    def get_config(self) -> dict:
        """Return the constructor's arguments, a model among them by its own configuration."""
        arguments = self.arguments()
        if self.backbone_name is None:
            arguments["backbone"] = keras.saving.serialize_keras_object(self.backbone)
        return {**super().get_config(), **arguments}

    @classmethod
    def from_config(cls, config: dict) -> "ImageModel":
        """Make a model, its weights at random, from `get_config`."""
        backbone = config["backbone"]
        if isinstance(backbone, dict):
            backbone = keras.saving.deserialize_keras_object(backbone)
        return cls(**{**config, "backbone": backbone})


def _reduced_size(image_size: ImageSize, pooling: int) -> ImageSize:
    """Return the size of what is left of images of a size after pooling."""
    height, width, _ = image_shape(image_size)
    if pooling < 1 or height % pooling or width % pooling:
        raise ValueError(
            f"`pooling` must be at least 1 and divide the image size. Received: {pooling} for {image_size}."
        )
    return image_size_of((height // pooling, width // pooling, 3))
