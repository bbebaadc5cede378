"""The encoders of a finished run."""

from pathlib import Path

import keras

from export.encoder.model_card import Model, model_card
from saat_tf.models import HashingModel


def load_encoder(run_dir: Path, model: Model) -> tuple[HashingModel, dict]:
    """Load one encoder of a finished run, in Keras' safe mode: the file runs no code of its own.

    Args:
        run_dir: folder of the run.
        model: "robust", the adversarially trained encoder, or "hashing", the undefended one.

    Returns:
        The encoder and its model card.

    Raises:
        FileNotFoundError: the run has no such model.
        ValueError: it has no card, or the file is damaged, holds code, or is no encoder.
    """
    card = model_card(run_dir, model)
    return load_model(run_dir / f"{model}.keras"), card


def load_model(file: Path) -> HashingModel:
    """Load a model file of a run, in Keras' safe mode.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, holds code, or is no encoder.
    """
    if not file.is_file():
        raise FileNotFoundError(f"{file}: no such file. --run-dir must name a finished run.")
    try:
        encoder = keras.saving.load_model(file, compile=False, safe_mode=True)
    except (ValueError, OSError) as error:
        raise ValueError(
            f"{file}: cannot be read as a model ({error}). Restore the file, or repeat the run."
        ) from error
    if not isinstance(encoder, HashingModel):
        raise ValueError(f"{file}: expected a HashingModel. Received: {type(encoder).__name__}. Restore the file.")
    return encoder
