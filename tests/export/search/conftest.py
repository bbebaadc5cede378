"""An exported encoder, images of all sorts, and what bulk encoding makes of them."""

import io
import types

import keras
import numpy as np
import pytest
from PIL import Image

from export.encode import EncodeOptions, main
from export.saved_model import export_saved_model
from saat_tf.models import HashingModel

BITS, SIZE = 16, 24


def file_of(kind="PNG", seed=0, mode="RGB", **options):
    """The bytes of an image file; colors in broad tiles, so that codes differ."""
    tiles = np.random.default_rng(seed).integers(0, 256, (3, 4, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(tiles).resize((48, 36), Image.Resampling.BICUBIC).convert(mode).save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    """A folder of versions, of which the newest is an encoder with random weights."""
    keras.utils.set_random_seed(0)
    versions = tmp_path_factory.mktemp("model")
    encoder = HashingModel("small_cnn", BITS, SIZE)
    # Logits of random weights are much the same for all images; about their mean they differ.
    tiles = np.random.default_rng(0).random((64, 3, 4, 3), np.float32)
    bias = encoder.trainable_variables[-1]
    assert bias.shape == (BITS,)
    bias.assign_sub(np.mean(encoder.logits(tiles.repeat(8, axis=1).repeat(6, axis=2)), axis=0))
    export_saved_model(encoder, versions / "2", card={})
    (versions / "1").mkdir()
    return versions


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    """A folder of images: good ones with odd names, and things that cannot be read, each with what is said of it."""
    folder = tmp_path_factory.mktemp("photos")
    names = ["a.jpg", "b.PNG", "c.webp", "d.gif", "e.bmp", "sub/we\nird <b>'\".jpg", "sub/\udcff.png", "sub/ünï.jpeg"]
    kinds = ["JPEG", "PNG", "WEBP", "GIF", "BMP", "JPEG", "PNG", "JPEG"]
    broken = {
        "bad/empty.jpg": (b"", "it is empty"),
        "bad/half.png": (file_of()[:200], "its pixels cannot be decoded"),
        "bad/text.jpg": (b"no image", "it is none of JPEG, PNG, WebP, GIF, BMP"),
    }
    for seed, (name, kind) in enumerate(zip(names, kinds, strict=True)):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(file_of(kind, seed))
    for name, (contents, _) in broken.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(contents)
    (folder / "notes.txt").write_text("not looked at")
    (folder / ".hidden.jpg").write_bytes(file_of())
    faults = {name: fault for name, (_, fault) in broken.items()}
    return types.SimpleNamespace(folder=folder, good=sorted(names), faults=faults)


@pytest.fixture(scope="session")
def encoded(photos, model, tmp_path_factory):
    """The folder that bulk encoding has written of them, in shards of 4."""
    out = tmp_path_factory.mktemp("encoded") / "out"
    options = EncodeOptions(images=photos.folder, model=model, out=out, workers=1, shard_size=4, batch_size=3)
    assert main(options) == 1  # three images cannot be read
    return out
