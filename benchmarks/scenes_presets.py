"""Make the presets of drawn scenes from a finished run: `python -m benchmarks.scenes_presets --run-dir R`.

The run is that of `python -m trainers.scenes --recipe strong`. Each model is stored in half precision, loaded again and
attacked, so that the figures of its card are those of what is stored.
"""

import dataclasses
import sys
from pathlib import Path

import tyro

from saat_tf.evaluation import evaluate_robustness
from saat_tf.models import HashingModel
from saat_tf.models.preset_files import PACKAGED
from trainers.console.output import quiet_libraries, say, track
from trainers.run_folder.finished_run import load_run_data, read_card
from trainers.run_folder.models import load_encoder_file, model_file

MODELS = {"none": ("undefended", "Hashing training alone"), "saat": ("saat_strong", "SAAT, --recipe strong")}


@dataclasses.dataclass(frozen=True, kw_only=True)
class PresetOptions:
    """Write the undefended and the robust model of a run on drawn scenes as presets."""

    run_dir: Path
    """Folder of a finished run of trainers.scenes."""
    out: Path = PACKAGED
    """Folder of presets."""


def main(options: PresetOptions) -> int:
    """Write both presets; return 0."""
    quiet_libraries()
    card = read_card(options.run_dir)
    data = load_run_data(options.run_dir, card)
    for defense, (name, how) in MODELS.items():
        folder = options.out / f"scenes_{card['code_length']}bits_{name}"
        about = {
            "about": f"{how}, on {len(data.train)} drawn scenes; {card['backbone']}, {card['code_length']} bits",
            "data": f"saat_tf.data.draw_scenes: {len(data.database)} items, {len(data.test)} queries",
            "seed": card["config"]["seed"],
            "recipe": {"program": "trainers.scenes", "recipe": card["config"]["recipe"], "defense": defense},
        }
        load_encoder_file(options.run_dir / model_file(defense)).save_to_preset(folder, card=about)
        stored = HashingModel.from_preset(folder)
        report = evaluate_robustness(
            stored,
            queries=data.test,
            database=data.database,
            train=data.train,
            class_names=data.class_names,
            track=track,
        )
        say(f"{folder}\n{report}")
        stored.save_to_preset(folder, card={**about, "robustness": report.to_dict()})
    return 0


if __name__ == "__main__":
    sys.exit(main(tyro.cli(PresetOptions)))
