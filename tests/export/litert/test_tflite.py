"""LiteRT: bits of the converted encoders, and the table that says what a conversion costs."""

import json

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from export.litert.conversion import LiteRTEncoder
from export.litert.parity import Codes, encode_all, parity
from export.tflite import TFLiteExport, load_data, main
from saat_tf.data import RetrievalData, array_split

pytestmark = pytest.mark.slow  # its fixtures take most of the time

VARIANTS = ("float32", "float16", "dynamic", "int8")


@pytest.fixture(scope="module")
def converted(small_run, tmp_path_factory):
    out = tmp_path_factory.mktemp("tflite") / "encoder"
    assert main(TFLiteExport(run_dir=small_run, out=out, num_images=16, num_queries=8)) == 0
    return out


@pytest.fixture
def png_only(monkeypatch):
    """Decode PNG alone: the graph of all kinds costs a second for each split."""
    monkeypatch.setattr(
        "saat_tf.data.decoding.decode.decode_pixels",
        lambda contents, *, apply_orientation=True: tf.io.decode_png(contents, channels=3),
    )


@pytest.fixture(scope="module")
def table(converted):
    return json.loads((converted / "parity.json").read_text())


@pytest.mark.slow
@pytest.mark.parametrize(("variant", "least"), zip(VARIANTS, (1.0, 0.99, 0.95, 0.95), strict=True))
def test_the_bits_of_a_variant_are_those_of_the_encoder(small_encoder, converted, variant, least):
    side, bits = small_encoder.image_size, small_encoder.code_length
    images = np.random.default_rng(0).random((33, side, side, 3), np.float32)
    codes = LiteRTEncoder(converted / f"{variant}.tflite").encode(images).numpy()
    expected = small_encoder.logits(images).numpy() >= 0
    assert codes.dtype == np.uint8 and codes.shape == (33, bits // 8)
    assert np.mean(np.unpackbits(codes, axis=1) == expected) >= least


def test_full_int8_computes_convolutions_in_int8_and_no_float_between(converted):
    # The file's own list of tensors: what is float32 is the input alone.
    interpreter = LiteRTEncoder(converted / "int8.tflite").interpreter
    tensors = interpreter.get_tensor_details()
    floats = [tensor["name"] for tensor in tensors if tensor["dtype"] == np.float32]
    assert floats == ["serving_default_images:0"]
    assert any(tensor["dtype"] == np.int8 for tensor in tensors)


def test_the_table_has_every_variant_and_says_how_it_was_attacked(converted, table):
    assert [row["variant"] for row in table["variants"]] == ["keras", *VARIANTS]
    keras, float32, *_, int8 = table["variants"]
    assert keras["equal_bits"] == float32["equal_bits"] == 1.0
    assert (keras["clean_map"], keras["robust_map"]) == (float32["clean_map"], float32["robust_map"])
    assert int8["bytes"] == (converted / "int8.tflite").stat().st_size < 0.5 * float32["bytes"]
    assert all(row["ms_per_image"] > 0 and 0 <= row["robust_map"] <= 1 for row in table["variants"])
    assert "transfer" in table["surrogate"] and table["num_queries"] == 8
    assert json.loads((converted / "model_card.json").read_text())["defense"] == "saat"


def test_parity_counts_bits_and_ranks_with_the_own_database():
    labels = np.eye(2, dtype=np.float32)
    images = np.zeros((2, 2, 2, 3), np.float32)
    data = RetrievalData("two", ["a", "b"], *[array_split(images, labels)] * 3)
    original = Codes(*[np.array([[0], [255]], np.uint8)] * 3)
    turned = Codes(np.array([[1], [255]], np.uint8), np.array([[0], [255]], np.uint8), np.array([[255], [0]], np.uint8))
    # 1 of 32 bits; each query finds its own first; each adversarial image finds the other first, its own second.
    assert parity(turned, original, data, top_k=None) == {"equal_bits": 31 / 32, "clean_map": 1.0, "robust_map": 0.5}


def test_every_split_is_encoded_in_its_order():
    class Mean:
        def encode(self, images):
            return tf.cast(tf.round(tf.reduce_mean(images, (1, 2, 3))[:, None] * 255), tf.uint8)

    def split(*levels):
        images = np.ones((len(levels), 2, 2, 3), np.float32) * np.array(levels, np.float32).reshape(-1, 1, 1, 1) / 255
        return array_split(images, np.ones((len(levels), 1), np.float32))

    data = RetrievalData("levels", ["a"], split(0), split(*range(40)), split(7, 5))
    codes = encode_all(Mean(), data, np.full((2, 2, 2, 3), 1.0, np.float32))
    assert codes.database.ravel().tolist() == list(range(40))
    assert codes.queries.ravel().tolist() == [7, 5] and codes.adversarial.ravel().tolist() == [255, 255]


@pytest.fixture
def photos(tmp_path):
    """Six images each of two classes, in folders; the files' names."""
    images = np.random.default_rng(0).integers(0, 256, (12, 30, 28, 3), np.uint8)
    names = [f"{'ab'[i % 2]}/{i}.png" for i in range(12)]
    for name, pixels in zip(names, images, strict=True):
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / "photos" / name)
    return names


