"""A classifier: images in, log-probabilities of the classes out."""

from typing import Any

import keras
import tensorflow as tf

from saat_tf.images import ImageSize
from saat_tf.models.image_model import ImageModel


@keras.saving.register_keras_serializable(package="saat_tf")
class Classifier(ImageModel):
    """A backbone with a linear head: log p = log softmax(alpha (W f(x) + b)).

    Pixel normalization is inside, so images are always float32 in [0, 1].

    Args:
        backbone: a name in `saat_tf.backbones.BACKBONES`, or a Keras model from images to features.
        num_classes: C, at least 2.
        image_size: side of the square input in pixels, or (height, width); by default that of a model's own input.
        **options: those of `ImageModel`; the head is float32.

    Returns:
        Called on images float32 (B, H, W, 3): log-probabilities, float32 (B, C).

    Raises:
        ValueError: unknown backbone or precision, or an image size or number of classes that cannot be.

    Example:
        >>> classifier = Classifier("small_cnn", num_classes=3, image_size=32)
        >>> tf.reduce_sum(tf.exp(classifier(tf.zeros((2, 32, 32, 3)))), axis=1).numpy().round(5).tolist()
        [1.0, 1.0]
    """

    def __init__(
        self, backbone: str | keras.Model, num_classes: int, image_size: ImageSize | None = None, **options: Any
    ) -> None:
        if num_classes < 2:
            raise ValueError(f"`num_classes` must be at least 2. Received: {num_classes}.")
        super().__init__(backbone, image_size, **options)
        self.num_classes = num_classes
        self.head = keras.layers.Dense(num_classes, name="head", dtype="float32")
        self.head.build((None, self.num_features))
        self.built = True

    def relax(self, features: tf.Tensor, alpha: float | tf.Tensor = 1.0) -> tf.Tensor:
        """Return log p: features float32 (B, F) -> float32 (B, C)."""
        return tf.nn.log_softmax(alpha * self.head(features))

    def arguments(self) -> dict:
        """Return the constructor's arguments, the backbone as a name or as the model itself."""
        return {**super().arguments(), "num_classes": self.num_classes}
