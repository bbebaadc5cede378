"""The devices of this process: which they are, which are hidden, and a card that TensorFlow does not see."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import tensorflow as tf

from saat_tf.environment import NVIDIA_CARDS


def device_names() -> list[str]:
    """Return what computes here: the model of each visible GPU, or the CPU.

    Example:
        >>> len(device_names()) >= 1
        True
    """
    gpus = tf.config.get_visible_devices("GPU")
    details = [tf.config.experimental.get_device_details(gpu).get("device_name", gpu.name) for gpu in gpus]
    return [str(name) for name in details] or ["CPU"]


def unseen_cards(environment: Mapping[str, str] = os.environ, cards: Path = NVIDIA_CARDS) -> str | None:
    """Return a warning where this machine has an NVIDIA card and TensorFlow sees none, else None.

    No warning where CUDA_VISIBLE_DEVICES hides all cards, for that is meant.

    Args:
        environment: of this process.
        cards: the driver's folder.
    """
    hidden = environment.get("CUDA_VISIBLE_DEVICES", "all").strip() in ("", "-1")
    count = len(list(cards.iterdir())) if cards.is_dir() else 0
    if not count or hidden or tf.config.list_physical_devices("GPU"):
        return None
    built = "" if tf.test.is_built_with_cuda() else " This TensorFlow is built without CUDA."
    return (
        f"THIS RUNS ON THE CPU. The machine has {count} NVIDIA card{'s' if count > 1 else ''}, and TensorFlow "
        f"{tf.__version__} sees none, since it does not find CUDA's libraries.{built} Install them: pip install "
        "'saat-tf[gpu]', or make gpu. To use the CPU without this warning: CUDA_VISIBLE_DEVICES=-1. See docs/scale.md."
    )


def confine(devices: Sequence[str]) -> list[str]:
    """Hide all GPUs from this process but those named, and return what TensorFlow calls the named devices then.

    TensorFlow numbers the GPUs that are left from 0 on, in their order. Of the others no memory is taken.

    Args:
        devices: names such as GPU:1 or CPU:0; without any, nothing is hidden.

    Raises:
        ValueError: there is no such GPU, or TensorFlow runs already with others.
    """
    if not devices:
        return []
    gpus = tf.config.list_physical_devices("GPU")
    named = {f"GPU:{gpu.name.rpartition(':')[2]}": gpu for gpu in gpus}
    wanted = [name for name in named if name in devices]
    if unknown := [name for name in devices if name.startswith("GPU:") and name not in named]:
        raise ValueError(f"--devices must be of {', '.join(['CPU:0', *named])}. Received: {' '.join(unknown)}.")
    _show([named[name] for name in wanted])
    return [f"GPU:{wanted.index(name)}" if name in named else name for name in devices]


def hide_gpus() -> None:
    """Have this process compute on the CPU, and take memory of no GPU.

    Raises:
        ValueError: TensorFlow runs already.
    """
    _show([])


def _show(gpus: list) -> None:
    if gpus == tf.config.get_visible_devices("GPU"):
        return
    try:
        tf.config.set_visible_devices(gpus, "GPU")
    except RuntimeError as error:
        raise ValueError(f"TensorFlow runs already and cannot hide a GPU any more ({error}).") from error
