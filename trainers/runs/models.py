"""The models of a finished run, loaded again with the codes that they give."""

import dataclasses
from pathlib import Path

from saat_tf.attacks import Knowledge
from saat_tf.data import RetrievalData
from saat_tf.evaluation import EncodedData, encode_data, knowledge
from saat_tf.models import HashingModel
from trainers.console.output import track
from trainers.recipes.recipe import Recipe
from trainers.run_folder.models import COMDEFEND, load_encoder_file, model_file
from trainers.runs.training import EVALUATION_BATCH


@dataclasses.dataclass(frozen=True)
class Evaluated:
    """A model of the run with its codes."""

    defense: str
    encoder: HashingModel
    encoded: EncodedData
    known: Knowledge


def defenses_of_run(run_dir: Path, recipe: Recipe) -> list[str]:
    """Return the names of the models that a finished run has: "none", its defense, and "comdefend" where added."""
    added = ["comdefend"] if (run_dir / COMDEFEND).is_file() else []
    return ["none", recipe.defense, *added]


def load_evaluated(run_dir: Path, defense: str, data: RetrievalData) -> Evaluated:
    """Load one model of the run and encode the data with it.

    Raises:
        FileNotFoundError: the run has no such model.
        ValueError: its file is damaged or contains no hashing model.
    """
    encoder = load_encoder_file(run_dir / model_file(defense))
    encoded = encode_data(encoder, data, EVALUATION_BATCH, track)
    return Evaluated(defense, encoder, encoded, knowledge(encoded, data))
