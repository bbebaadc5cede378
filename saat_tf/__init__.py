"""Adversarially robust deep hashing for image retrieval, in TensorFlow and Keras.

Importing this package imports no TensorFlow; what it exports is imported when it is first used. Keras finds the models
and layers of a saved file once one of them was imported, as by `from saat_tf import HashingModel`.
"""

import importlib
from typing import TYPE_CHECKING

from saat_tf.environment import set_switches

__version__ = "0.2.0.dev0"

set_switches()

if TYPE_CHECKING:
    from saat_tf.certify import certified_map
    from saat_tf.evaluation import evaluate_robustness
    from saat_tf.layers import DMFL, CodeBank
    from saat_tf.models import SAAT, HashingModel, HashingTraining, as_encoder, presets

__all__ = [
    "DMFL",
    "SAAT",
    "CodeBank",
    "HashingModel",
    "HashingTraining",
    "as_encoder",
    "certified_map",
    "evaluate_robustness",
    "presets",
]

_MODULES = {
    "DMFL": "saat_tf.layers",
    "CodeBank": "saat_tf.layers",
    "SAAT": "saat_tf.models",
    "HashingModel": "saat_tf.models",
    "HashingTraining": "saat_tf.models",
    "as_encoder": "saat_tf.models",
    "certified_map": "saat_tf.certify",
    "evaluate_robustness": "saat_tf.evaluation",
    "presets": "saat_tf.models",
}


def __getattr__(name: str) -> object:
    """Import what the package exports when it is first used (PEP 562)."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)
