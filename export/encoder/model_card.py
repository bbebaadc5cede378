"""Card of an exported encoder: its run, sizes and scores."""

from pathlib import Path
from typing import Literal

from saat_tf.evaluation import versions
from trainers.run_folder.finished_run import applies_orientation, read_card, resize_size

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
    card = read_card(run_dir)
    size = card["config"]["image_size"]
    defense = "none" if model == "hashing" else card["config"].get("defense", "saat")
    return {
        **{name: card[name] for name in ("dataset", "backbone", "code_length", "epsilon_255", "chance_map")},
        "defense": defense,
        "results": [row for row in card["results"] if row["defense"] == defense],
        "preprocessing": {
            "pixels": "float32 in [0, 1], RGB; normalization is inside",
            "image_size": size,
            "resize_size": resize_size(card),
            "orientation": "applied" if applies_orientation(card) else "ignored",
            "resize": "shorter side to resize_size, bilinear with antialiasing, then the center cut",
        },
        "trained_with": {"commit": None, **card["versions"]},
        "exported_with": versions(),
    }
