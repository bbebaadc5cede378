"""No pass of its own: pixels move by the backward pass that trains the weights."""

from typing import Any

import keras
import tensorflow as tf

from saat_tf.images import ImageSize, image_shape
from saat_tf.models.inner.base import InnerAttack, InnerStep
from saat_tf.replicas import refuse_several
from saat_tf.threat_model import ThreatModel


@keras.saving.register_keras_serializable(package="saat_tf")
class Free(InnerAttack, keras.layers.Layer):
    """One perturbation for all batches, which each step's own backward pass moves on; each batch comes several times.

        x' = clip(x + delta, 0, 1);   w <- optimizer(grad_w L(x'));   delta <- clip(delta + epsilon sign(grad_x' L(x')))

    Both gradients are of one backward pass. delta belongs to the place in the batch and not to an image, begins as
    zero, and lives on from batch to batch; for an image to be attacked at all, a batch must be fed `replays` times in a
    row, as `saat_tf.data.replayed` does. A last batch of fewer images leaves the rest of delta as it is. The slopes are
    those at x': pixels that the range cuts off move on. Trains on one replica.

    Args:
        batch_size: most images that a batch has.
        image_size: side of the images in pixels, or (height, width).
        replays: how often a batch is fed; 8 was best on CIFAR-10, 4 on ImageNet.

    Raises:
        ValueError: `replays` is below 1.

    Example:
        >>> free = Free(batch_size=32, image_size=16)
        >>> free.passes, free.replays, tuple(free.delta.shape)
        (0, 4, (32, 16, 16, 3))

    References:
        Shafahi et al., "Adversarial Training for Free!", NeurIPS 2019, Algorithm 1.
    """

    passes = 0
    uses_training_gradients = True

    def __init__(self, *, batch_size: int, image_size: ImageSize, replays: int = 4, **kwargs: Any) -> None:
        super().__init__(**{"name": "free", **kwargs, "dtype": "float32"})
        if replays < 1:
            raise ValueError(f"`replays` must be at least 1. Received: {replays}. Usual is 4 or 8.")
        self.batch_size = batch_size
        self.image_size = image_size
        self.replays = replays
        shape = (batch_size, *image_shape(image_size))
        self.delta = self.add_weight(name="delta", shape=shape, initializer="zeros", trainable=False, autocast=False)
        self.built = True

    def perturb(self, step: InnerStep, images: tf.Tensor, wanted_codes: tf.Tensor) -> tf.Tensor:
        """Return the images with the perturbation as it is."""
        refuse_several("`Free`", "Use NFGSM or Steps on several.")
        rows = tf.shape(images)[0]
        message = f"A batch must have at most the {self.batch_size} images that `Free` was made for."
        if (images.shape[0] or 0) > self.batch_size:  # XLA, which knows all shapes, drops checks in the graph
            raise ValueError(f"{message} Received: {images.shape[0]}.")
        with tf.control_dependencies([tf.debugging.Assert(rows <= self.batch_size, [message, rows])]):
            return step.threat_model.project(images + self.delta.value[:rows], images)

    def update_from_training(self, slopes: tf.Tensor, threat_model: ThreatModel) -> None:
        """Move the perturbation up the loss."""
        rows, epsilon = tf.shape(slopes)[0], threat_model.epsilon
        delta = tf.convert_to_tensor(self.delta.value)
        # A scaled loss can overflow in half precision: then the pixel stays where it is.
        ascent = tf.sign(tf.where(tf.math.is_finite(slopes), slopes, 0.0))
        moved = tf.clip_by_value(delta[:rows] + epsilon * ascent, -epsilon, epsilon)
        self.delta.assign(tf.concat([moved, delta[rows:]], axis=0))

    def get_config(self) -> dict:
        """Return the constructor's arguments."""
        own = {"batch_size": self.batch_size, "image_size": self.image_size, "replays": self.replays}
        return {**super().get_config(), **own}
