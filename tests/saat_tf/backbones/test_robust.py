"""Robust backbones of the package: what their cards say is what they are, and what is damaged is refused."""

import json
import shutil

import keras
import numpy as np
import pytest

from saat_tf.backbones import backbone_spec, load_weights_file, robust, robust_backbones, robust_weights_file
from saat_tf.data import DataError


@pytest.mark.slow
@pytest.mark.parametrize("name", robust_backbones())
def test_each_fits_its_backbone(name):
    keras.utils.set_random_seed(0)
    backbone = backbone_spec(name).build(48)
    drawn = backbone.get_weights()
    load_weights_file(backbone, name, robust_weights_file(name))
    kernels = [(new, old) for new, old in zip(backbone.get_weights(), drawn, strict=True) if new.ndim == 4]
    assert all((new != old).any() and np.isfinite(new).all() for new, old in kernels)
    card = robust_backbones()[name]
    assert card["backbone"] == name and 0 < card["held_out"]["robust"]["value"] < card["held_out"]["clean"]["value"]


@pytest.mark.parametrize("damage", ["cut short", "gone", "another card"])
def test_a_file_that_its_card_does_not_know_is_refused(tmp_path, monkeypatch, damage):
    folder = shutil.copytree(robust.FOLDER, tmp_path / "weights")
    monkeypatch.setattr(robust, "FOLDER", folder)
    file, card = folder / "efficientnet_lite0.safetensors", folder / "efficientnet_lite0.json"
    if damage == "cut short":
        file.write_bytes(file.read_bytes()[:-1])
    elif damage == "gone":
        file.unlink()
    else:
        card.write_text(json.dumps({**json.loads(card.read_text()), "weights": {"sha256": "0"}}))
    with pytest.raises(DataError, match=r"not the file of which its card speaks\. Install the package again\."):
        robust_weights_file("efficientnet_lite0")
