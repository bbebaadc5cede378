"""Put ComDefend in front of a model of a finished run: `python -m trainers.comdefend --run-dir R`."""

import dataclasses
import sys
from pathlib import Path
from typing import Literal

import keras
import tyro

from saat_tf.command_line import ExitCode
from saat_tf.data import training_batches
from saat_tf.evaluation import results
from saat_tf.evaluation.card import merge_rows
from saat_tf.files import write_json, write_whole
from saat_tf.models import PurifiedModel, Purifier
from trainers.console.output import (
    CONSOLE,
    DEFENSES,
    FitProgress,
    quiet_libraries,
    result_table,
    say,
    say_devices,
)
from trainers.recipes.data_sets import load_data_of
from trainers.run_folder.finished_run import read_card
from trainers.run_folder.models import COMDEFEND, load_encoder_file
from trainers.runs.evaluation import evaluate_model

ADAM_BETA = 0.5


@dataclasses.dataclass(frozen=True, kw_only=True)
class ComDefendOptions:
    """Train ComDefend's purifier on the training images of a finished run, and put it in front of a model of it.

    Command: python -m trainers.comdefend --run-dir R
    The purified model is R/comdefend.keras. Its MAP, clean and under an attack that goes through the purifier, is added
    to the card; python -m trainers.evaluate and export take it like the others.
    """

    run_dir: Path
    """Folder of a finished run."""
    behind: Literal["hashing", "robust"] = "hashing"
    """Model of the run that sees the purified images."""
    epochs: int = 50
    """Epochs of training; 50 in the code of SAAT's authors."""
    learning_rate: float = 1e-4
    """Learning rate of Adam; 1e-4 in the code of SAAT's authors."""
    data_dir: Path | None = None
    """Where the images are now, if not where the run found them."""


def main(options: ComDefendOptions) -> int:
    """Train the purifier; return the exit code: 0, or 2 where the options or the run are refused."""
    quiet_libraries()
    say_devices()
    file = options.run_dir / COMDEFEND
    with ExitCode() as outcome:
        if options.epochs < 1 or not options.learning_rate > 0:
            raise ValueError(
                "--epochs must be at least 1, --learning-rate above 0. Received: "
                f"{options.epochs}, {options.learning_rate}."
            )
        if file.exists():
            raise FileExistsError(f"{file} exists, and no model is overwritten. Move it away first.")
        card = read_card(options.run_dir)
        recipe, data = load_data_of(card, options.data_dir)
        encoder = load_encoder_file(options.run_dir / f"{options.behind}.keras")
    if outcome.code:
        return outcome.code
    keras.utils.set_random_seed(recipe.seed)
    purifier = Purifier(seed=recipe.seed)
    purifier.compile(optimizer=keras.optimizers.Adam(options.learning_rate, beta_1=ADAM_BETA))
    batches = training_batches(data.train, recipe.batch_size, seed=recipe.seed, flip=recipe.flip)
    with FitProgress(DEFENSES["comdefend"], int(batches.cardinality()) * options.epochs) as progress:
        purifier.fit(batches, epochs=options.epochs, shuffle=False, verbose=0, callbacks=[progress])
    model = PurifiedModel.from_parts(purifier, encoder)
    write_whole(file, model.save)
    rows = results(evaluate_model(recipe, model, data), defense="comdefend", top_k=recipe.top_k)
    card = {**card, "results": merge_rows(card["results"], rows)}
    write_json(options.run_dir / "card.json", card)
    CONSOLE.print(result_table(card))
    say(f"Model: {file}")
    return 0


if __name__ == "__main__":
    sys.exit(main(tyro.cli(ComDefendOptions)))
