"""Weights of backbones that were trained against attacks, in this package: what adversarial training can begin with."""

import hashlib
from pathlib import Path

from saat_tf.strict_json import read_object
from saat_tf.text_lists import DataError

FOLDER = Path(__file__).parent / "robust_weights"
REMEDY = "Install the package again."


def robust_backbones() -> dict[str, dict]:
    """Return the cards of the robust backbones in this package by the names of the backbones.

    A card says what they were trained on and how, and their accuracy, clean and under attack, of the weights as stored.

    Example:
        >>> sorted(robust_backbones())
        ['efficientnet_lite0']
    """
    return {file.stem: read_object(file, {"weights": dict}, remedy=REMEDY) for file in sorted(FOLDER.glob("*.json"))}


def robust_weights_file(backbone: str) -> Path:
    """Return the file of a backbone's robust weights, for `load_weights_file`.

    Args:
        backbone: a name in `robust_backbones`.

    Raises:
        ValueError: there are none of it in this package.
        DataError: the file is not the one of which its card speaks.

    Example:
        >>> robust_weights_file("efficientnet_lite0").name
        'efficientnet_lite0.safetensors'
    """
    cards = robust_backbones()
    if backbone not in cards:
        raise ValueError(
            f"The package has robust weights of {', '.join(cards)}. Received: {backbone}. Give a file, such as "
            "backbone.safetensors of a run of python -m trainers.pretrain."
        )
    file = FOLDER / f"{backbone}.safetensors"
    digest = hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else None
    if digest != cards[backbone]["weights"].get("sha256"):
        raise DataError(f"{file}: not the file of which its card speaks. {REMEDY}")
    return file
