"""State that Keras' own callbacks have from epoch to epoch, as arrays of a checkpoint."""

import json
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

# Attributes that `on_train_begin` resets, or, of ModelCheckpoint, that a new process begins without.
ATTRIBUTES: dict[type[keras.callbacks.Callback], tuple[str, ...]] = {
    keras.callbacks.EarlyStopping: ("wait", "best", "best_epoch", "stopped_epoch"),
    keras.callbacks.ReduceLROnPlateau: ("wait", "best", "cooldown_counter"),
    keras.callbacks.ModelCheckpoint: ("best",),
}
BEST_WEIGHTS = "best_weights"


def state_arrays(callbacks: Sequence[keras.callbacks.Callback]) -> list[np.ndarray]:
    """Return the state of those callbacks that have one: a text in JSON, and the weights that it counts.

    Example:
        >>> state_arrays([keras.callbacks.TerminateOnNaN()])
        []
        >>> stop = keras.callbacks.EarlyStopping("loss")
        >>> stop.on_train_begin()
        >>> str(state_arrays([stop])[0])[:61]
        '{"EarlyStopping of loss, 0": {"numbers": {"wait": 0, "best": '
    """
    state: dict[str, dict] = {}
    weights: list[np.ndarray] = []
    for name, callback, attributes in _known(callbacks):
        best = getattr(callback, BEST_WEIGHTS, None) or []
        numbers = {attribute: _plain(getattr(callback, attribute)) for attribute in attributes}
        state[name] = {"numbers": numbers, "weights": len(best)}
        weights += best
    return [np.array(json.dumps(state)), *weights] if state else []


def set_state(callbacks: Sequence[keras.callbacks.Callback], arrays: Sequence[np.ndarray]) -> None:
    """Set callbacks to the state that `state_arrays` returned; one that was not among those stays as it is."""
    if not arrays:
        return
    known = {name: callback for name, callback, _ in _known(callbacks)}
    text, *weights = arrays
    for name, state in json.loads(str(text)).items():
        best, weights = weights[: state["weights"]], weights[state["weights"] :]
        if name not in known:
            continue
        for attribute, value in state["numbers"].items():
            setattr(known[name], attribute, value)
        if best:
            setattr(known[name], BEST_WEIGHTS, best)


def _known(
    callbacks: Sequence[keras.callbacks.Callback],
) -> list[tuple[str, keras.callbacks.Callback, tuple[str, ...]]]:
    """Return the callbacks whose state is known, each with a name of its own."""
    return [
        (f"{kind.__name__} of {callback.monitor}, {place}", callback, attributes)
        for kind, attributes in ATTRIBUTES.items()
        for place, callback in enumerate(one for one in callbacks if isinstance(one, kind))
    ]


def _plain(value: Any) -> int | float | None:
    return value if value is None or isinstance(value, int) else float(value)
