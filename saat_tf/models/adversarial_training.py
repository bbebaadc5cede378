"""Base of the adversarially trained models of codes: both codes of an image, refinements of the outer step."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import keras
import tensorflow as tf

from saat_tf.layers import CodeBank
from saat_tf.losses import HashingLoss, consistency_loss
from saat_tf.models.adversarial_step import AdversarialStep, assign, values_of
from saat_tf.models.bank_rows import BankRows
from saat_tf.models.code_training import CodeTraining
from saat_tf.models.hashing_model import HashingModel
from saat_tf.models.inner import InnerAttack, Steps
from saat_tf.models.refinements import Refinements
from saat_tf.replicas import refuse_several

NONE = Refinements()


class AdversarialTraining(AdversarialStep, CodeTraining):
    """Base of `SAAT`, `CgAT` and `ATRDH`, whose `train_step` makes adversarial images and learns from them.

    Args:
        encoder: the model to train.
        code_bank: codes and labels of the training set; None where `adapt` is to make it.
        hashing_loss: L_hash; by default `DPH`.
        step_size: step of the inner PGD in pixel units of [0, 1].
        num_steps: steps of the inner PGD.
        inner: inner attack instead of PGD by `step_size` and `num_steps`: one of `saat_tf.models.inner`.
        refinements: what the step does beyond the paper; nothing by default.
        **options: those of `AdversarialStep`: epsilon, inner_training, which the authors have at "training", and seed.

    Raises:
        ValueError: a number out of its range, or an unknown `inner_training`.
    """

    LOSSES: tuple[str, ...] = ("loss", "hashing_loss", "adversarial_loss")

    def __init__(
        self,
        encoder: HashingModel,
        code_bank: CodeBank | None = None,
        hashing_loss: HashingLoss | None = None,
        *,
        step_size: float = 2 / 255,
        num_steps: int = 7,
        inner: InnerAttack | None = None,
        refinements: Refinements = NONE,
        **options: Any,
    ) -> None:
        inner = Steps(num_steps=num_steps, step_size=step_size) if inner is None else inner
        super().__init__(encoder, code_bank, hashing_loss, inner=inner, **options)
        layers = encoder._flatten_layers()
        self.has_batch_norm = any(isinstance(layer, keras.layers.BatchNormalization) for layer in layers)
        self.refinements = refinements
        self.loss_means.update({name: keras.metrics.Mean(name=name) for name in refinements.weights()})

    def both_codes(self, images: tf.Tensor, adversarial_images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Return h, at the hashing loss's alpha, and h', at alpha 1, of images (B, S, S, 3) in training: (B, K) each.

        In one pass, unless batch norm would then take its statistics over both. Dropout draws for each image anyway.
        """
        alpha = self.hashing_loss.alpha()
        if self.has_batch_norm:
            adversarial_codes = self.encoder(adversarial_images, training=True)
            return self.encoder(images, alpha=alpha, training=True), adversarial_codes
        alphas = tf.repeat(tf.stack([tf.cast(alpha, tf.float32), 1.0]), tf.shape(images)[0])[:, None]
        codes = self.encoder(tf.concat([images, adversarial_images], axis=0), alpha=alphas, training=True)
        relaxed_codes, adversarial_codes = tf.split(codes, 2)
        return relaxed_codes, adversarial_codes

    def step_losses(
        self, relaxed_codes: tf.Tensor, adversarial_codes: tf.Tensor, labels: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        """Return what is minimized, as `loss`, and its parts: of h and h', float (B, K), of images of `labels` (B, C).

        The bank has h of a training step already.
        """
        raise NotImplementedError(f"{type(self).__name__} must implement `step_losses`.")

    def wanted_codes(self, labels: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """Return the codes -1/+1 (B, K) that the adversarial images of `labels` (B, C) are driven to.

        Args:
            labels: of the images.
            seed: int64 (2,), of what is drawn.
        """
        raise NotImplementedError(f"{type(self).__name__} must implement `wanted_codes`.")

    def learn_batch(self, images: tf.Tensor, labels: tf.Tensor, index: tf.Tensor) -> dict:
        """Do one step on images (B, S, S, 3), labels (B, C) and index (B,)."""
        adversarial_images = self.perturb(images, self.wanted_codes(labels, self.step_seed()), index)
        with self.perturbed_weights(adversarial_images, labels), tf.GradientTape() as tape:
            tape.watch(adversarial_images)
            relaxed_codes, adversarial_codes = self.both_codes(images, adversarial_images)
            self.code_bank.update(index, relaxed_codes)
            losses = self.step_losses(relaxed_codes, adversarial_codes, labels)
        self.learn(tape, losses["loss"], images, adversarial_images)
        return self.report(images, **losses)

    def test_batch(self, images: tf.Tensor, labels: tf.Tensor) -> dict:
        """Report the losses of images (B, S, S, 3) with labels (B, C), attacked by `perturb_to_test`."""
        wanted_codes = self.wanted_codes(labels, tf.constant([self.seed, 0], tf.int64))
        adversarial_codes = self.encoder(self.perturb_to_test(images, wanted_codes), training=False)
        relaxed_codes = self.encoder(images, alpha=self.hashing_loss.alpha(), training=False)
        return self.report(images, **self.step_losses(relaxed_codes, adversarial_codes, labels))

    def rows_without_index(self) -> Callable[[], BankRows]:
        """Return what gives items without an index one.

        Raises:
            ValueError: the inner attack has to know which item is which.
        """
        if self.inner.needs_index:
            raise ValueError(
                f"`{type(self.inner).__name__}` keeps a perturbation for each image: it needs arrays, or batches of "
                "(images, labels, index). Received: batches of (images, labels)."
            )
        return super().rows_without_index()

    def adversarial_loss(self, adversarial_codes: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        """Return what the defense asks of h', float (B, K), before its weight: a scalar."""
        raise NotImplementedError(f"{type(self).__name__} must implement `adversarial_loss`.")

    def refinement_losses(
        self, relaxed_codes: tf.Tensor, adversarial_codes: tf.Tensor, labels: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        """Return the losses, before their weights, of the refinements that are on."""
        losses = {
            "adversarial_hashing_loss": lambda: self.hashing_loss(adversarial_codes, labels, code_bank=self.code_bank),
            "consistency_loss": lambda: consistency_loss(relaxed_codes, adversarial_codes),
        }
        return {name: losses[name]() for name in self.refinements.weights()}

    def weighted(self, refinement_losses: dict[str, tf.Tensor]) -> tf.Tensor | float:
        """Return the weighted sum of `refinement_losses`."""
        return sum(self.refinements.weights()[name] * loss for name, loss in refinement_losses.items())

    @contextlib.contextmanager
    def perturbed_weights(self, adversarial_images: tf.Tensor, labels: tf.Tensor) -> Iterator[None]:
        """Within, the encoder's kernels are w + gamma |w| g / |g|, with g their gradient of `adversarial_loss`.

        Afterwards they are w again, to the bit; batch statistics of the pass that finds g are put back. Codes that go
        into the bank within are those of the perturbed encoder. Does nothing where gamma is 0.
        """
        gamma = self.refinements.weight_perturbation
        if not gamma:
            yield
            return
        refuse_several("`weight_perturbation`", "Leave it out, or train on one device.")
        kernels = [variable for variable in self.encoder.trainable_variables if len(variable.shape) > 1]
        state = self.encoder.non_trainable_variables
        before, state_before = values_of(kernels), values_of(state)
        with tf.GradientTape() as tape:
            loss = self.adversarial_loss(self.encoder(adversarial_images, training=True), labels)
        assign(state, state_before)
        slope = self.optimizer.scale_loss(tf.ones_like(loss))
        for kernel, gradient in zip(kernels, tape.gradient(loss, kernels, output_gradients=slope), strict=True):
            direction = tf.math.divide_no_nan(gradient, tf.norm(gradient))
            # A scaled slope may overflow in half precision: then the kernel stays where it is.
            kernel.assign_add(gamma * tf.norm(kernel) * tf.where(tf.math.is_finite(direction), direction, 0.0))
        yield
        assign(kernels, before)

    def get_config(self) -> dict:
        """Return the constructor's arguments."""
        return {**super().get_config(), "refinements": dataclasses.asdict(self.refinements)}

    @classmethod
    def from_config(cls, config: dict) -> "AdversarialTraining":
        """Rebuild the model with its parts."""
        return super().from_config({**config, "refinements": Refinements(**config.get("refinements", {}))})
