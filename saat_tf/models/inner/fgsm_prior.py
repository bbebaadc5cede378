"""One step that begins where the epoch before has ended."""

from typing import Any

import keras
import tensorflow as tf

from saat_tf.attacks import alignment
from saat_tf.attacks.gradients import gain_and_slopes
from saat_tf.images import ImageSize, image_shape
from saat_tf.models.inner.base import InnerAttack, InnerStep
from saat_tf.replicas import refuse_several


@keras.saving.register_keras_serializable(package="saat_tf")
class FGSMPrior(InnerAttack, keras.layers.Layer):
    """One step of the whole radius from the perturbation that the image had in the epoch before.

        x_0 = project(x + delta_i);   x' = project(x_0 + epsilon sign(grad mean_k h_k(x_0) t_k));   delta_i <- x' - x

    so attacks of several epochs add up to one of several steps. The first start of an image is a random corner of the
    ball. Perturbations are kept as float16, 6 S^2 bytes an image (48 MB for 2,000 of 64 pixels, 1.5 GB for 5,000 of
    224), and are part of checkpoints.

    A mirrored image is met by a mirrored perturbation: which of its two views an image is shows in its own pixels,
    namely whether its left or its right is brighter. Random crops are not tracked and must not be fed, nor views that
    differ in more than a mirror neither. Trains on one replica.

    Args:
        num_items: N, images of the training set.
        image_size: S, their side in pixels, or (height, width).

    Example:
        >>> tuple(FGSMPrior(num_items=10, image_size=16).delta.shape)
        (10, 16, 16, 3)

    References:
        Jia et al., "Prior-Guided Adversarial Initialization for Fast Adversarial Training", ECCV 2022 (FGSM-EP).
        Zheng et al., "Efficient Adversarial Training with Transferable Adversarial Examples", CVPR 2020 (ATTA).

    Differs from the first: without the regularizer, whose gradient takes a second pass through the weights, and
    without fresh starts every 40 epochs, since runs here are shorter.
    """

    passes = 1
    needs_index = True

    def __init__(self, *, num_items: int, image_size: ImageSize, **kwargs: Any) -> None:
        super().__init__(**{"name": "fgsm_prior", **kwargs, "dtype": "float32"})
        self.num_items = num_items
        self.image_size = image_size
        shape = (num_items, *image_shape(image_size))
        self.delta = self.add_weight(
            name="delta", shape=shape, dtype="float16", initializer="zeros", trainable=False, autocast=False
        )
        self.built = True

    def perturb(self, step: InnerStep, images: tf.Tensor, wanted_codes: tf.Tensor) -> tf.Tensor:
        """Return adversarial images inside the ball, and keep their perturbations."""
        refuse_several("`FGSMPrior`", "Use NFGSM or Steps on several.")
        if step.index is None:
            raise ValueError("`FGSMPrior` keeps a perturbation for each image: it needs batches with an index.")
        images = tf.convert_to_tensor(images)
        ball, index, mirrored = step.threat_model, tf.cast(step.index, tf.int64), is_mirrored(images)
        kept = tf.cast(tf.gather(self.delta.value, index), tf.float32)
        is_new = tf.reduce_all(kept == 0.0, axis=(1, 2, 3), keepdims=True)
        corner = ball.epsilon * tf.sign(ball.random_start(images, step.seed) - images)
        start = ball.project(images + tf.where(is_new, corner, _mirror_where(mirrored, kept)), images)
        _, slopes = gain_and_slopes(step.relax, alignment, start, wanted_codes)
        adversarial_images = ball.project(start + ball.epsilon * tf.sign(slopes), images)
        delta = tf.cast(_mirror_where(mirrored, adversarial_images - images), tf.float16)
        self.delta.value.scatter_update(tf.IndexedSlices(delta, index))
        return tf.stop_gradient(adversarial_images)

    def get_config(self) -> dict:
        """Return the constructor's arguments."""
        return {**super().get_config(), "num_items": self.num_items, "image_size": self.image_size}


def is_mirrored(images: tf.Tensor) -> tf.Tensor:
    """Tell of each image (B, S, S, 3) whether its right is brighter than its left: bool (B, 1, 1, 1).

    Mirroring an image changes the answer, to the bit: each term of the sum only changes its sign. An image whose halves
    are alike has no sides.

    Example:
        >>> image = tf.constant([0.1, 0.2, 0.4, 0.3])[None, None, :, None] * tf.ones((1, 4, 4, 3))
        >>> is_mirrored(image).numpy().item(), is_mirrored(tf.reverse(image, [2])).numpy().item()
        (True, False)
    """
    half = images.shape[2] // 2
    difference = (images - tf.reverse(images, [2]))[:, :, :half]  # left less right
    return tf.reduce_sum(difference, axis=(1, 2, 3), keepdims=True) < 0.0


def _mirror_where(mirrored: tf.Tensor, perturbations: tf.Tensor) -> tf.Tensor:
    return tf.where(mirrored, tf.reverse(perturbations, [2]), perturbations)
