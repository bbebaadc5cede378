"""Batches of images, labels and indices: what is in them, and in what order."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from saat_tf.data import ImageList, array_split, evaluation_batches, file_split, training_batches

COUNT, SIZE, CLASSES = 11, 8, 3


@pytest.fixture(scope="module")
def arrays():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (COUNT, SIZE, SIZE, 3)).astype(np.float32) / np.float32(255)
    return images, rng.integers(0, 2, (COUNT, CLASSES)).astype(np.float32)


@pytest.fixture(scope="module")
def image_list(arrays, tmp_path_factory):
    images, labels = arrays
    folder = tmp_path_factory.mktemp("images")
    paths = tuple(folder / f"{i}.png" for i in range(COUNT))
    for path, image in zip(paths, images, strict=True):
        Image.fromarray(np.uint8(np.round(image * 255))).save(path)
    return ImageList("train", paths, labels, tuple(range(1, COUNT + 1)))


@pytest.fixture(params=["arrays", "cached arrays", "files", "cached files"])
def split(request, arrays, image_list):
    cache = request.param.startswith("cached")
    if request.param.endswith("files"):
        return file_split(image_list, SIZE, SIZE, cache=cache)
    return dataclasses.replace(array_split(*arrays), cache=cache)


def epoch(batches):
    return [tuple(part.numpy() for part in batch) for batch in batches]


def order(batches):
    return np.concatenate([index for _, _, index in batches]).tolist()


def check_contents(batches, arrays):
    images, labels = arrays
    for batch_images, batch_labels, index in batches:
        assert (batch_images.dtype, batch_labels.dtype, index.dtype) == (np.float32, np.float32, np.int64)
        assert batch_images.min() >= 0 and batch_images.max() <= 1
        np.testing.assert_array_equal(batch_images, images[index])
        np.testing.assert_array_equal(batch_labels, labels[index])


def test_training_batches_hold_the_images_and_labels_that_their_index_names_in_each_epoch(split, arrays):
    batches = training_batches(split, 4, seed=0)
    for _ in range(3):
        check_contents(epoch(batches), arrays)


def test_training_batches_hold_every_item_once_an_epoch_and_the_last_one_the_rest(split):
    batches = training_batches(split, 4, seed=0)
    for _ in range(3):
        items = epoch(batches)
        assert [len(index) for _, _, index in items] == [4, 4, 3]
        assert sorted(order(items)) == list(range(COUNT))


def test_the_order_is_new_in_every_epoch_and_is_not_the_list_s(split):
    batches = training_batches(split, 4, seed=0)
    orders = [order(epoch(batches)) for _ in range(3)]
    assert len({tuple(o) for o in [*orders, range(COUNT)]}) == 4


def test_the_same_seed_gives_the_same_orders_and_another_seed_others(split):
    first, again, other = (training_batches(split, 4, seed=seed) for seed in (5, 5, 6))
    expected = [order(epoch(first)) for _ in range(2)]
    assert [order(epoch(again)) for _ in range(2)] == expected
    assert order(epoch(other)) != expected[0]


def test_the_order_is_that_of_the_seed_whatever_else_was_drawn(split):
    expected = order(epoch(training_batches(split, 4, seed=5)))
    tf.random.uniform(())
    np.random.default_rng().random()
    assert order(epoch(training_batches(split, 4, seed=5))) == expected


def test_a_cache_loads_each_image_once_and_without_one_each_epoch_loads_anew(arrays):
    images, labels = arrays
    for cache, expected in ((False, 3 * COUNT), (True, COUNT)):
        loads = tf.Variable(0)

        def load(index, loads=loads):
            loads.assign_add(1)
            return tf.gather(images, index)

        split = dataclasses.replace(array_split(images, labels), load=load, cache=cache)
        batches = training_batches(split, 4, seed=0)
        for _ in range(3):
            check_contents(epoch(batches), arrays)
        assert loads.numpy() == expected


def test_evaluation_batches_keep_the_order_of_the_list(split, arrays):
    batches = evaluation_batches(split, 4)
    for _ in range(2):
        items = epoch(batches)
        check_contents(items, arrays)
        assert order(items) == list(range(COUNT))
        assert [len(index) for _, _, index in items] == [4, 4, 3]


@pytest.mark.parametrize("batch_size, sizes", [(1, [1] * COUNT), (COUNT, [COUNT]), (100, [COUNT])])
def test_a_batch_may_be_as_small_as_one_and_larger_than_the_split(split, batch_size, sizes):
    for batches in (evaluation_batches(split, batch_size), training_batches(split, batch_size, seed=0)):
        items = epoch(batches)
        assert [len(index) for _, _, index in items] == sizes
        assert sorted(order(items)) == list(range(COUNT))


def test_a_split_is_as_long_as_its_labels(split):
    assert len(split) == COUNT


def test_the_sides_of_images_are_known_to_the_graph(split):
    for batches in (evaluation_batches(split, 4), training_batches(split, 4, seed=0)):
        images, labels, index = batches.element_spec
        assert images.shape.as_list() == [None, SIZE, SIZE, 3]
        assert labels.shape.as_list() == [None, CLASSES]
        assert index.shape.as_list() == [None]


def test_files_are_resized_and_cut(image_list):
    images, _, _ = next(iter(evaluation_batches(file_split(image_list, 4, 6), COUNT)))
    for path, image in zip(image_list.paths, images.numpy(), strict=True):
        with Image.open(path) as stored:
            expected = stored.resize((6, 6), Image.Resampling.BILINEAR).crop((1, 1, 5, 5))
        # PIL rounds to 8 bits after each of its two passes.
        np.testing.assert_allclose(image, np.asarray(expected, np.float32) / 255, atol=1.01 / 255)


@pytest.mark.parametrize("cache", [False, True])
def test_flips_mirror_about_half_of_the_images_anew_in_every_epoch_and_repeat_with_the_seed(cache):
    images = np.random.default_rng(3).random((64, 4, 4, 3), np.float32)
    split = dataclasses.replace(array_split(images, np.eye(64, dtype=np.float32)), cache=cache)

    def flipped(seed):
        tf.random.set_seed(0)
        batches = training_batches(split, 10, seed=seed, flip=True)
        epochs = []
        for _ in range(2):
            mirrored = np.zeros(64, bool)
            for shown, labels, index in batches.as_numpy_iterator():
                np.testing.assert_array_equal(labels, np.eye(64)[index])
                for image, i in zip(shown, index, strict=True):
                    mirrored[i] = (image == images[i, :, ::-1]).all()
                    assert mirrored[i] or (image == images[i]).all()
            epochs.append(mirrored)
        return np.stack(epochs)

    first = flipped(seed=5)
    assert (12 < first.sum(axis=1)).all() and (first.sum(axis=1) < 52).all()
    assert (first[0] != first[1]).any()
    np.testing.assert_array_equal(flipped(seed=5), first)
