"""Models: the encoder, one training model for each way to train it, and a purifier that goes in front."""

from saat_tf.models.adversarial_classifier import AdversarialClassifier
from saat_tf.models.atrdh import ATRDH
from saat_tf.models.bound_training import BoundTraining
from saat_tf.models.cgat import CgAT
from saat_tf.models.classifier import Classifier
from saat_tf.models.comdefend import PurifiedModel, Purifier
from saat_tf.models.encoders import CodeEncoder, as_encoder
from saat_tf.models.hashing_model import HashingModel
from saat_tf.models.hashing_training import HashingTraining
from saat_tf.models.preset_files import presets
from saat_tf.models.refinements import Refinements
from saat_tf.models.saat import SAAT
from saat_tf.models.torch_files import hashing_model_from_torch

__all__ = [
    "ATRDH",
    "SAAT",
    "AdversarialClassifier",
    "BoundTraining",
    "CgAT",
    "Classifier",
    "CodeEncoder",
    "HashingModel",
    "HashingTraining",
    "PurifiedModel",
    "Purifier",
    "Refinements",
    "as_encoder",
    "hashing_model_from_torch",
    "presets",
]
