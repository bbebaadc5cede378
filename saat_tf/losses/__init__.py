"""Losses: one published hashing loss a file, and the adversarial parts of SAAT."""

from saat_tf.losses.adversarial import adversarial_loss, quantization_loss
from saat_tf.losses.csq import CSQ
from saat_tf.losses.dph import DPH
from saat_tf.losses.hashing_loss import HashingLoss

__all__ = ["CSQ", "DPH", "HashingLoss", "adversarial_loss", "quantization_loss"]
