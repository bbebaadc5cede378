"""Presets: folders with the configuration, the weights and the card of a model, some of them in this package."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import keras
import numpy as np

from saat_tf.backbones.convert import read_state_dict, write_safetensors
from saat_tf.files import write_json
from saat_tf.strict_json import read_json, read_object

CONFIG, WEIGHTS, CARD = "config.json", "model.safetensors", "card.json"
PACKAGED = Path(__file__).parents[1] / "presets"
REMEDY = "Save the preset again, or fetch the folder again."
Model = TypeVar("Model", bound=keras.Model)


def presets() -> dict[str, dict[str, Any]]:
    """Return the cards of the presets in this package by their names.

    A card says in `about` what the model is and in `robustness` what it withstands, as
    `saat_tf.evaluation.RobustnessReport.to_dict` has it: measured on the weights as they are stored.

    Example:
        >>> sorted(presets())
        ['scenes_32bits_saat_strong', 'scenes_32bits_undefended']
    """
    return {folder.name: read_json(folder / CARD) for folder in sorted(PACKAGED.iterdir())}


def save_preset(model: keras.Model, folder: str | Path, *, card: Mapping[str, Any], dtype: str = "float16") -> None:
    """Write a model as a preset: config.json, model.safetensors and card.json, which has the digest of the weights.

    Args:
        model: the model; its classes are registered with Keras.
        folder: made where it is missing; a preset in it is replaced.
        card: what is known of the model, as JSON takes it.
        dtype: of the stored weights: "float16", half the bytes, or "float32".

    Raises:
        ValueError: an unknown dtype, or a weight is not finite in it.
    """
    if dtype not in ("float16", "float32"):
        raise ValueError(f"`dtype` must be float16 or float32. Received: {dtype!r}.")
    arrays = {}
    for name, variable in _names(model).items():
        with np.errstate(over="ignore"):
            array = variable.numpy().astype(dtype if keras.backend.is_float_dtype(variable.dtype) else variable.dtype)
        if not np.isfinite(array).all():
            raise ValueError(f"{name} is not finite in {dtype}. Received: a weight beyond its range. Use float32.")
        arrays[name] = np.ascontiguousarray(array)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / CONFIG, keras.saving.serialize_keras_object(model))
    write_safetensors(arrays, folder / WEIGHTS)
    contents = (folder / WEIGHTS).read_bytes()
    stored = {"dtype": dtype, "bytes": len(contents), "sha256": hashlib.sha256(contents).hexdigest()}
    write_json(folder / CARD, {**card, "weights": stored})


def load_preset(preset: str | Path, kind: type[Model]) -> Model:
    """Load the model of a preset, in float32.

    Args:
        preset: a name in `presets()`, or a folder that `save_preset` wrote.
        kind: the class that the model must have.

    Raises:
        FileNotFoundError: a file of the folder is missing.
        ValueError: there is no such preset; its weights are cut short or are not those of its card; they do not fit its
            configuration; or it is no `kind`.
    """
    folder = preset_folder(preset)
    if not folder.is_dir():
        raise ValueError(
            f"A preset is one of {', '.join(presets())}, or a folder with {CONFIG}, {WEIGHTS} and {CARD}. Received: "
            f"{str(preset)!r}."
        )
    arrays = _checked_weights(folder)
    model = keras.saving.deserialize_keras_object(read_object(folder / CONFIG, {"config": dict}))
    if not isinstance(model, kind):
        raise ValueError(f"{folder / CONFIG}: expected a {kind.__name__}. Received: a {type(model).__name__}.")
    expected = [(variable.name, tuple(variable.shape)) for variable in model.weights]
    stored = sorted(arrays.items())  # by place
    found = [(name.rpartition("/")[2], array.shape) for name, array in stored]
    if found != expected:
        differing = [place for place, (one, other) in enumerate(zip(found, expected, strict=False)) if one != other]
        shown = f"{stored[differing[0]][0]} of {stored[differing[0]][1].shape}" if differing else "the number of arrays"
        raise ValueError(
            f"{folder / WEIGHTS}: its arrays are not those of {CONFIG}. Received: {len(found)} for {len(expected)} "
            f"weights; what differs first is {shown}. {REMEDY}"
        )
    for variable, (_, array) in zip(model.weights, stored, strict=True):
        variable.assign(array.astype(variable.dtype))
    return model


def preset_folder(preset: str | Path) -> Path:
    """Return the folder of a preset: a name in `presets()`, or the folder itself."""
    return PACKAGED / preset if (PACKAGED / preset / CONFIG).is_file() else Path(preset)


def _names(model: keras.Model) -> dict[str, keras.Variable]:
    """Return the weights by place and path; the path before the last name may differ in a model made anew."""
    return {f"{place:04}.{variable.path}": variable for place, variable in enumerate(model.weights)}


def _checked_weights(folder: Path) -> dict[str, np.ndarray]:
    card = read_object(folder / CARD, {"weights": dict}, remedy=REMEDY)
    path, stated = folder / WEIGHTS, card["weights"]
    contents = path.read_bytes()
    if len(contents) != stated.get("bytes"):
        raise ValueError(
            f"{path}: {CARD} states {stated.get('bytes')} bytes. Received: {len(contents)}. The file is cut short or "
            f"another one. {REMEDY}"
        )
    digest = hashlib.sha256(contents).hexdigest()
    if digest != stated.get("sha256"):
        raise ValueError(f"{path}: {CARD} states the SHA-256 {stated.get('sha256')}. Received: {digest}. {REMEDY}")
    return read_state_dict(path)
