"""The model files of a run folder: their names, and the one way to load them."""

from pathlib import Path
from typing import TypeVar

import keras

from saat_tf.models import HashingModel
from saat_tf.text_lists import DataError

HASHING, ROBUST, COMDEFEND = "hashing.keras", "robust.keras", "comdefend.keras"
# Where the model of a defense is; that of every defense by adversarial training is `ROBUST`.
_FILES = {"none": HASHING, "comdefend": COMDEFEND}
Kind = TypeVar("Kind", bound=keras.Model)


def model_file(defense: str) -> str:
    """Return the name of the file with the model of a defense.

    Example:
        >>> model_file("none"), model_file("saat"), model_file("comdefend")
        ('hashing.keras', 'robust.keras', 'comdefend.keras')
    """
    return _FILES.get(defense, ROBUST)


def load_encoder_file(file: Path) -> HashingModel:
    """Load a hashing model of a run; see `load_model_file`."""
    return load_model_file(file, HashingModel)


def load_model_file(file: Path, kind: type[Kind]) -> Kind:
    """Load a .keras file, uncompiled and in Keras' safe mode: it runs no code of its own.

    Args:
        file: the file.
        kind: the class that the model must have.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, contains code, or is no `kind`.
    """
    _check_file(file)
    try:
        model = keras.saving.load_model(file, compile=False, safe_mode=True)
    except Exception as error:  # a damaged archive, configuration or weights file can raise anything
        raise _damaged(file, error) from error
    if not isinstance(model, kind):
        raise ValueError(f"{file}: expected a {kind.__name__}. Received: {type(model).__name__}. Restore the file.")
    return model


def load_weights(model: keras.Model, file: Path) -> None:
    """Give a model the weights in a .keras or .weights.h5 file of the same model.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged or of another model. Some weights of `model` may have been replaced.
    """
    _check_file(file)
    try:
        model.load_weights(file)
    except Exception as error:  # as above
        raise _damaged(file, error) from error


def _check_file(file: Path) -> None:
    if not file.is_file():
        raise FileNotFoundError(f"{file}: no such file. --run-dir must name the folder of a finished run.")


def _damaged(file: Path, error: Exception) -> DataError:
    told = f"{type(error).__name__}: {str(error).partition(chr(10))[0]:.400}"  # Keras appends the configuration
    return DataError(f"{file}: cannot be read as a model ({told}). Restore the file, or repeat the run.")
