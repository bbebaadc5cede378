"""The encoder: images in, codes out."""

import random

import keras
import tensorflow as tf

from saat_tf.backbones import backbone_spec
from saat_tf.backbones.fold import folded
from saat_tf.backbones.precision import Precision, layers_of
from saat_tf.codes import pack_codes
from saat_tf.images import checked_images, shaped_images, valid_images
from saat_tf.layers import HashHead, PixelNormalization


@keras.saving.register_keras_serializable(package="saat_tf")
class HashingModel(keras.Model):
    """A deep hashing model: h(x; alpha) = tanh(alpha z(x)), hash code sign(z(x)).

    Pixel normalization is inside, so images are always float32 in [0, 1]. This is the part that is exported; how it
    is trained is the matter of `HashingTraining` and `SAAT`, which hold one.

    Args:
        backbone: a name in `saat_tf.backbones.BACKBONES`.
        code_length: K, the number of bits.
        image_size: side of the square input in pixels.
        precision: in which the backbone computes: "float32"; or "mixed_bfloat16" or "mixed_float16", 16 bits with
            weights of 32. Pixels, their normalization, features and all behind them are float32.

    Returns:
        Called on images float32 (B, S, S, 3): relaxed codes, float32 (B, K) in [-1, 1].

    Raises:
        ValueError: unknown backbone or precision, or an image size or code length that cannot be.

    Example:
        >>> model = HashingModel("small_cnn", code_length=16, image_size=32)
        >>> model.encode(tf.zeros((2, 32, 32, 3))).shape
        TensorShape([2, 2])
    """

    def __init__(
        self,
        backbone: str,
        code_length: int,
        image_size: int,
        *,
        precision: Precision = "float32",
        **kwargs,
    ) -> None:
        # Whatever Keras' global policy or an old file say, no more than the backbone is of lower precision.
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.backbone_name = backbone
        self.code_length = code_length
        self.image_size = image_size
        self.precision = precision
        spec = backbone_spec(backbone)
        self.pixel_normalization = PixelNormalization(
            spec.mean, spec.std, spec.channel_order, name="pixel_normalization", dtype="float32"
        )
        with layers_of(precision):
            self.backbone = spec.build(image_size)
        self.hash_head = HashHead(code_length, name="hash_head", dtype="float32")
        self.hash_head.build(self.backbone.output_shape)
        self.built = True

    def logits(self, images: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Return z: images float32 (B, S, S, 3) in [0, 1] -> float32 (B, K)."""
        return self.hash_head.logits(self._features(images, training))

    def call(self, images: tf.Tensor, alpha: float | tf.Tensor = 1.0, training: bool = False) -> tf.Tensor:
        """Return h = tanh(alpha z): images float32 (B, S, S, 3) in [0, 1] -> float32 (B, K) in [-1, 1].

        Type and size are checked, pixels are not: attacks ask for slopes outside of the range too.

        Raises:
            ValueError: the images are not floats of the model's size.
        """
        return self.hash_head(self._features(images, training), alpha=alpha)

    def encode(self, images: tf.Tensor) -> tf.Tensor:
        """Return packed codes: images float32 (B, S, S, 3) in [0, 1] -> uint8 (B, K / 8), most significant bit first.

        Raises:
            ValueError: the images are not floats of the model's size, a pixel is NaN, infinite or outside of [0, 1],
                or K is not a multiple of 8.
        """
        images = checked_images(images, self.image_size)
        if images.shape[0] == 0:
            return pack_codes(tf.zeros((0, self.code_length)))
        return self._encode(images)

    def encode_valid(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        """Return for graphs, which cannot refuse a single image, codes of zero for those that `encode` would refuse.

        Args:
            images: float32 (B, S, S, 3).

        Returns:
            `logits`, float32 (B, K); `packed_codes`, uint8 (B, K / 8); and `ok`, bool (B,), false for an image with a
            pixel that is NaN or outside of [0, 1], whose logits and codes are zero.

        Raises:
            ValueError: the images are not floats of the model's size.
        """
        images = shaped_images(images, self.image_size)
        ok, count = valid_images(images), tf.shape(images)[0]
        # A convolution of oneDNN, which TensorFlow takes on some CPUs, gives an empty batch a wrong shape.
        side = self.image_size
        padded = tf.concat([images, tf.zeros((tf.cast(count == 0, tf.int32), side, side, 3))], axis=0)
        logits = self.logits(padded)[:count]
        packed_codes = pack_codes(logits)
        return {
            "logits": tf.where(ok[:, None], logits, tf.zeros_like(logits)),
            "packed_codes": tf.where(ok[:, None], packed_codes, tf.zeros_like(packed_codes)),
            "ok": ok,
        }

    @tf.function(reduce_retracing=True)
    def _encode(self, images: tf.Tensor) -> tf.Tensor:
        return pack_codes(self.logits(images))

    def _features(self, images: tf.Tensor, training: bool) -> tf.Tensor:
        images = shaped_images(images, self.image_size)
        if images.shape[0] == 0:
            return tf.zeros((0, self.backbone.output_shape[-1]))
        features = self.backbone(self.pixel_normalization(images), training=training)
        return tf.cast(features, tf.float32)

    def with_precision(self, precision: Precision) -> "HashingModel":
        """Return a copy with the same weights whose backbone computes in another precision."""
        copy = type(self).from_config({**self.get_config(), "precision": precision})
        copy.set_weights(self.get_weights())
        return copy

    def for_inference(self) -> "HashingModel":
        """Return a model of the same codes up to rounding that infers faster, with the weights of now.

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
            "code_length": self.code_length,
            "image_size": self.image_size,
            "precision": self.precision,
        }
