"""From image files to pixels, against PIL; and that no unreadable file passes the check."""

import io
import struct
import zlib

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, PngImagePlugin

from saat_tf.data import DataError, ImageList, ImageLists, check_images, drop_images
from saat_tf.data.decoding import tolerant_decode
from saat_tf.data.decoding.decode import decode_image
from saat_tf.data.decoding.tolerant_decode import decoding_fault

# PIL rounds to 8 bits between its horizontal and its vertical pass and again at the end: half a level each.
PIL_ROUNDING = 1.01 / 255


def encoded(image, image_format="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def random_image(width, height, mode="RGB", seed=0):
    channels = {"L": (), "RGB": (3,), "RGBA": (4,), "LA": (2,)}[mode]
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, *channels), np.uint8), mode)


def smooth_image(width, height):
    x, y = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    waves = np.stack([np.sin(5 * x + 2 * y), np.cos(7 * y), np.sin(3 * x * y + 1)], axis=-1)
    return Image.fromarray(np.uint8(np.round(127.5 + 120 * waves)))


def decode(contents, image_size, resize_size):
    image = decode_image(tf.constant(contents), image_size, resize_size).numpy()
    assert image.shape == (image_size, image_size, 3) and image.dtype == np.float32
    assert image.min() >= 0 and image.max() <= 1
    return image


@pytest.mark.parametrize("image_format", ["PNG", "BMP"])
def test_an_image_of_the_right_size_comes_back_exactly(image_format):
    image = random_image(17, 17)
    np.testing.assert_array_equal(
        decode(encoded(image, image_format), 17, 17), np.asarray(image, np.float32) * np.float32(1 / 255)
    )


@pytest.mark.parametrize("options", [{"lossless": True}, {"quality": 80}])
def test_webp_has_the_pixels_of_pil(options):
    contents = encoded(random_image(18, 18), "WEBP", **options)
    with Image.open(io.BytesIO(contents)) as image:
        expected = np.asarray(image.convert("RGB"), np.float32) * np.float32(1 / 255)
    np.testing.assert_array_equal(decode(contents, 18, 18), expected)


@pytest.mark.parametrize(
    "width, height, left, top",
    [(31, 20, 7, 2), (20, 31, 2, 7), (30, 20, 7, 2), (20, 20, 2, 2), (64, 20, 24, 2)],
)
def test_without_a_resize_the_middle_is_cut_out(width, height, left, top):
    image = random_image(width, height)
    expected = np.asarray(image.crop((left, top, left + 16, top + 16)), np.float32) * np.float32(1 / 255)
    np.testing.assert_array_equal(decode(encoded(image), 16, 20), expected)


@pytest.mark.parametrize("width, height", [(96, 64), (64, 96), (64, 64), (150, 50), (100, 67)])
@pytest.mark.parametrize("image_size, resize_size", [(28, 32), (32, 32), (40, 48)])
def test_a_smaller_image_is_pils_bilinear_resize_of_the_shorter_side_and_a_center_crop(
    width, height, image_size, resize_size
):
    image = smooth_image(width, height)
    shorter = min(width, height)
    resized = (round(width * resize_size / shorter), round(height * resize_size / shorter))
    left, top = (resized[0] - image_size) // 2, (resized[1] - image_size) // 2
    crop = image.resize(resized, Image.Resampling.BILINEAR).crop((left, top, left + image_size, top + image_size))
    np.testing.assert_allclose(
        decode(encoded(image), image_size, resize_size), np.asarray(crop, np.float32) / 255, atol=PIL_ROUNDING, rtol=0
    )


def test_noise_is_smoothed_as_pil_smooths_it():
    image = random_image(96, 64)
    crop = image.resize((24, 16), Image.Resampling.BILINEAR).crop((5, 1, 19, 15))
    found = decode(encoded(image), 14, 16)
    np.testing.assert_allclose(found, np.asarray(crop, np.float32) / 255, atol=PIL_ROUNDING, rtol=0)
    # Without antialiasing, the pixels of noise would keep its spread of 255 / sqrt(12) levels, or half of it.
    assert found.std() < 0.12


@pytest.mark.parametrize("width, height", [(10, 14), (14, 10)])
def test_a_larger_image_is_pils_bilinear_resize(width, height):
    image = smooth_image(width, height)
    resized = (20, 28) if height > width else (28, 20)
    left, top = (resized[0] - 18) // 2, (resized[1] - 18) // 2
    crop = image.resize(resized, Image.Resampling.BILINEAR).crop((left, top, left + 18, top + 18))
    np.testing.assert_allclose(
        decode(encoded(image), 18, 20), np.asarray(crop, np.float32) / 255, atol=PIL_ROUNDING, rtol=0
    )


