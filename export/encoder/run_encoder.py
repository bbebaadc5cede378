"""The encoders of a finished run."""

from pathlib import Path

from export.encoder.model_card import Model, model_card
from saat_tf.models import HashingModel
from trainers.run_folder.models import load_encoder_file


def load_encoder(run_dir: Path, model: Model) -> tuple[HashingModel, dict]:
    """Load one encoder of a finished run, in Keras' safe mode: the file runs no code of its own.

    Args:
        run_dir: folder of the run.
        model: "robust", the adversarially trained encoder, or "hashing", the undefended one.

    Returns:
        The encoder and its model card.

    Raises:
        FileNotFoundError: the run has no such model.
        ValueError: it has no card, or the file is damaged, contains code, or is no encoder.
    """
    card = model_card(run_dir, model)
    return load_encoder_file(run_dir / f"{model}.keras"), card
