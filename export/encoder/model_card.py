"""Card of an exported encoder: where it comes from, sizes and scores."""

from pathlib import Path
from typing import Literal

from saat_tf.evaluation import versions
from saat_tf.images import ImageSize, image_shape
from saat_tf.models import HashingModel
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
        "preprocessing": _preprocessing(size, resize_size(card), applies_orientation(card)),
        "trained_with": {"commit": None, **card["versions"]},
        "exported_with": versions(),
    }


def own_card(encoder: HashingModel, source: dict, resize_size: int | None) -> dict:
    """Gather the model card of an encoder that no run of the trainers made.

    Args:
        encoder: the encoder.
        source: where it comes from, as JSON takes it.
        resize_size: shorter side of an image file before the center cut; the encoder's own size by default.

    Raises:
        ValueError: the resized images would be smaller than the cut.
    """
    side = max(image_shape(encoder.image_size)[:2])
    if resize_size is not None and resize_size < side:
        raise ValueError(f"--resize-size must be at least the encoder's {side} pixels. Received: {resize_size}.")
    return {
        "source": source,
        "backbone": encoder.backbone_name or encoder.backbone.name,
        "code_length": encoder.code_length,
        "preprocessing": _preprocessing(encoder.image_size, resize_size or encoder.image_size, True),
        "exported_with": versions(),
    }


def _preprocessing(image_size: ImageSize, resize_size: ImageSize, is_turned: bool) -> dict:
    return {
        "pixels": "float32 in [0, 1], RGB; normalization is inside",
        "image_size": image_size,
        "resize_size": resize_size,
        "orientation": "applied" if is_turned else "ignored",
        "resize": "shorter side to resize_size, bilinear with antialiasing, then the center cut",
    }
