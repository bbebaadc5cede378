"""ATRDH: adversarial training with targeted adversarial images."""

from typing import Any

import keras
import tensorflow as tf

from saat_tf.attacks.prototype_fit import BETAS, LEARNING_RATE
from saat_tf.attacks.prototype_net import PrototypeNet, prototype_loss
from saat_tf.codes import sign
from saat_tf.layers import CodeBank
from saat_tf.losses import HashingLoss
from saat_tf.losses.dph import dph_loss_of_bank
from saat_tf.models.adversarial_training import AdversarialTraining
from saat_tf.models.hashing_model import HashingModel
from saat_tf.random_numbers import choices, fold_in
from saat_tf.replicas import refuse_several


@keras.saving.register_keras_serializable(package="saat_tf")
class ATRDH(AdversarialTraining):
    """Train a hashing model to keep the similarities of images that were driven to the codes of other labels.

    For each batch (x, y, index), with t a label set drawn at random for each image and P a prototype network that is
    trained alongside, u the bank's relaxed codes and s_ij = 1 where image i and item j share a label, else -1:

        1. one step of Adam on THA's prototype loss of P(t) against the bank
        2. x' = PGD that drives h(x') towards sign P(t)
        3. bank[index] := h(x)
        4. L = L_hash(h(x), y) + 2 mean_ij( (h(x')_i u_j / K - s_ij)^2 ), one optimizer step

    Start from a trained hashing model; `adapt` makes and fills the bank. Train on one replica. Always alpha = 1 for x'.

    Args:
        encoder: the model to train.
        code_bank: codes and labels of the training set, whose label sets are the targets.
        hashing_loss: L_hash.
        adversarial_weight: weight of the second term; 2 in the code of SAAT's authors.
        **options: those of `AdversarialTraining`: epsilon, step_size, num_steps, inner, inner_training, refinements,
            seed.

    Raises:
        ValueError: a number out of its range, or an unknown `inner_training`.

    Example:
        >>> import numpy as np
        >>> from saat_tf.losses import DPH
        >>> encoder = HashingModel("small_cnn", code_length=16, image_size=32)
        >>> atrdh = ATRDH(encoder, CodeBank.from_labels(np.eye(4), code_length=16), DPH(), num_steps=2)
        >>> atrdh.compile(optimizer=keras.optimizers.Adam(1e-4, beta_1=0.5))

    References:
        Wang et al., "Targeted Attack and Defense for Deep Hashing", SIGIR 2021; the code of the authors of SAAT.

    Differs from the authors' code: targets are the training set's non-empty label sets, not the database's, which a
    defender need not have; the bank gets the batch's codes after the prototype network has read it, not before; the
    prototype network's learning rate stays 1e-4, theirs falls to a tenth after half and three quarters of the steps.
    Their hundred epochs of Adam (1e-4, betas 0.5 and 0.999) are the caller's to choose.
    """

    def __init__(
        self,
        encoder: HashingModel,
        code_bank: CodeBank | None = None,
        hashing_loss: HashingLoss | None = None,
        *,
        adversarial_weight: float = 2.0,
        **options: Any,
    ) -> None:
        super().__init__(encoder, code_bank, hashing_loss, **options)
        if adversarial_weight < 0:
            raise ValueError(f"`adversarial_weight` must be at least 0. Received: {adversarial_weight}.")
        self.adversarial_weight = adversarial_weight
        if code_bank is not None:
            self.build_on_bank()

    def build_on_bank(self) -> None:
        """Build the prototype network for the bank's classes, and its optimizer."""
        self.prototype_net = PrototypeNet(self.code_bank.num_classes, self.code_bank.code_length, seed=self.seed)
        self.prototype_optimizer = keras.optimizers.Adam(LEARNING_RATE, *BETAS)
        self.prototype_optimizer.build(self.prototype_net.trainable_variables)
        # What `compile`'s optimizer trains is the encoder and the loss; this has an optimizer of its own.
        self.prototype_net.trainable = False

    @property
    def optimizers(self) -> list[keras.optimizers.Optimizer]:
        """The optimizer of `compile` and that of the prototype network."""
        return [*super().optimizers, *([] if self.code_bank is None else [self.prototype_optimizer])]

    def learn_batch(self, images: tf.Tensor, labels: tf.Tensor, index: tf.Tensor) -> dict:
        """Do one step of the prototype network, and one on images (B, S, S, 3), labels (B, C) and index (B,)."""
        refuse_several("`ATRDH`", "Its targets and prototype network are those of a whole batch.")
        self.train_prototypes(self.draw_targets(tf.shape(images)[0]))
        return super().learn_batch(images, labels, index)

    def step_losses(
        self, relaxed_codes: tf.Tensor, adversarial_codes: tf.Tensor, labels: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        """Return L of h and h', float (B, K), for the labels (B, C) of their images, and its parts."""
        hashing = self.hashing_loss(relaxed_codes, labels, code_bank=self.code_bank)
        adversarial = self.adversarial_loss(adversarial_codes, labels)
        refinements = self.refinement_losses(relaxed_codes, adversarial_codes, labels)
        loss = hashing + self.adversarial_weight * adversarial + self.weighted(refinements)
        return {"loss": loss, "hashing_loss": hashing, "adversarial_loss": adversarial, **refinements}

    def wanted_codes(self, labels: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """Return the codes of targets drawn for labels (B, C): float32 (B, K) of -1/+1."""
        return self.prototype_net.prototype_codes(self.draw_targets(tf.shape(labels)[0], seed))

    def draw_targets(self, num_images: tf.Tensor, seed: tf.Tensor | None = None) -> tf.Tensor:
        """Draw a label set of the bank for each image, none of them empty: float32 (B, C) of 0/1.

        Args:
            num_images: how many.
            seed: int64 (2,); by default that of the step.
        """
        label_sets = tf.convert_to_tensor(self.code_bank.label_sets)
        labeled = tf.cumsum(tf.cast(tf.reduce_any(label_sets > 0, axis=1), tf.int64))  # (M,), how many up to here
        # Folded once, so that targets do not depend on the random starts.
        seed = fold_in(self.step_seed() if seed is None else seed, 0)
        drawn = choices(num_images, labeled[-1], seed)
        return tf.gather(label_sets, tf.searchsorted(labeled, drawn + 1, out_type=tf.int64))

    def train_prototypes(self, targets: tf.Tensor) -> None:
        """Do one step of the prototype network on label sets (B, C) against the bank's hash codes."""
        weights = self.prototype_net.weights
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch([weight.value for weight in weights])
            codes = tf.convert_to_tensor(self.code_bank.codes)
            loss = prototype_loss(self.prototype_net(targets), sign(codes), self.code_bank.relevance(targets))
        self.prototype_optimizer.apply(tape.gradient(loss, weights), weights)

    def adversarial_loss(self, adversarial_codes: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        """Return mean_ij( (h'_i u_j / K - s_ij)^2 ) for h' (B, K) and the labels (B, C) of their images: a scalar."""
        return dph_loss_of_bank(adversarial_codes, labels, self.code_bank)

    def get_config(self) -> dict:
        """Return the constructor's arguments."""
        return {**super().get_config(), "adversarial_weight": self.adversarial_weight}
