"""TensorFlow's switches that are read once, when it is imported: one set of defaults for every way to run the project.

Needs no TensorFlow, so that it can act before TensorFlow does.
"""

import os
import sys
import warnings
from collections.abc import MutableMapping
from pathlib import Path

from saat_tf.quiet_import import hide_import_lines

# oneDNN: TensorFlow's own default depends on the processor (on with AVX-512, off without), and so would every result.
ONEDNN = "TF_ENABLE_ONEDNN_OPTS"
# Else TensorFlow takes nearly all memory of every GPU that it sees, at once.
GROWTH = "TF_FORCE_GPU_ALLOW_GROWTH"
# The driver of NVIDIA has a folder here for each card.
NVIDIA_CARDS = Path("/proc/driver/nvidia/gpus")
# Errors of a GPU are shown. Without one, TensorFlow logs as errors what is none: that there is no GPU, and that oneDNN
# leaves some types to other kernels. What goes wrong is raised. 0 shows all, also what it says when it is imported.
LOG_LEVEL = "TF_CPP_MIN_LOG_LEVEL"
DEFAULTS = {ONEDNN: "1", LOG_LEVEL: "2" if NVIDIA_CARDS.is_dir() else "3", GROWTH: "true"}


def set_switches(environment: MutableMapping[str, str] = os.environ) -> None:
    """Set TensorFlow's switches where the user has not, for this process and those that it starts.

    Each package of the project calls this before anything else, so that library, programs, their worker processes,
    benchmarks and tests compute alike. Where TensorFlow was imported before, oneDNN is as TensorFlow has chosen: the
    processes that this one starts are given the same, and a warning says so if that is not our default.

    Args:
        environment: that of this process.

    Example:
        >>> chosen = {"TF_ENABLE_ONEDNN_OPTS": "0"}
        >>> set_switches(chosen)
        >>> chosen["TF_ENABLE_ONEDNN_OPTS"], chosen["TF_FORCE_GPU_ALLOW_GROWTH"]
        ('0', 'true')
    """
    if ONEDNN not in environment and "tensorflow" in sys.modules:
        environment[ONEDNN] = "1" if _uses_onednn() else "0"
        if environment[ONEDNN] != DEFAULTS[ONEDNN]:
            warnings.warn(
                f"TensorFlow was imported before saat_tf, and without oneDNN, which is its default on this processor. "
                f"Results differ in their last digits from those of the programs, and training is slower. Import "
                f"saat_tf first, or set {ONEDNN} to 1, or to 0 to leave it off everywhere.",
                stacklevel=2,
            )
    for name, value in DEFAULTS.items():
        environment.setdefault(name, value)
    if environment[LOG_LEVEL] != "0":
        hide_import_lines()


def _uses_onednn() -> bool:
    """Return whether the TensorFlow of this process uses oneDNN; there is no public function for that."""
    from tensorflow.python.util import _pywrap_util_port

    return _pywrap_util_port.IsMklEnabled()
