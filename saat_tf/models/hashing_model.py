"""The encoder: images in, codes out."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from saat_tf.codes import check_packable, pack_codes
from saat_tf.images import ImageSize, checked_images, image_shape, shaped_images, valid_images
from saat_tf.layers import HashHead
from saat_tf.models.image_model import ImageModel
from saat_tf.models.preset_files import load_preset, save_preset


@keras.saving.register_keras_serializable(package="saat_tf")
class HashingModel(ImageModel):
    """A deep hashing model: h(x; alpha) = tanh(alpha z(x)), hash code sign(z(x)).

    Pixel normalization is inside, so images are always float32 in [0, 1]. This is the part that is exported; how it
    is trained is the matter of `HashingTraining` and `SAAT`, which contain one.

    Args:
        backbone: a name in `saat_tf.backbones.BACKBONES`; or a Keras model from images (B, H, W, 3) to features (B, F)
            or to a map of them (B, H, W, F), which is averaged over its places.
        code_length: K, the number of bits.
        image_size: side of the square input in pixels, or (height, width); by default that of a model's own input.
        orthogonal_head: whether the logits' matrix is kept orthonormal, for certificates by margins.
        **options: those of `ImageModel`: `mean`, `std` and `channel_order`, the normalization in front of the backbone,
            which is that of the name, and nothing in front of a model; `precision`; `pooling` in front of the backbone
            and `noise` in training.

    Returns:
        Called on images float32 (B, H, W, 3): relaxed codes, float32 (B, K) in [-1, 1].

    Raises:
        ValueError: unknown backbone or precision, an image size or code length that cannot be, or a model that takes no
            images or returns no features.

    Example:
        >>> model = HashingModel("small_cnn", code_length=16, image_size=32)
        >>> model.encode(tf.zeros((2, 32, 32, 3))).shape
        TensorShape([2, 2])
        >>> network = keras.Sequential([keras.Input((8, 12, 3)), keras.layers.Conv2D(4, 3, activation="relu")])
        >>> HashingModel(network, code_length=16).encode(tf.zeros((2, 8, 12, 3))).shape
        TensorShape([2, 2])
    """

    def __init__(
        self,
        backbone: str | keras.Model,
        code_length: int,
        image_size: ImageSize | None = None,
        *,
        orthogonal_head: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(backbone, image_size, **options)
        self.code_length = code_length
        self.hash_head = HashHead(code_length, orthogonal=orthogonal_head, name="hash_head", dtype="float32")
        self.hash_head.build((None, self.num_features))
        self.built = True

    def logits(self, images: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Return z: images float32 (B, H, W, 3) in [0, 1] -> float32 (B, K)."""
        return self.hash_head.logits(self.features(images, training))

    def reduced_logits(self, pixels: tf.Tensor) -> tf.Tensor:
        """Return z of what `reduced` returns, of any range: float32 (B, K)."""
        return self.hash_head.logits(self.reduced_features(pixels))

    def stages(self) -> list[keras.layers.Layer]:
        """Return the layers and models from images to logits, in their order."""
        return [*super().stages(), self.hash_head]

    def relax(self, features: tf.Tensor, alpha: float | tf.Tensor = 1.0) -> tf.Tensor:
        """Return h = tanh(alpha z): features float32 (B, F) -> float32 (B, K) in [-1, 1]."""
        return self.hash_head(features, alpha=alpha)

    def encode(self, images: tf.Tensor) -> tf.Tensor:
        """Return packed codes: images float32 (B, H, W, 3) in [0, 1] -> uint8 (B, K / 8), most significant bit first.

        Raises:
            ValueError: the images are not floats of the model's size, a pixel is NaN, infinite or outside of [0, 1],
                or K is not a multiple of 8.
        """
        check_packable(self.code_length)
        images = checked_images(images, self.image_size)
        if images.shape[0] == 0:
            return pack_codes(tf.zeros((0, self.code_length)))
        return self._encode(images)

    def encode_valid(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        """Return for graphs, which cannot refuse a single image, codes of zero for those that `encode` would refuse.

        Args:
            images: float32 (B, H, W, 3).

        Returns:
            `logits`, float32 (B, K); `packed_codes`, uint8 (B, K / 8); and `ok`, bool (B,), false for an image with a
            pixel that is NaN or outside of [0, 1], whose logits and codes are zero.

        Raises:
            ValueError: the images are not floats of the model's size.
        """
        images = shaped_images(images, self.image_size)
        ok, count = valid_images(images), tf.shape(images)[0]
        # A convolution of oneDNN, which TensorFlow takes on some CPUs, gives an empty batch a wrong shape.
        blank = tf.zeros((tf.cast(count == 0, tf.int32), *image_shape(self.image_size)))
        padded = tf.concat([images, blank], axis=0)
        logits = self.logits(padded)[:count]
        packed_codes = pack_codes(logits)
        return {
            "logits": tf.where(ok[:, None], logits, tf.zeros_like(logits)),
            "packed_codes": tf.where(ok[:, None], packed_codes, tf.zeros_like(packed_codes)),
            "ok": ok,
        }

    @classmethod
    def from_preset(cls, preset: str | Path) -> "HashingModel":
        """Load a trained model: a name in `saat_tf.presets()`, which needs no download, or a folder.

        Raises:
            FileNotFoundError: a file of the folder is missing.
            ValueError: there is no such preset, or it is damaged; see `saat_tf.models.preset_files.load_preset`.

        Example:
            >>> HashingModel.from_preset("scenes_32bits_saat_strong").code_length
            32
        """
        return load_preset(preset, cls)

    def save_to_preset(self, folder: str | Path, *, card: Mapping[str, Any], dtype: str = "float16") -> None:
        """Write the model as a preset; see `saat_tf.models.preset_files.save_preset`.

        Args:
            folder: made where it is missing; a preset in it is replaced.
            card: what is known of the model, such as `{"about": ..., "robustness": report.to_dict()}`.
            dtype: of the stored weights: "float16", half the bytes, or "float32".

        Raises:
            ValueError: an unknown dtype, or a weight is not finite in it.
        """
        save_preset(self, folder, card=card, dtype=dtype)

    @tf.function(reduce_retracing=True)
    def _encode(self, images: tf.Tensor) -> tf.Tensor:
        return pack_codes(self.logits(images))

    def arguments(self) -> dict:
        """Return the constructor's arguments, the backbone as a name or as the model itself."""
        orthogonal_head = self.hash_head.orthogonal
        return {**super().arguments(), "code_length": self.code_length, "orthogonal_head": orthogonal_head}
