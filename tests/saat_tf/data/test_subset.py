"""A subset of a split, whatever the split is stored as, beside its items picked by hand."""

import numpy as np
import pytest
from PIL import Image

from saat_tf.data import (
    ImageList,
    array_split,
    draw_scenes,
    evaluation_batches,
    file_split,
    record_split,
    subset,
    training_batches,
    training_epochs,
    write_records,
)

CHOSEN = np.array([1, 2, 5, 8])
SIDE = 16


@pytest.fixture(scope="module")
def scenes():
    return draw_scenes(9, image_size=SIDE, seed=0)


@pytest.fixture(params=["array", "files", "records"])
def split(request, scenes, tmp_path):
    if request.param == "array":
        return array_split(scenes.images, scenes.labels)
    paths = [tmp_path / f"{i}.png" for i in range(9)]
    for path, image in zip(paths, scenes.images, strict=True):
        Image.fromarray(np.round(255 * image).astype(np.uint8)).save(path)
    images = ImageList("train", tuple(paths), scenes.labels, tuple(range(1, 10)))
    if request.param == "files":
        return file_split(images, SIDE, SIDE)
    write_records(images, tmp_path / "records", images_per_file=4)
    return record_split(tmp_path / "records", "train", SIDE, SIDE)


@pytest.mark.slow
def test_a_subset_has_the_chosen_items_in_every_way_of_reading(split):
    part = subset(split, CHOSEN)
    expected = np.stack([split.load(i) for i in CHOSEN])
    assert len(part) == 4
    np.testing.assert_array_equal(part.labels, split.labels[CHOSEN])
    for i in range(4):
        np.testing.assert_array_equal(part.load(i), expected[i])
    orders = []
    ways = (evaluation_batches(part, 3), training_batches(part, 3, seed=0), training_epochs(part, 3, seed=0)(1, 0))
    for batches in ways:
        images, labels, index = (np.concatenate(x) for x in zip(*batches.as_numpy_iterator(), strict=True))
        assert sorted(index) == [0, 1, 2, 3]
        np.testing.assert_array_equal(images, expected[index])
        np.testing.assert_array_equal(labels, part.labels[index])
        orders.append(index.tolist())
    assert orders[0] == [0, 1, 2, 3]


@pytest.mark.slow
def test_shards_of_a_subset_are_its_parts(split):
    part = subset(split, CHOSEN)
    found = [index for i in range(3) for *_, index in evaluation_batches(part.shard(i, 3), 2).as_numpy_iterator()]
    assert np.concatenate(found).tolist() == [0, 1, 2, 3]
    *_, index = next(evaluation_batches(part.shard(2, 3), 2).as_numpy_iterator())
    np.testing.assert_array_equal(part.shard(2, 3).load(1), split.load(8))
    assert index.tolist() == [2, 3]


@pytest.mark.parametrize("chosen", [[], [2, 1], [1, 1], [-1, 0], [0, 9]])
def test_what_is_no_subset_is_refused(chosen, scenes):
    with pytest.raises(ValueError, match="ascending indices in"):
        subset(array_split(scenes.images, scenes.labels), np.array(chosen, int))


def test_a_shard_has_no_subset(scenes):
    with pytest.raises(ValueError, match="a shard"):
        subset(array_split(scenes.images, scenes.labels).shard(0, 2), np.array([0]))
