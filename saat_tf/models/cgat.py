"""CgAT: center-guided adversarial training."""

from typing import Any

import keras
import tensorflow as tf

from saat_tf.label_codes import center_codes
from saat_tf.layers import CodeBank
from saat_tf.losses import HashingLoss
from saat_tf.models.hashing_model import HashingModel
from saat_tf.models.saat import SAAT


@keras.saving.register_keras_serializable(package="saat_tf")
class CgAT(SAAT):
    """Train a hashing model to keep adversarial images near the center codes of their labels.

    The step of `SAAT`, with the center code b_c of `saat_tf.label_codes.center_codes` in the place of the mainstay code
    and no quantization term:

        L = L_hash(h(x), y) - lambda mean(h(x') b_c)

    Args:
        encoder: the model to train.
        code_bank: codes and labels of the training set; None where `adapt` is to make it.
        hashing_loss: L_hash; by default `DPH`, the paper's.
        adversarial_weight: lambda; 1 in the authors' code.
        quantization_weight: mu; 0 in the authors' code.
        **options: those of `AdversarialTraining`: epsilon, step_size, num_steps, inner, inner_training, refinements,
            seed.

    Raises:
        ValueError: a number out of its range, or an unknown `inner_training`.

    Example:
        >>> import numpy as np
        >>> from saat_tf.losses import DPH
        >>> encoder = HashingModel("small_cnn", code_length=16, image_size=32)
        >>> cgat = CgAT(encoder, CodeBank.from_labels(np.eye(4), code_length=16), DPH(), num_steps=2)
        >>> cgat.target_codes(tf.eye(4)).shape
        TensorShape([4, 16])

    References:
        Wang et al., "CgAT: Center-Guided Adversarial Training for Deep Hashing-Based Retrieval", WWW 2023,
        arXiv 2204.10779.

    Differs from the authors' code: related items weigh by Jaccard similarity, as in the paper; their released code
    weighs them by 1. It trains for 30 epochs by SGD, learning rate 0.01, momentum 0.9, weight decay 5e-4.
    """

    def __init__(
        self,
        encoder: HashingModel,
        code_bank: CodeBank | None = None,
        hashing_loss: HashingLoss | None = None,
        *,
        quantization_weight: float = 0.0,
        **options: Any,
    ) -> None:
        super().__init__(encoder, code_bank, hashing_loss, quantization_weight=quantization_weight, **options)

    def target_codes(self, labels: tf.Tensor) -> tf.Tensor:
        """Return the center codes of label rows (B, C) of 0/1: float32 (B, K) of -1/+1."""
        bank = self.code_bank
        return center_codes(labels, tf.convert_to_tensor(bank.label_sets), bank.code_sums(), bank.counts())
