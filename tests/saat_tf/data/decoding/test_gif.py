"""The first picture of GIF files, against PIL's reader."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from saat_tf.data.decoding.gif import first_picture

ROOM = 10_000


def gif(frames, **options):
    """A GIF of pictures in colors of their own, written by PIL with its extensions."""
    pixels = np.random.default_rng(0).integers(0, 256, (frames, 30, 40, 3), np.uint8)
    first, *others = [Image.fromarray(one).quantize(16 + i) for i, one in enumerate(pixels)]
    buffer = io.BytesIO()
    first.save(buffer, "GIF", save_all=True, append_images=others, **options)
    return buffer.getvalue()


FILES = {
    "still": gif(1),
    "animated": gif(4),
    "with a comment and a loop": gif(3, comment=b"x" * 700, loop=0, duration=50),
    "interlaced": gif(2, interlace=1),
}


@pytest.mark.parametrize("contents", FILES.values(), ids=FILES)
def test_the_first_picture_alone_is_left(contents):
    before, after = (Image.open(io.BytesIO(one)) for one in (contents, first_picture(contents, ROOM)[0].numpy()))
    assert after.n_frames == 1
    np.testing.assert_array_equal(np.asarray(after.convert("RGB")), np.asarray(before.convert("RGB")))


@pytest.mark.parametrize("keep", [6, 12, 40, 500])
def test_a_picture_that_is_cut_short_is_refused(keep):
    with pytest.raises(tf.errors.InvalidArgumentError, match="cut short"):
        first_picture(FILES["still"][:keep], ROOM)


def test_a_picture_larger_than_allowed_is_refused():
    first_picture(FILES["still"], 30 * 40)
    with pytest.raises(tf.errors.InvalidArgumentError, match="too large"):
        first_picture(FILES["still"], 30 * 40 - 1)
