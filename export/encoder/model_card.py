"""What an exported encoder says of itself."""

import json
from pathlib import Path
from typing import Literal

from saat_tf.evaluation import versions
from trainers.run_folder.finished_run import applies_orientation

Model = Literal["robust", "hashing"]


def model_card(run_dir: Path, model: Model) -> dict:
    """Gather the model card of one encoder of a finished run.

    Args:
        run_dir: folder of the run.
        model: "hashing" or "robust".

    Returns:
        data set, backbone, code length, epsilon, chance, the results of this encoder, how an image file becomes its
        input, and the versions with the git commit of the code that trained and of the code that exports; a commit is
        None where it is not known.

    Raises:
        ValueError: the run has no card, or one of another kind.
    """
    file = run_dir / "card.json"
    if not file.is_file():
        raise ValueError(f"{file}: no such file. --run-dir must name a finished run.")
    try:
        card = json.loads(file.read_text(encoding="utf-8"))
        size = card["config"]["image_size"]
        defense = "none" if model == "hashing" else card["config"].get("defense", "saat")
        return {
            **{name: card[name] for name in ("dataset", "backbone", "code_length", "epsilon_255", "chance_map")},
            "defense": defense,
            "results": [row for row in card["results"] if row["defense"] == defense],
            "preprocessing": {
                "pixels": "float32 in [0, 1], RGB; normalisation is inside",
                "image_size": size,
                "resize_size": round(size / card["config"].get("crop_fraction", 1.0)),
                "orientation": "applied" if applies_orientation(card["config"]) else "ignored",
                "resize": "shorter side to resize_size, bilinear with antialiasing, then the centre cut",
            },
            "trained_with": {"commit": None, **card["versions"]},
            "exported_with": versions(),
        }
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{file}: not the card of a run ({error!r}). Restore it, or repeat the run.") from error
