"""Weights from safetensors files, and the names in them."""

import pickle

import keras
import numpy as np
import pytest

from saat_tf.backbones.convert import load_state_dict, read_state_dict

safetensors = pytest.importorskip("safetensors.numpy", reason="the package safetensors is not installed")
ARRAYS = {"b": np.arange(6, dtype=np.float32).reshape(2, 3), "a": np.float16([0.5, -2]), "empty": np.zeros((0, 3))}


def test_reads_what_the_package_wrote(tmp_path):
    safetensors.save_file(ARRAYS, tmp_path / "model.safetensors")
    arrays = read_state_dict(tmp_path / "model.safetensors")
    assert sorted(arrays) == sorted(ARRAYS)
    for name, value in ARRAYS.items():
        np.testing.assert_array_equal(arrays[name], value, strict=True)


def test_brain_floats_are_floats(tmp_path):
    content = content_of(
        b'{"fc6.weight":{"dtype":"BF16","shape":[2,1],"data_offsets":[0,4]}}', bytes.fromhex("803f00c0")
    )
    (tmp_path / "model.safetensors").write_bytes(content)
    inputs = keras.Input((1,))
    backbone = keras.Model(inputs, keras.layers.Dense(2, use_bias=False, name="fc6")(inputs))
    load_state_dict(backbone, read_state_dict(tmp_path / "model.safetensors"), classifier="fc")
    np.testing.assert_array_equal(backbone.layers[-1].kernel, [[1.0, -2.0]])


def test_long_lists_of_names_are_cut_and_counted():
    inputs = keras.Input((1,))
    backbone = keras.Model(inputs, keras.layers.Dense(2, use_bias=False, name="fc6")(inputs), name="small")
    with pytest.raises(ValueError) as refusal:
        load_state_dict(backbone, {f"n{number:02}": np.zeros(1) for number in range(14)}, classifier="fc")
    assert "state dict of small. Received: one with 1 missing: fc6.weight, 14 left over: n00, n01," in str(
        refusal.value
    )
    assert "n10, n11, and 2 more, 0 unfit." in str(refusal.value)


def content_of(header, data=b""):
    return len(header).to_bytes(8, "little") + header + data


@pytest.mark.parametrize(
    "content",
    [
        b"",
        pickle.dumps({"weight": 1}),
        content_of(b"{}")[:-1],
        content_of(b'{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}', bytes(4)),
        content_of(b'{"w":{"dtype":"F32","shape":[9],"data_offsets":[0,8]}}', bytes(8)),
        content_of(b'{"w":{"dtype":"F33","shape":[4],"data_offsets":[0,8]}}', bytes(8)),
        (2**60).to_bytes(8, "little") + b"{}",
    ],
)
def test_files_that_are_none_are_refused_by_name(content, tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"Received: .*model.safetensors: .+ Fetch the file again"):
        read_state_dict(path)


@pytest.mark.parametrize("name", ["none.safetensors", "none.pth"])
def test_a_missing_file_is_an_error(name, tmp_path):
    with pytest.raises(FileNotFoundError, match=name):
        read_state_dict(tmp_path / name)
