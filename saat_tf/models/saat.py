"""SAAT: semantic-aware adversarial training."""

from typing import Any

import keras
import tensorflow as tf

from saat_tf.layers import DMFL, CodeBank
from saat_tf.losses import HashingLoss, adversarial_loss, quantization_loss
from saat_tf.models.adversarial_training import AdversarialTraining
from saat_tf.models.hashing_model import HashingModel


@keras.saving.register_keras_serializable(package="saat_tf")
class SAAT(AdversarialTraining):
    """Train a hashing model to keep adversarial images near the mainstay codes of their labels.

    For each batch (x, y, index), with h = tanh(z):

        1. b_m = mainstay(y) against the bank
        2. x' = PGD that drives h(x') away from b_m
        3. bank[index] := h(x);  b_m = mainstay(y) again
        4. L = L_hash(h(x), y) - lambda mean(h(x') b_m) + mu mean((h(x') - sign h(x'))^2), one optimizer step

    Start from a trained hashing model; `adapt` makes and fills the bank. `CodeTraining` says what `fit` takes.

    Args:
        encoder: the model to train.
        code_bank: codes and labels of the training set; None where `adapt` is to make it.
        hashing_loss: L_hash; by default `DPH`, the paper's.
        adversarial_weight: lambda; 1 in the paper.
        quantization_weight: mu; 1e-4 in the paper.
        **options: those of `AdversarialTraining`: epsilon, step_size, num_steps, inner, inner_training, refinements,
            seed. In the paper epsilon is 8/255; in the authors' code the inner PGD takes 7 steps of 2/255 in training
            mode.

    Raises:
        ValueError: a number out of its range, or an unknown `inner_training`.

    Example:
        >>> import numpy as np
        >>> from saat_tf.losses import DPH
        >>> encoder = HashingModel("small_cnn", code_length=16, image_size=32)
        >>> saat = SAAT(encoder, CodeBank.from_labels(np.eye(4), code_length=16), DPH(), num_steps=2)
        >>> saat.compile(optimizer="sgd")

    References:
        Yuan et al., "Semantic-Aware Adversarial Training for Reliable Deep Hashing Retrieval", IEEE TIFS 2023,
        arXiv 2310.14637, Algorithm 1.
    """

    LOSSES: tuple[str, ...] = ("loss", "hashing_loss", "adversarial_loss", "quantization_loss")

    def __init__(
        self,
        encoder: HashingModel,
        code_bank: CodeBank | None = None,
        hashing_loss: HashingLoss | None = None,
        *,
        adversarial_weight: float = 1.0,
        quantization_weight: float = 1e-4,
        **options: Any,
    ) -> None:
        super().__init__(encoder, code_bank, hashing_loss, **options)
        if adversarial_weight < 0 or quantization_weight < 0:
            raise ValueError(
                "`adversarial_weight` and `quantization_weight` must be at least 0. Received: "
                f"{adversarial_weight} and {quantization_weight}."
            )
        self.adversarial_weight = adversarial_weight
        self.quantization_weight = quantization_weight
        if code_bank is not None:
            self.build_on_bank()

    def build_on_bank(self) -> None:
        """Build the layer of the mainstay codes."""
        self.dmfl = DMFL(self.code_bank, name="dmfl")

    def step_losses(
        self, relaxed_codes: tf.Tensor, adversarial_codes: tf.Tensor, labels: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        """Return L of h and h', float (B, K), for the labels (B, C) of their images, and its parts."""
        hashing = self.hashing_loss(relaxed_codes, labels, code_bank=self.code_bank)
        adversarial = self.adversarial_loss(adversarial_codes, labels)
        quantization = quantization_loss(adversarial_codes)
        refinements = self.refinement_losses(relaxed_codes, adversarial_codes, labels)
        loss = hashing + self.adversarial_weight * adversarial + self.quantization_weight * quantization
        loss += self.weighted(refinements)
        parts = {"hashing_loss": hashing, "adversarial_loss": adversarial, "quantization_loss": quantization}
        return {"loss": loss, **parts, **refinements}

    def wanted_codes(self, labels: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """Return the codes that are farthest from `target_codes` of labels (B, C): float32 (B, K) of -1/+1."""
        return -self.target_codes(labels)

    def target_codes(self, labels: tf.Tensor) -> tf.Tensor:
        """Return the codes that stand for label rows (B, C) of 0/1: here mainstay codes, float32 (B, K) of -1/+1."""
        return self.dmfl(labels)

    def adversarial_loss(self, adversarial_codes: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        """Return -mean(h' b_m) for h' (B, K) and the labels (B, C) of their images: a scalar."""
        return adversarial_loss(adversarial_codes, self.target_codes(labels))

    def get_config(self) -> dict:
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "adversarial_weight": self.adversarial_weight,
            "quantization_weight": self.quantization_weight,
        }
