"""Adversarially robust deep hashing for image retrieval, in TensorFlow and Keras.

Importing this package makes its models and layers known to Keras, so that `keras.saving.load_model` finds them.
"""

__version__ = "0.1.0"

from saat_tf.environment import set_switches

set_switches()

from saat_tf.layers import DMFL, CodeBank  # noqa: E402
from saat_tf.models import SAAT, HashingModel, HashingTraining  # noqa: E402

__all__ = ["DMFL", "SAAT", "CodeBank", "HashingModel", "HashingTraining"]
