"""Every kind of image file: its pixels against PIL's, or its refusal by name, in words and in the graph."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from benchmarks.drawn_images import drawn_files, expected_pixels
from saat_tf.data.decoding.header import MAX_SCANS, refusal
from saat_tf.data.decoding.pixels import decode_pixels
from saat_tf.data.decoding.tolerant_decode import checked, decode_batch, decoding_fault


@tf.function(input_signature=[tf.TensorSpec((), tf.string)], autograph=False)
def decode(contents):
    return decode_pixels(checked(contents))


def encoded(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def corners(width=6, height=4):
    """An image that no turn leaves as it is."""
    return Image.fromarray(np.arange(3 * width * height, dtype=np.uint8).reshape(height, width, 3))


@pytest.mark.slow
def test_drawn_files_have_the_pixels_of_pil_or_are_refused_by_name():
    refused = 0
    for name, contents in drawn_files(300, seed=5):
        fault = refusal(contents)
        if fault:
            refused += 1
            assert "convert it to PNG" in fault and decoding_fault(contents) == fault, name
            continue
        found, expected = decode(tf.constant(contents)).numpy(), expected_pixels(contents)
        assert found.shape == expected.shape, name
        assert np.abs(found.astype(int) - expected).max() <= 1, name
    assert 20 < refused < 100


# Where the first row and the first column of what is stored belong: EXIF 2.32.
TURNED = {
    1: lambda stored: stored,
    2: lambda stored: stored[:, ::-1],
    3: lambda stored: stored[::-1, ::-1],
    4: lambda stored: stored[::-1],
    5: lambda stored: stored.swapaxes(0, 1),
    6: lambda stored: stored[::-1].swapaxes(0, 1),
    7: lambda stored: stored[::-1, ::-1].swapaxes(0, 1),
    8: lambda stored: stored[:, ::-1].swapaxes(0, 1),
}


@pytest.mark.slow
@pytest.mark.parametrize("endian", ["<", ">"])
@pytest.mark.parametrize("kind", ["PNG", "WEBP", "JPEG"])
@pytest.mark.parametrize("value", TURNED)
def test_an_image_is_turned_as_its_exif_data_say_unless_told_not_to(value, kind, endian):
    exif = Image.Exif()
    exif.endian = endian
    exif[0x0112], exif[0x010F] = value, "a camera"
    contents = tf.constant(encoded(corners(), kind, exif=exif, **({"lossless": True} if kind == "WEBP" else {})))
    stored = decode_pixels(contents, apply_orientation=False).numpy()
    assert stored.shape == (4, 6, 3)
    np.testing.assert_array_equal(decode_pixels(contents).numpy(), TURNED[value](stored))


def test_inks_are_inverted_with_and_without_adobes_marker():
    contents = encoded(corners(32, 16).convert("CMYK"), "JPEG", quality=95)
    place = contents.find(b"Adobe") - 4
    for one in (contents, contents[:place] + contents[place + 16 :]):
        found = decode(tf.constant(one)).numpy().astype(int)
        expected = np.asarray(Image.open(io.BytesIO(one)).convert("RGB"))
        assert np.abs(found - expected).max() <= 1


def test_a_picture_of_a_gif_lies_at_its_place_on_white():
    small = Image.new("P", (2, 3), 1)
    small.putpalette([9, 9, 9, 200, 100, 0])
    contents = bytearray(encoded(small, "GIF"))
    contents[6:10] = bytes([5, 0, 6, 0])  # the canvas
    place = contents.index(b",", 13)
    contents[place + 1 : place + 5] = bytes([1, 0, 2, 0])  # left, top
    expected = np.full((6, 5, 3), 255, np.uint8)
    expected[2:5, 1:3] = [200, 100, 0]
    np.testing.assert_array_equal(decode(tf.constant(bytes(contents))).numpy(), expected)
    contents[place + 1] = 4
    assert "does not lie within its 5 x 6 pixels" in decoding_fault(bytes(contents))


def jpeg_of_scans(count):
    """A progressive JPEG whose last scan is repeated until there are so many."""
    contents = encoded(corners(16, 16), "JPEG", progressive=True)
    starts = [i for i in range(len(contents)) if contents[i : i + 3] == b"\xff\xda\x00"]
    last = contents[starts[-1] : -2]
    return contents[:-2] + last * (count - len(starts)) + b"\xff\xd9"


def test_scans_are_counted_before_they_are_decoded():
    assert decoding_fault(jpeg_of_scans(MAX_SCANS)) is None
    assert decoding_fault(jpeg_of_scans(MAX_SCANS + 1)) == "it has 501 scans, at most 500 are read"


def patched(contents, place, value):
    return contents[:place] + value + contents[place + len(value) :]


JPEG = encoded(corners(16, 16), "JPEG")
FRAME = JPEG.index(b"\xff\xc0")
FRAMES = [corners(), corners().rotate(180)]
REFUSED = {
    "12 bits": (patched(JPEG, FRAME + 4, b"\x0c"), "it is a JPEG of 12 bits, 8 are read; convert it to PNG"),
    "lossless": (patched(JPEG, FRAME, b"\xff\xc3"), "it is a lossless JPEG, which is not read; convert it to PNG"),
    "palette": (encoded(corners().quantize(4), "BMP"), "it is a BMP of 8 bits with a palette; of BMP, 24 bits"),
    "32 bits": (encoded(corners().convert("RGBA"), "BMP"), "it is a BMP of 32 bits; of BMP, 24 bits"),
    "animated WebP": (
        encoded(FRAMES[0], "WEBP", save_all=True, append_images=FRAMES[1:], lossless=True),
        "it is an animated WebP, still ones are read",
    ),
    "HEIC": (b"\0\0\0\x18ftypheic" + bytes(20), "it is a HEIC, AVIF or video file, none of JPEG"),
}


@pytest.mark.slow
@pytest.mark.parametrize(("contents", "fault"), REFUSED.values(), ids=REFUSED)
def test_what_is_not_read_is_refused_by_name(contents, fault):
    assert decoding_fault(contents).startswith(fault)
    assert decode_batch(tf.constant([contents]), 4, 4)[1].numpy().tolist() == [False]


@pytest.mark.parametrize(("texts", "fault"), [
    (32, None), (33, "it has 33 compressed texts and profiles, at most 32 are read")
])  # fmt: skip
def test_texts_of_a_png_are_counted_and_not_read(texts, fault):
    from PIL import PngImagePlugin

    info = PngImagePlugin.PngInfo()
    for number in range(texts):
        info.add_text(f"k{number}", "a" * (PngImagePlugin.MAX_TEXT_CHUNK + 1), zip=True)
    contents = encoded(corners(), "PNG", pnginfo=info)
    assert decoding_fault(contents) == fault
    if fault is None:
        np.testing.assert_array_equal(decode(tf.constant(contents)).numpy(), np.asarray(corners()))