@pytest.mark.parametrize("size", [(80, 40), (40, 80)], ids=["landscape", "portrait"])
def test_the_cut_is_as_far_from_both_ends(size):
    # Black, with a white square in the very middle and red ends that a center crop must lose.
    pixels = np.zeros((size[1], size[0], 3), np.uint8)
    long_axis = pixels if size[1] > size[0] else pixels.swapaxes(0, 1)
    long_axis[:16, :, 0] = long_axis[-16:, :, 0] = 255
    pixels[size[1] // 2 - 4 : size[1] // 2 + 4, size[0] // 2 - 4 : size[0] // 2 + 4] = 255
    found = decode(encoded(Image.fromarray(pixels)), 20, 20)
    # Antialiasing blends the square's edge over one pixel of the result to either side.
    np.testing.assert_allclose(found[9:11, 9:11], np.ones((2, 2, 3)), atol=1e-6)
    assert found[:7].max() == found[13:].max() == found[:, :7].max() == found[:, 13:].max() == 0
    for flip in (found[::-1], found[:, ::-1]):
        np.testing.assert_allclose(flip, found, atol=1e-5)


# The accurate inverse transform gives the pixels of PIL; the fast one was seen to differ by up to 11 levels.
ROUNDING = 1e-6


def test_a_grey_jpeg_has_three_equal_channels_equal_to_pils():
    contents = encoded(random_image(16, 16, "L"), "JPEG", quality=95)
    found = decode(contents, 16, 16)
    np.testing.assert_array_equal(found[..., 0], found[..., 1])
    np.testing.assert_array_equal(found[..., 0], found[..., 2])
    difference = np.abs(found[..., 0] - np.asarray(Image.open(io.BytesIO(contents)), np.float32) / 255)
    assert difference.max() < ROUNDING


def test_a_color_jpeg_is_equal_to_pils():
    contents = encoded(smooth_image(24, 24), "JPEG", quality=95)
    expected = np.asarray(Image.open(io.BytesIO(contents)).convert("RGB"), np.float32) / 255
    difference = np.abs(decode(contents, 24, 24) - expected)
    assert difference.max() < ROUNDING


@pytest.mark.parametrize("mode", ["RGBA", "LA", "L"])
def test_a_png_with_transparency_or_in_grey_is_shown_on_white(mode):
    image = random_image(16, 16, mode)
    on_white = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    expected = np.asarray(on_white.convert("RGB"), np.float32) * np.float32(1 / 255)
    np.testing.assert_array_equal(decode(encoded(image), 16, 16), expected)


def test_a_palette_png_gives_its_colors():
    image = random_image(16, 16).quantize(16)
    expected = np.asarray(image.convert("RGB"), np.float32) * np.float32(1 / 255)
    np.testing.assert_array_equal(decode(encoded(image), 16, 16), expected)


def test_the_first_picture_of_a_gif_is_taken():
    first, second = (Image.new("RGB", (16, 16), color) for color in ((255, 0, 0), (0, 0, 255)))
    found = decode(encoded(first, "GIF", save_all=True, append_images=[second]), 16, 16)
    np.testing.assert_allclose(found, np.broadcast_to(np.float32([1, 0, 0]), (16, 16, 3)), atol=0.02)


def test_a_graph_gives_what_eager_calls_give():
    contents = encoded(random_image(40, 30))
    in_graph = tf.function(lambda data: decode_image(data, 12, 16))(tf.constant(contents))
    np.testing.assert_allclose(in_graph, decode(contents, 12, 16), atol=1e-6)


PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def png_chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_header(width, height):
    """A PNG file of the given size by its header, whose data are those of no row."""
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return PNG_SIGNATURE + header + png_chunk(b"IDAT", zlib.compress(b"\0")) + png_chunk(b"IEND", b"")


def dds_of_unknown_pixels():
    contents = bytearray(encoded(random_image(8, 8), "DDS"))
    contents[80:84] = struct.pack("<I", 128)  # the flags of its pixel format
    return bytes(contents)


def png_with_a_text_bomb():
    """A sound PNG whose compressed comment unpacks to more than PIL reads."""
    info = PngImagePlugin.PngInfo()
    info.add_text("comment", "a" * (PngImagePlugin.MAX_TEXT_CHUNK + 1), zip=True)
    return encoded(random_image(8, 8), pnginfo=info)


JPEG = encoded(random_image(32, 32), "JPEG")
BAD = {
    "truncated JPEG": JPEG[: len(JPEG) // 2],
    "JPEG header alone": JPEG[:20],
    "truncated PNG": encoded(random_image(32, 32))[:-100],
    "text": b"this is no image\n",
    "zero bytes": b"",
    "TIFF": encoded(random_image(8, 8), "TIFF"),
    "animated WebP": encoded(random_image(8, 8), "WEBP", save_all=True, append_images=[Image.new("RGB", (8, 8))]),
    "bomb": png_header(60_000, 60_000),
    "bomb that PIL opens with a warning": png_header(10_000, 10_000),
    "PNG with a short header": PNG_SIGNATURE + png_chunk(b"IHDR", bytes(5)),
    "text that begins as a PPM does": b"P5 is how this text begins\n",
    "DDS of unknown pixels": dds_of_unknown_pixels(),
}


@pytest.fixture
def lists(tmp_path):
    """Six good images of several formats over three splits; the images of training are in the database too."""
    contents = {
        "a.jpg": JPEG,
        "b.png": encoded(random_image(9, 7, "RGBA")),
        "c.gif": encoded(random_image(9, 7), "GIF"),
        "d.bmp": encoded(random_image(9, 7), "BMP"),
        "w.webp": encoded(random_image(9, 7), "WEBP"),
        "e.jpg": encoded(random_image(9, 7, "L"), "JPEG"),
    }
    for name, data in contents.items():
        (tmp_path / name).write_bytes(data)

    def images(split, names, lines):
        paths = tuple(tmp_path / name for name in names)
        return ImageList(split, paths, np.ones((len(names), 1), np.float32), lines)

    return ImageLists(
        images("train", ["a.jpg"], (1,)),
        images("database", ["a.jpg", "b.png", "c.gif"], (1, 3, 4)),
        images("test", ["d.bmp", "e.jpg", "w.webp"], (2, 7, 9)),
    )


@pytest.mark.slow
def test_good_images_pass(lists):
    assert check_images(lists) == []


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("content", BAD.values(), ids=BAD)
def test_a_bad_image_is_named_with_its_list_its_line_and_a_remedy(lists, content):
    path = lists.test.paths[1]
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        check_images(lists)
    message = str(caught.value)
    assert message.startswith("test_img.txt:7: ")
    assert str(path) in message
    assert "Replace it, or drop its lines" in message
    assert "\n" not in message


def test_an_image_that_vanished_is_named(lists):
    lists.database.paths[2].unlink()
    with pytest.raises(DataError, match=r"^database_img\.txt:4: .*c\.gif"):
        check_images(lists)


@pytest.mark.parametrize("name", ["TIFF", "text", "zero bytes"])
def test_the_message_on_a_refused_format_says_which_are_read(lists, name):
    lists.train.paths[0].write_bytes(BAD[name])
    with pytest.raises(DataError, match="it is empty" if name == "zero bytes" else "none of JPEG, PNG, WebP, GIF, BMP"):
        check_images(lists)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("side", [60_000, 10_000, 7_072])
def test_a_picture_of_too_many_pixels_is_refused_without_decoding(lists, monkeypatch, side):
    # 7,072 x 7,072 is the first square above 50 million pixels.
    read = []

    def recorded(contents, **_):
        tf.py_function(lambda seen: read.append(seen), [contents], [])
        return tf.zeros((1, 1, 3), tf.uint8)

    monkeypatch.setattr(tolerant_decode, "decode_pixels", recorded)
    monkeypatch.setattr(tolerant_decode, "_decodes", tf.function(tolerant_decode._decodes.python_function))
    for path in (*lists.database.paths, *lists.test.paths):
        path.write_bytes(png_header(side, side))
    with pytest.raises(DataError, match=r"train_img\.txt:1: .*a\.jpg.*pixels"):
        check_images(lists)
    assert not read


@pytest.mark.parametrize("image_format", ["PNG", "JPEG", "GIF", "BMP", "WEBP"])
def test_a_file_cut_short_anywhere_in_its_header_has_a_fault_in_words(image_format):
    # TensorFlow's own message quotes the file, of whose bytes Python cannot make text.
    contents = encoded(random_image(9, 9), image_format)
    for length in range(48):
        fault = decoding_fault(contents[:length])
        assert fault and fault.isascii(), (length, fault)


@pytest.mark.parametrize(
    "magic",
    [
        b"\xff\xd8\xff",
        b"\x89PNG\r\n\x1a\n",
        b"GIF89a",
        b"BM",
        b"RIFF\0\0\0\0WEBPVP8X",
        b"RIFF\0\0\0\0WEBPVP8L",
        b"RIFF",
    ],
)
def test_bytes_without_sense_behind_any_magic_number_have_a_fault_in_words(magic):
    rng = np.random.default_rng(5)
    for _ in range(400):
        fault = decoding_fault(magic + rng.bytes(int(rng.integers(0, 80))))
        assert fault and fault.isascii()


def test_each_file_is_counted_once(lists):
    seen = []

    def track(items, total, description):
        for item in items:
            seen.append((total, description))
            yield item

    check_images(lists, track)
    assert len(seen) == 6 and {total for total, _ in seen} == {6}
    assert len({description for _, description in seen}) == 1 and seen[0][1]


def test_a_strip_too_narrow_to_resize_is_refused(lists):
    lists.database.paths[0].write_bytes(encoded(random_image(2, 60)))
    with pytest.raises(DataError, match=r"train_img\.txt:1: .*sides of at most 20 : 1"):
        check_images(lists)


def test_unreadable_images_are_listed_at_each_of_their_lines_and_dropped_on_request(lists):
    lists.train.paths[0].write_bytes(BAD["text"])  # a.jpg, in the database too
    lists.test.paths[0].write_bytes(BAD["zero bytes"])
    unreadable = check_images(lists, skip=True)
    assert sorted((item.split, item.line) for item in unreadable) == [("database", 1), ("test", 2), ("train", 1)]
    assert {item.path for item in unreadable} == {lists.train.paths[0], lists.test.paths[0]}
    assert all(
        str(item).startswith(f"{item.split}_img.txt:{item.line}: cannot read {item.path}") for item in unreadable
    )
    with pytest.raises(DataError, match=r"train_img.txt: none of its 1 images can be read"):
        drop_images(lists, unreadable)
    kept = drop_images(lists, [item for item in unreadable if item.split != "train"])
    assert (kept.train.lines, kept.database.lines, kept.test.lines) == ((1,), (3, 4), (7, 9))
    assert kept.test.paths == lists.test.paths[1:]


def test_a_rectangle_is_cut_from_the_middle_of_what_covers_it():
    file = tf.io.encode_png(np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8))
    square = decode_image(file, 20, 20).numpy()
    np.testing.assert_allclose(decode_image(file, (10, 20), (10, 20)), square[5:15], atol=1e-6)
    np.testing.assert_allclose(decode_image(file, (20, 8), (20, 20)), square[:, 6:14], atol=1e-6)


@pytest.mark.parametrize(
    "image_size, resize_size, received", [(21, 20, "21 and 20"), (0, 20, "0"), ((10, 21), 20, r"\(10, 21\) and 20")]
)
def test_a_cut_larger_than_the_picture_is_refused(image_size, resize_size, received):
    with pytest.raises(ValueError, match=rf"Received: {received}"):
        decode_image(tf.constant(JPEG), image_size, resize_size)


def windows(image, side):
    return [
        image[top : top + side, left : left + side]
        for top in range(image.shape[0] - side + 1)
        for left in range(image.shape[1] - side + 1)
    ]


def test_each_place_of_a_random_crop_comes_up_about_as_often_and_repeats_with_its_seed():
    image = random_image(5, 4)
    expected = windows(np.asarray(image, np.float32) * np.float32(1 / 255), 3)  # 2 x 3 places
    contents, counts = tf.constant(encoded(image)), np.zeros(6, int)
    crop = tf.function(lambda seed: decode_image(contents, 3, 4, crop_seed=seed))
    for number in range(240):
        found = crop(tf.constant([number, 0], tf.int64)).numpy()
        counts += [(found == window).all() for window in expected]
    # 40 are expected of each, with a standard deviation of sqrt(240 * 1/6 * 5/6) = 5.8.
    assert counts.sum() == 240 and counts.min() > 16 and counts.max() < 64
    np.testing.assert_array_equal(crop(tf.constant([239, 0], tf.int64)), found)


def test_a_random_crop_is_a_window_of_pils_resize():
    image = smooth_image(60, 40)
    resized = np.asarray(image.resize((30, 20), Image.Resampling.BILINEAR), np.float32) / 255
    for number in range(5):
        found = decode_image(tf.constant(encoded(image)), 16, 20, crop_seed=tf.constant([number, 1])).numpy()
        assert min(np.abs(found - window).max() for window in windows(resized, 16)) < PIL_ROUNDING
