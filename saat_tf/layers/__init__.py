"""Keras layers of hashing models and of their training."""

from saat_tf.layers.batch_norm import BatchNormalization
from saat_tf.layers.code_bank import CodeBank
from saat_tf.layers.dmfl import DMFL
from saat_tf.layers.dropout import Dropout
from saat_tf.layers.gaussian_noise import GaussianNoise
from saat_tf.layers.hash_head import HashHead
from saat_tf.layers.orthogonal import MaxMin, Orthogonal
from saat_tf.layers.pixel_normalization import PixelNormalization

__all__ = [
    "DMFL",
    "BatchNormalization",
    "CodeBank",
    "Dropout",
    "GaussianNoise",
    "HashHead",
    "MaxMin",
    "Orthogonal",
    "PixelNormalization",
]
