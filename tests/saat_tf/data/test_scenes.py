"""Drawn scenes: seeded, labeled, and showing what their labels say."""

import hashlib

import numpy as np
import pytest

from saat_tf.data import CLASS_NAMES, draw_scene_labels, draw_scenes, scene_class_names

SIDE = 64


@pytest.fixture(scope="module")
def scenes():
    return draw_scenes(600, image_size=SIDE, seed=3)


@pytest.mark.slow
def test_the_same_seed_gives_the_same_pixels_and_labels(scenes):
    again = draw_scenes(600, image_size=SIDE, seed=3)
    np.testing.assert_array_equal(again.images, scenes.images)
    np.testing.assert_array_equal(again.labels, scenes.labels)


def test_drawing_neither_uses_nor_moves_the_global_generator(scenes):
    np.random.seed(0)
    expected = np.random.random(3)
    np.random.seed(0)
    shorter = draw_scenes(2, image_size=SIDE, seed=3)
    np.testing.assert_array_equal(np.random.random(3), expected)
    np.testing.assert_array_equal(shorter.images, scenes.images[:2])


@pytest.mark.parametrize("count", [1, 7])
def test_a_longer_set_begins_with_a_shorter_one(scenes, count):
    shorter = draw_scenes(count, image_size=SIDE, seed=3)
    np.testing.assert_array_equal(shorter.images, scenes.images[:count])
    np.testing.assert_array_equal(shorter.labels, scenes.labels[:count])


def test_another_seed_gives_other_pictures_with_no_overlap(scenes):
    other = draw_scenes(20, image_size=SIDE, seed=4)
    for image in other.images:
        assert np.abs(scenes.images[:20] - image).max(axis=(1, 2, 3)).min() > 0.1


def test_no_two_pictures_are_the_same(scenes):
    assert len({image.tobytes() for image in scenes.images}) == len(scenes.images)


def test_pixels_are_float32_in_0_to_1_and_labels_float32_of_0_and_1(scenes):
    assert scenes.images.shape == (600, SIDE, SIDE, 3) and scenes.images.dtype == np.float32
    assert 0 <= scenes.images.min() < 0.1 and 0.9 < scenes.images.max() <= 1
    assert scenes.labels.shape == (600, 10) and scenes.labels.dtype == np.float32
    assert set(np.unique(scenes.labels)) == {0, 1}


def test_every_picture_has_one_to_four_labels_and_each_number_occurs(scenes):
    assert set(scenes.labels.sum(axis=1)) == {1, 2, 3, 4}


def test_every_class_has_a_name_and_occurs(scenes):
    assert len(set(CLASS_NAMES)) == 10
    # 600 scenes of 1.97 objects among ten classes: 118 of each are expected, with a standard deviation of about 10.
    assert scenes.labels.sum(axis=0).min() > 68


def test_two_pictures_share_a_label_as_often_as_on_real_multi_label_sets(scenes):
    shared = (scenes.labels @ scenes.labels.T > 0)[np.triu_indices(600, k=1)]
    assert 0.25 < shared.mean() < 0.45


def standing_off(image):
    """Pixels that differ from the middle color of the frame by more than clutter, gradient and noise can."""
    frame = np.concatenate([image[:2].reshape(-1, 3), image[-2:].reshape(-1, 3), image[:, :2].reshape(-1, 3)])
    return np.abs(image - np.median(frame, axis=0)).max(axis=-1) > 0.3


def of_one_object(scenes, name):
    chosen = (scenes.labels.sum(axis=1) == 1) & (scenes.labels[:, CLASS_NAMES.index(name)] == 1)
    return scenes.images[chosen]


def test_an_object_stands_off_from_its_background_in_every_picture(scenes):
    # The thinnest shape, a stick of radius 0.2, covers 0.032 x 0.2 x 4 = 1.6 % of a picture; half may lie outside.
    for name in CLASS_NAMES:
        images = of_one_object(scenes, name)
        assert len(images) > 5
        for image in images:
            assert standing_off(image).mean() > 0.008


def has_a_hole(image):
    """Whether the middle of what stands off is background."""
    mask = standing_off(image)
    rows, columns = np.nonzero(mask)
    row, column = round(rows.mean()), round(columns.mean())
    return mask[row - 1 : row + 2, column - 1 : column + 2].mean() < 0.5


@pytest.mark.parametrize("name, hollow", [("ring", True), ("disc", False), ("square", False), ("cross", False)])
def test_the_picture_shows_the_shape_of_its_label(scenes, name, hollow):
    images = of_one_object(scenes, name)
    assert np.mean([has_a_hole(image) for image in images]) == hollow


@pytest.mark.parametrize("options", [{"num_images": 0}, {"num_images": -1}, {"num_images": 1, "image_size": 15}])
def test_too_few_or_too_small_pictures_are_refused(options):
    with pytest.raises(ValueError, match=r"at least 1 picture of at least 16 pixels. Received: num_images="):
        draw_scenes(**options)


def test_the_smallest_set_can_be_drawn():
    assert draw_scenes(1, image_size=16).images.shape == (1, 16, 16, 3)


def test_the_ten_classes_are_drawn_as_ever():
    # Of the first state of the code that drew scenes, rounded since the last digit may differ between machines.
    scenes = draw_scenes(6, image_size=32, seed=5)
    pixels = np.round(scenes.images * 255).astype(np.uint8)
    assert hashlib.sha256(pixels.tobytes()).hexdigest()[:16] == "a4f5ac0d9a752cc1"
    assert [list(map(int, np.flatnonzero(row))) for row in scenes.labels] == [
        [0, 4, 7],
        [4, 6, 8],
        [7],
        [0, 2],
        [0],
        [7, 8],
    ]


@pytest.mark.parametrize("num_classes", [4, 10, 11, 100])
def test_each_class_has_a_name_and_the_labels_alone_are_those_of_the_pictures(num_classes):
    names = scene_class_names(num_classes)
    assert len(set(names)) == num_classes and names[:10] == CLASS_NAMES[:num_classes]
    labels = draw_scenes(12, image_size=16, seed=6, num_classes=num_classes).labels
    assert labels.shape == (12, num_classes)
    np.testing.assert_array_equal(draw_scene_labels(12, seed=6, num_classes=num_classes), labels)


def test_of_many_classes_each_occurs_and_rows_have_one_to_four():
    labels = draw_scene_labels(600, seed=2, num_classes=100)
    assert labels.sum(axis=0).min() > 0 and set(labels.sum(axis=1)) == {1, 2, 3, 4}
    assert draw_scene_labels(3, num_classes=1000).shape == (3, 1000)


def test_a_class_beyond_the_ten_shows_one_shape_with_another_color_in_its_middle():
    disc_with_square = scene_class_names(100).index("disc with square")
    found = 0
    for seed in range(60):
        labels = draw_scene_labels(1, seed=seed, num_classes=12)[0]
        if list(np.flatnonzero(labels)) != [disc_with_square]:
            continue
        image = draw_scenes(1, image_size=SIDE, seed=seed, num_classes=12).images[0]
        mask = standing_off(image)
        rows, columns = np.nonzero(mask)
        row, column = round(rows.mean()), round(columns.mean())
        edge = image[row, columns[rows == row].min() + 2]
        found += np.abs(image[row, column] - edge).max() > 0.2
    assert found >= 1


@pytest.mark.parametrize("num_classes", [0, 3, 101])
def test_no_other_number_of_classes_is_drawn(num_classes):
    with pytest.raises(ValueError, match=f"4 to 100 classes. Received: num_classes={num_classes}"):
        draw_scenes(1, num_classes=num_classes)
