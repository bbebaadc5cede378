"""The exported encoder: files and pixels in, the bits of `encode` out, and no file that fails another."""

import io
import json
import struct

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from tensorflow.core.protobuf import saved_model_pb2

from benchmarks.fuzz import WHOLE, send
from benchmarks.mutated_images import bomb, mutated_images
from export.saved_model import export_saved_model
from saat_tf.models import HashingModel

BITS, SIZE, RESIZE = 16, 24, 28


@pytest.fixture(scope="module")
def encoder():
    keras.utils.set_random_seed(0)
    return HashingModel("small_cnn", BITS, SIZE)


@pytest.fixture(scope="module")
def folder(encoder, tmp_path_factory):
    out = tmp_path_factory.mktemp("export") / "encoder" / "1"
    export_saved_model(encoder, out, resize_size=RESIZE, card={"dataset": "drawn"})
    return out


@pytest.fixture(scope="module")
def signatures(folder):
    return tf.saved_model.load(str(folder)).signatures


def picture(seed=0, width=61, height=40, mode="RGB"):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(pixels).resize((width, height)).convert(mode)


def file_of(kind, image=None, **options):
    buffer = io.BytesIO()
    (image or picture()).save(buffer, kind, **options)
    return buffer.getvalue()


def pixels_of(contents):
    """What the encoder should see, by PIL alone: shorter side to RESIZE, bilinear, and the middle."""
    image = Image.open(io.BytesIO(contents)).convert("RGB")
    scale = RESIZE / min(image.size)
    image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BILINEAR)
    left, top = (image.width - SIZE) // 2, (image.height - SIZE) // 2
    return np.asarray(image.crop((left, top, left + SIZE, top + SIZE)), np.float32) / 255


def signs(packed_codes):
    return np.unpackbits(packed_codes, axis=1)


@pytest.mark.slow
def test_pixels_become_the_codes_and_logits_of_the_encoder(encoder, signatures):
    images = np.random.default_rng(1).random((5, SIZE, SIZE, 3), np.float32)
    packed = signatures["serving_default"](images=tf.constant(images))["packed_codes"].numpy()
    logits = signatures["encode_logits"](images=tf.constant(images))["logits"].numpy()
    np.testing.assert_array_equal(packed, encoder.encode(images).numpy())
    np.testing.assert_allclose(logits, encoder.logits(images).numpy(), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(signs(packed), logits >= 0)


@pytest.mark.slow
def test_files_of_all_formats_and_sizes_in_one_batch_become_the_codes_of_their_pixels(encoder, signatures):
    # Formats without loss, so that PIL's pixels are the same; sizes above the network's and below.
    files = [
        file_of("PNG"),
        file_of("BMP", picture(1, 33, 90)),
        file_of("WEBP", picture(2, 28, 28), lossless=True),
        file_of("PNG", picture(3, 12, 17)),
        file_of("PNG", picture(4, mode="L")),
    ]
    logits = encoder.logits(np.stack([pixels_of(file) for file in files])).numpy()
    encoded = signatures["encode_bytes"](image_bytes=tf.constant(files))
    assert encoded["ok"].numpy().all()
    # PIL rounds to whole levels between its two passes, so bits with a logit next to zero may differ.
    sure = np.abs(logits) > 0.02
    assert sure.mean() > 0.8
    np.testing.assert_array_equal(signs(encoded["packed_codes"].numpy())[sure], (logits >= 0)[sure])


@pytest.mark.slow
def test_lossy_files_are_read(signatures):
    files = [file_of("JPEG"), file_of("WEBP"), file_of("GIF"), file_of("JPEG", picture(mode="L"))]
    assert signatures["encode_bytes"](image_bytes=tf.constant(files))["ok"].numpy().all()


def test_code_bytes_are_the_packed_codes_as_bytes(signatures):
    encoded = signatures["encode_bytes"](image_bytes=tf.constant([file_of("PNG", picture(i)) for i in range(4)]))
    expected = [bytes(row) for row in encoded["packed_codes"].numpy().tolist()]
    assert encoded["code_bytes"].numpy().tolist() == expected


def png_that_declares(width, height):
    header = struct.pack(">II", width, height) + b"\x08\x02\x00\x00\x00"
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR" + header + bytes(40)


BROKEN = {
    "nothing": b"",
    "text": b"no image at all",
    "half a JPEG header": file_of("JPEG")[:20],
    "a truncated PNG": file_of("PNG")[:300],
    "a truncated WebP": file_of("WEBP")[:60],
    "only a magic number": b"\x89PNG\r\n\x1a\n",
    "a bomb": png_that_declares(60_000, 60_000),
    "a size above 2^31": png_that_declares(2**32 - 1, 2**32 - 1),
    "no size": png_that_declares(0, 10),
    "a strip": file_of("PNG", picture(0, 500, 2)),
}


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)
def test_a_file_that_cannot_be_read_has_codes_of_zero_and_fails_no_other(signatures, broken):
    good = file_of("PNG")
    alone = signatures["encode_bytes"](image_bytes=tf.constant([good]))["packed_codes"].numpy()[0]
    encoded = signatures["encode_bytes"](image_bytes=tf.constant([good, broken, good]))
    assert encoded["ok"].numpy().tolist() == [True, False, True]
    np.testing.assert_array_equal(encoded["packed_codes"].numpy(), [alone, np.zeros_like(alone), alone])


def test_a_decompression_bomb_is_refused_by_the_size_that_it_declares(signatures):
    # A whole file, which a decoder would turn into 3 x 8000 x 8000 bytes; PIL says that nothing else is wrong with it.
    file = bomb(8000)
    assert len(file) < 100_000 and Image.open(io.BytesIO(file)).size == (8000, 8000)
    small = signatures["encode_bytes"](image_bytes=tf.constant([bomb(80), file]))
    assert small["ok"].numpy().tolist() == [True, False]


@pytest.mark.slow
def test_damaged_files_of_all_kinds_are_read_or_refused_one_by_one(signatures):
    found, _, coded, memory = send(signatures["encode_bytes"], mutated_images(600))
    assert coded == 0 and sum(sent for _, sent in found.values()) == 600
    assert found[WHOLE][0] == found[WHOLE][1] and found["nothing"][0] == found["noise"][0] == 0
    again = send(signatures["encode_bytes"], mutated_images(600))[
        3
    ]  # the largest picture of the first time needs its memory once
    assert again[-1] - memory[-1] < 30


def test_an_empty_batch_is_no_fault(signatures):
    assert signatures["encode_bytes"](image_bytes=tf.constant([], tf.string))["packed_codes"].shape == (0, BITS // 8)


def test_the_model_card_lies_beside_the_graph(folder):
    assert json.loads((folder / "assets.extra" / "model_card.json").read_text()) == {"dataset": "drawn"}


def test_an_export_is_never_overwritten(encoder, folder):
    with pytest.raises(FileExistsError, match="never overwritten"):
        export_saved_model(encoder, folder, card={})


def test_no_device_but_the_cpu_is_written_into_the_model(folder):
    # One exported beside a GPU must run without it.
    graphs = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes()).meta_graphs
    nodes = [node for graph in graphs for node in graph.graph_def.node]
    nodes += [node for graph in graphs for function in graph.graph_def.library.function for node in function.node_def]
    assert len(nodes) > 100 and all("CPU" in node.device for node in nodes if node.device)
