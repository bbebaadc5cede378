"""Models: the encoder, and one training model for each way to train it."""

from saat_tf.models.hashing_model import HashingModel
from saat_tf.models.hashing_training import HashingTraining
from saat_tf.models.saat import SAAT

__all__ = ["SAAT", "HashingModel", "HashingTraining"]
