"""SAAT: semantic-aware adversarial training."""

import keras
import tensorflow as tf

from saat_tf.attacks import PGD, SignStep, alignment
from saat_tf.layers import DMFL, CodeBank
from saat_tf.losses import HashingLoss, adversarial_loss, quantization_loss
from saat_tf.models.hashing_model import HashingModel
from saat_tf.models.training_model import TrainingModel
from saat_tf.threat_model import ThreatModel

INNER_TRAINING = ("training", "inference")


@keras.saving.register_keras_serializable(package="saat_tf")
class SAAT(TrainingModel):
    """Train a hashing model to keep adversarial images near the mainstay codes of their labels.

    For each batch (x, y, index), with h = tanh(z):

        1. b_m = mainstay(y) against the bank
        2. x' = PGD that drives h(x') away from b_m
        3. bank[index] := h(x);  b_m = mainstay(y) again
        4. L = L_hash(h(x), y) - lambda mean(h(x') b_m) + mu mean((h(x') - sign h(x'))^2), one optimizer step

    Start from a trained hashing model and a bank filled by `fill_bank`. Fit on a data set of (images, labels, index).

    Args:
        encoder: the model to train.
        code_bank: codes and labels of the training set.
        hashing_loss: L_hash.
        epsilon: radius of the ball in pixel units of [0, 1]; 8/255 in the paper.
        step_size: step of the inner PGD in the same units; 2/255 in the authors' code.
        num_steps: steps of the inner PGD; 7 in the authors' code.
        adversarial_weight: lambda; 1 in the paper.
        quantization_weight: mu; 1e-4 in the paper.
        inner_training: "training" crafts x' with dropout and batch statistics as in a training step, like the
            authors; "inference" crafts it against the model that will be attacked.
        seed: seed of the random starts.

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

    LOSSES = ("loss", "hashing_loss", "adversarial_loss", "quantization_loss")

    def __init__(
        self,
        encoder: HashingModel,
        code_bank: CodeBank,
        hashing_loss: HashingLoss,
        *,
        epsilon: float = 8 / 255,
        step_size: float = 2 / 255,
        num_steps: int = 7,
        adversarial_weight: float = 1.0,
        quantization_weight: float = 1e-4,
        inner_training: str = "training",
        seed: int = 0,
        **kwargs,
    ) -> None:
        super().__init__(encoder, code_bank, hashing_loss, **kwargs)
        if inner_training not in INNER_TRAINING:
            raise ValueError(f"`inner_training` must be one of {INNER_TRAINING}. Received: {inner_training!r}.")
        if adversarial_weight < 0 or quantization_weight < 0:
            raise ValueError(
                "`adversarial_weight` and `quantization_weight` must be at least 0. Received: "
                f"{adversarial_weight} and {quantization_weight}."
            )
        self.attack = PGD(
            threat_model=ThreatModel(epsilon), objective=alignment, rule=SignStep(step_size), num_steps=num_steps
        )
        self.dmfl = DMFL(code_bank, name="dmfl")
        self.adversarial_weight = adversarial_weight
        self.quantization_weight = quantization_weight
        self.inner_training = inner_training
        self.seed = seed

    def train_step(self, data: tuple[tf.Tensor, tf.Tensor, tf.Tensor]) -> dict:
        """Do one step on (images (B, S, S, 3), labels (B, C), index (B,))."""
        images, labels, index = data
        adversarial_images = self.craft(images, self.dmfl(labels))
        with tf.GradientTape() as tape:
            adversarial_codes = self.encoder(adversarial_images, training=True)
            relaxed_codes = self.encoder(images, alpha=self.hashing_loss.alpha(), training=True)
            self.code_bank.update(index, relaxed_codes)
            hashing = self.hashing_loss(relaxed_codes, labels, code_bank=self.code_bank)
            adversarial = adversarial_loss(adversarial_codes, self.dmfl(labels))
            quantization = quantization_loss(adversarial_codes)
            loss = hashing + self.adversarial_weight * adversarial + self.quantization_weight * quantization
        self.descend(tape, loss)
        return self.report(
            loss=loss, hashing_loss=hashing, adversarial_loss=adversarial, quantization_loss=quantization
        )

    def craft(self, images: tf.Tensor, mainstay_codes: tf.Tensor) -> tf.Tensor:
        """Return adversarial images (B, S, S, 3) whose codes are driven away from `mainstay_codes` (B, K).

        Whatever the forward passes in training mode change (batch statistics, dropout seeds) is put back.
        """
        training = self.inner_training == "training"
        state = self.encoder.non_trainable_variables
        before = [tf.identity(variable) for variable in state]
        seed = tf.stack([self.seed, tf.cast(self.optimizer.iterations, tf.int32)])
        adversarial_images = self.attack(
            lambda x, alpha: self.encoder(x, alpha=alpha, training=training), images, -mainstay_codes, seed
        )
        if training:
            with tf.control_dependencies([adversarial_images]):
                for variable, value in zip(state, before, strict=True):
                    variable.assign(value)
        return adversarial_images

    def get_config(self) -> dict:
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "epsilon": self.attack.threat_model.epsilon,
            "step_size": self.attack.rule.step_size,
            "num_steps": self.attack.num_steps,
            "adversarial_weight": self.adversarial_weight,
            "quantization_weight": self.quantization_weight,
            "inner_training": self.inner_training,
            "seed": self.seed,
        }
