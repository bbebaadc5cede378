"""The models of a finished run, loaded again with the codes that they give."""

import dataclasses
from pathlib import Path

import keras

from saat_tf.attacks import Knowledge
from saat_tf.data import RetrievalData
from saat_tf.evaluation import EncodedData, encode_data, knowledge
from saat_tf.models import HashingModel
from trainers.console.output import track
from trainers.recipes.recipe import Recipe
from trainers.runs.training import DEFENSE_MODELS, EVALUATION_BATCH

MODEL_FILES = {
    "none": "hashing.keras",
    **dict.fromkeys(DEFENSE_MODELS, "robust.keras"),
    "comdefend": "comdefend.keras",
}


@dataclasses.dataclass(frozen=True)
class Evaluated:
    """A model of the run with its codes."""

    defense: str
    encoder: HashingModel
    encoded: EncodedData
    known: Knowledge


def defenses_of_run(run_dir: Path, recipe: Recipe) -> list[str]:
    """Return the names of the models that a finished run has: "none", its defence, and "comdefend" where added."""
    added = ["comdefend"] if (run_dir / MODEL_FILES["comdefend"]).is_file() else []
    return ["none", recipe.defense, *added]


def load_model(run_dir: Path, defense: str, data: RetrievalData) -> Evaluated:
    """Load one model of the run and encode the data with it.

    Raises:
        FileNotFoundError: the run has no such model.
    """
    file = run_dir / MODEL_FILES[defense]
    if not file.is_file():
        raise FileNotFoundError(f"{file}: no such file. --run-dir must name the folder of a finished run.")
    encoder = keras.saving.load_model(file, compile=False, safe_mode=True)
    encoded = encode_data(encoder, data, EVALUATION_BATCH, track)
    return Evaluated(defense, encoder, encoded, knowledge(encoded, data))