def test_a_preset_is_measured_on_the_images_of_a_folder(small_encoder, tmp_path, photos, png_only):
    small_encoder.save_to_preset(tmp_path / "preset", card={}, dtype="float32")
    out, preset = tmp_path / "out", str(tmp_path / "preset")
    options = TFLiteExport(preset=preset, out=out, variants=("float32",), data_dir=tmp_path / "photos")
    assert main(options) == 0
    table = json.loads((out / "parity.json").read_text())
    assert table["dataset"] == "photos" and table["num_queries"] == 2  # one of each class is drawn
    assert table["chance_map"] == 0.5 and table["epsilon_255"] == 8.0 and table["defense"] is None
    assert [row["equal_bits"] for row in table["variants"]] == [1.0, 1.0]
    assert table["variants"][0]["bytes"] == (tmp_path / "preset" / "model.safetensors").stat().st_size
    assert json.loads((out / "model_card.json").read_text())["source"]["preset"] == preset


def test_lists_in_the_folder_say_what_is_measured_on(small_encoder, tmp_path, photos, png_only):
    for split, part in (("train", photos[4:]), ("database", photos[4:]), ("test", photos[:4])):
        (tmp_path / "photos" / f"{split}_img.txt").write_text("\n".join(part))
        rows = ["1 0" if name[0] == "a" else "0 1" for name in part]
        (tmp_path / "photos" / f"{split}_label.txt").write_text("\n".join(rows))
    options = TFLiteExport(preset="mine", out=tmp_path, resize_size=30, data_dir=tmp_path / "photos")
    recipe, data = load_data(options, small_encoder)
    assert (data.name, len(data.train), len(data.test)) == ("photos", 8, 4) and recipe.crop_fraction == 24 / 30
    assert data.test.labels.argmax(axis=1).tolist() == [0, 1, 0, 1]


def test_faults_are_told_before_anything_is_written(small_run, converted, tmp_path, capsys):
    cases = {
        "never overwritten": TFLiteExport(run_dir=small_run, out=converted),
        "no such file": TFLiteExport(run_dir=tmp_path, out=tmp_path / "out"),
        "must be at least 1": TFLiteExport(run_dir=small_run, out=tmp_path / "out", num_images=0),
        "needs images to measure on": TFLiteExport(preset="scenes_32bits_undefended", out=tmp_path / "out"),
        "does not apply to scenes": TFLiteExport(run_dir=small_run, out=tmp_path / "out", data_dir=tmp_path),
    }
    for message, options in cases.items():
        assert main(options) == 2 and message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_what_is_no_model_is_refused(tmp_path):
    (tmp_path / "broken.tflite").write_bytes(b"no model")
    with pytest.raises(ValueError, match=r"(?i)model"):
        LiteRTEncoder(tmp_path / "broken.tflite")
