"""Certified training: bounds of the logits over the whole ball are pushed to the right side."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from saat_tf.certify.intervals import Interval, step_interval
from saat_tf.certify.rules import batch_norm, layer_steps, network_layers, network_steps
from saat_tf.certify.steps import Step
from saat_tf.layers import CodeBank, HashHead
from saat_tf.losses import HashingLoss, quantization_loss
from saat_tf.models.hashing_model import HashingModel
from saat_tf.models.saat import SAAT
from saat_tf.replicas import refuse_several

# Shi et al. ask that bounds widen to no more than twice from layer to layer on average, early in training.
TIGHTNESS = 0.5
TIGHTNESS_WEIGHT = 0.5


@keras.saving.register_keras_serializable(package="saat_tf")
class BoundTraining(SAAT):
    """Train a hashing model so that interval bounds certify its bits.

    For each batch (x, y, index), with the target t = mainstay(y) and bounds [low, up] of the logits z over the ball:

        L_bound = mean_k softplus(-min over [low_k, up_k] of t_k z_k)
        L = L_hash(h(x), y) + lambda ((1 - a) L_adv(h(x')) + a L_bound) + mu mean((h(x') - sign h(x'))^2)

    The bounds are those of `saat_tf.certify.intervals`; batch norm in them has the statistics of the clean batch. Their
    radius grows from 0 to epsilon over the first steps, and that of the inner attack is epsilon throughout. While it
    grows, layers whose bounds widen fast are penalized. The bank keeps the codes of the model that training starts
    from, so that targets stand still.

    Args:
        encoder: the model to train, a chain of layers with rules; see `saat_tf.certify.rules`.
        code_bank: codes and labels of the training set; None where `adapt` is to make it.
        hashing_loss: L_hash; by default `DPH`.
        bound_share: a, in (0, 1]; with 1 no adversarial image is made.
        ramp_steps: steps over which the radius of the bounds grows, at least 0.
        from_scratch: whether `prepare` draws the weights anew, as wide as suits bounds, after it has filled the bank.
        **options: those of `SAAT`.

    Raises:
        ValueError: a layer of the encoder without a rule, or a number out of its range.

    Example:
        >>> from saat_tf.losses import DPH
        >>> encoder = HashingModel("small_cnn", code_length=16, image_size=32)
        >>> bank = CodeBank.from_labels(np.eye(4), code_length=16)
        >>> training = BoundTraining(encoder, bank, DPH(), epsilon=2 / 255, ramp_steps=100)
        >>> training.compile(optimizer="sgd")

    References:
        Gowal et al., "On the Effectiveness of Interval Bound Propagation for Training Verifiably Robust Models", ICCV
        2019; De Palma et al., "Expressive Losses for Verified Robustness via Convex Combinations", ICLR 2024, for the
        mixture; Shi et al., "Fast Certified Robust Training with Short Warmup", NeurIPS 2021, for initialization,
        batch norm and tightness; of their regularizers, that of balanced ReLUs is left out.
    """

    LOSSES = (*SAAT.LOSSES, "bound_loss")

    def __init__(
        self,
        encoder: HashingModel,
        code_bank: CodeBank | None = None,
        hashing_loss: HashingLoss | None = None,
        *,
        bound_share: float = 0.5,
        ramp_steps: int = 0,
        from_scratch: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(encoder, code_bank, hashing_loss, **options)
        if not 0 < bound_share <= 1 or ramp_steps < 0:
            raise ValueError(
                "`bound_share` must be in (0, 1] and `ramp_steps` at least 0. Received: "
                f"{bound_share} and {ramp_steps}."
            )
        network_steps(encoder)
        self.bound_share, self.ramp_steps, self.from_scratch = bound_share, ramp_steps, from_scratch

    def prepare(self, dataset: tf.data.Dataset) -> None:
        """Fill the bank, then draw the weights anew where asked to."""
        super().prepare(dataset)
        if self.from_scratch:
            initialize_for_bounds(self.encoder, self.seed)

    def learn_batch(self, images: tf.Tensor, labels: tf.Tensor, index: tf.Tensor) -> dict:
        """Do one step on images (B, S, S, 3), labels (B, C) and index (B,)."""
        refuse_several("Training by bounds", "Leave --devices at one.")
        targets, attacked = self.target_codes(labels), self.bound_share < 1
        adversarial_images = self.perturb(images, -targets, index) if attacked else images
        with self.perturbed_weights(adversarial_images, labels), tf.GradientTape() as tape:
            tape.watch(adversarial_images)
            # Before the clean pass, so that batch statistics end with those of clean images.
            adversarial_codes = self.encoder(adversarial_images, training=True) if attacked else None
            logits, box, widening = bounded_logits(self.encoder, images, self.radius())
            relaxed_codes = tf.tanh(self.hashing_loss.alpha() * logits)
            adversarial_codes = relaxed_codes if adversarial_codes is None else adversarial_codes
            losses = self.mixed_losses(relaxed_codes, adversarial_codes, labels, bound_loss(box, targets))
            losses["loss"] += TIGHTNESS_WEIGHT * (1 - self.progress()) * widening
        self.learn(tape, losses["loss"], images, adversarial_images)
        return self.report(images, **losses)

    def mixed_losses(
        self, relaxed_codes: tf.Tensor, adversarial_codes: tf.Tensor, labels: tf.Tensor, bound: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        """Return L of h and h', float (B, K), for the labels (B, C) of their images and L_bound, and its parts."""
        hashing = self.hashing_loss(relaxed_codes, labels, code_bank=self.code_bank)
        adversarial = self.adversarial_loss(adversarial_codes, labels)
        quantization = quantization_loss(adversarial_codes)
        refinements = self.refinement_losses(relaxed_codes, adversarial_codes, labels)
        mixture = (1 - self.bound_share) * adversarial + self.bound_share * bound
        loss = hashing + self.adversarial_weight * mixture + self.quantization_weight * quantization
        loss += self.weighted(refinements)
        parts = {"hashing_loss": hashing, "adversarial_loss": adversarial, "quantization_loss": quantization}
        return {"loss": loss, **parts, "bound_loss": bound, **refinements}

    def test_batch(self, images: tf.Tensor, labels: tf.Tensor) -> dict:
        """Report the losses of images (B, S, S, 3) with labels (B, C), at the whole radius and in inference mode."""
        targets, epsilon = self.target_codes(labels), self.threat_model.epsilon
        adversarial_images = self.perturb_to_test(images, -targets) if self.bound_share < 1 else images
        box = Interval(tf.maximum(images - epsilon, 0.0), tf.minimum(images + epsilon, 1.0))
        for step in network_steps(self.encoder):
            box = step_interval(step, box, rounding=False)
        relaxed_codes = self.encoder(images, alpha=self.hashing_loss.alpha(), training=False)
        adversarial_codes = self.encoder(adversarial_images, training=False)
        losses = self.mixed_losses(relaxed_codes, adversarial_codes, labels, bound_loss(box, targets))
        return self.report(images, **losses)

    def progress(self) -> tf.Tensor:
        """Return how far the radius has grown: float32 scalar in [0, 1]."""
        step = tf.cast(self.optimizer.iterations, tf.float32) + 1.0
        return tf.minimum(1.0, step / max(1, self.ramp_steps))

    def radius(self) -> tf.Tensor:
        """Return the radius of the bounds at this step, float32 scalar, in pixel units of [0, 1]."""
        return self.threat_model.epsilon * self.progress()

    def get_config(self) -> dict:
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "bound_share": self.bound_share,
            "ramp_steps": self.ramp_steps,
            "from_scratch": self.from_scratch,
        }


def bounded_logits(
    encoder: HashingModel, images: tf.Tensor, epsilon: float | tf.Tensor
) -> tuple[tf.Tensor, Interval, tf.Tensor]:
    """Return clean logits in training mode, their bounds over the ball, and how much too fast bounds widen.

    Args:
        encoder: a chain of layers with rules.
        images: float32 (B, S, S, 3) in [0, 1].
        epsilon: radius in pixel units of [0, 1].

    Returns:
        z, float32 (B, K); bounds of it, with batch norm by the statistics of `images`; and the mean over the layers in
        front of activations of max(0, 1/2 - mean width of the pixels' box / mean width of the layer's), a scalar.
    """
    clean = images
    box = Interval(tf.maximum(images - epsilon, 0.0), tf.minimum(images + epsilon, 1.0))
    widths = []
    for layer in network_layers(encoder):
        if isinstance(layer, keras.layers.InputLayer):
            continue
        if isinstance(layer, keras.layers.BatchNormalization):
            steps: list[Step] = [batch_norm(layer, *tf.nn.moments(clean, list(range(len(clean.shape) - 1))))]
        else:
            steps = layer_steps(layer)
        for step in steps:
            if getattr(step, "is_relu", False):
                widths.append(tf.reduce_mean(box.high - box.low))
            box = step_interval(step, box, rounding=False)
        clean = layer.logits(clean) if isinstance(layer, HashHead) else layer(clean, training=True)
    # Normalization, which widens by 1 / std, is part of the first width.
    ratios = [tf.math.divide_no_nan(widths[0], width) for width in widths[1:]]
    widening = tf.add_n([tf.maximum(0.0, TIGHTNESS - ratio) for ratio in ratios]) / len(ratios) if ratios else 0.0
    return clean, box, tf.convert_to_tensor(widening)


def bound_loss(box: Interval, targets: tf.Tensor) -> tf.Tensor:
    """Return mean_k softplus(-min t_k z_k) over z in the box (B, K), for targets (B, K) of -1 and +1: a scalar.

    Example:
        >>> box = Interval(tf.constant([[0.0]]), tf.constant([[2.0]]))
        >>> round(float(bound_loss(box, tf.constant([[1.0]]))), 3), round(float(bound_loss(box, -tf.ones((1, 1)))), 3)
        (0.693, 2.127)
    """
    return tf.reduce_mean(tf.nn.softplus(-tf.where(targets > 0, box.low, -box.high)))


def initialize_for_bounds(encoder: HashingModel, seed: int) -> None:
    """Draw kernels from N(0, 2 pi / n^2), n the entries that one output sums, so that bounds keep their width.

    Biases become 0, and batch norm what it begins as. |W| r has then the mean 2 r over a box of radius r, of which the
    ReLU behind halves the width.

    Args:
        encoder: its weights are replaced.
        seed: of the draws.
    """
    random = np.random.default_rng(seed)
    for layer in encoder._flatten_layers():
        if isinstance(layer, keras.layers.Conv2D | keras.layers.Dense):
            shape = layer.kernel.shape
            fan_in = int(np.prod(shape[:-1]))
            layer.kernel.assign(random.normal(0.0, np.sqrt(2 * np.pi) / fan_in, shape))
            if layer.use_bias:
                layer.bias.assign(tf.zeros_like(layer.bias))
        elif isinstance(layer, keras.layers.BatchNormalization):
            for weight, value in zip(layer.weights, (1.0, 0.0, 0.0, 1.0), strict=True):
                weight.assign(tf.fill(weight.shape, value))
