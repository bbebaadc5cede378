"""Drawn scenes: seeded, multi-label, neither blank nor the same."""

import numpy as np
import pytest

from saat_tf.data import CLASS_NAMES, draw_scenes


def test_the_same_seed_draws_the_same_and_a_longer_set_begins_with_a_shorter_one():
    long, short = draw_scenes(12, seed=4), draw_scenes(5, seed=4)
    np.testing.assert_array_equal(long.images[:5], short.images)
    np.testing.assert_array_equal(long.labels[:5], short.labels)
    assert np.abs(draw_scenes(5, seed=5).images - short.images).max() > 0.1


def test_pictures_are_floats_in_the_pixel_range_and_have_contrast():
    images = draw_scenes(30, image_size=24).images
    assert images.shape == (30, 24, 24, 3) and images.dtype == np.float32
    assert images.min() >= 0 and images.max() <= 1
    assert (np.ptp(images, axis=(1, 2)).max(axis=1) > 0.4).all()


def test_each_picture_has_one_to_four_of_ten_classes_and_all_occur():
    labels = draw_scenes(300).labels
    assert labels.shape == (300, len(CLASS_NAMES)) == (300, 10)
    assert set(labels.sum(axis=1)) == {1, 2, 3, 4}
    assert (labels.sum(axis=0) > 20).all()


def test_about_a_third_of_pairs_share_a_label():
    labels = draw_scenes(300).labels
    shares = np.mean([[bool((a * b).any()) for b in labels[:100]] for a in labels[100:200]])
    assert 0.25 < shares < 0.45


@pytest.mark.parametrize(("num_images", "image_size"), [(0, 32), (4, 15)])
def test_sets_that_cannot_be_drawn_are_refused(num_images, image_size):
    with pytest.raises(ValueError, match="at least 1 picture of at least 16 pixels"):
        draw_scenes(num_images, image_size=image_size)
