"""Splits of what users of Keras have: arrays, data sets, folders of class folders; and what is refused."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from saat_tf.data import DataError, Split, evaluation_batches
from saat_tf.data.folder_lists import class_folder_lists

RNG = np.random.default_rng(0)
IMAGES = RNG.random((7, 8, 8, 3), dtype=np.float32)
CLASSES = np.array([0, 2, 1, 1, 0, 2, 2])
ROWS = np.eye(3, dtype=np.float32)[CLASSES]


def pairs(labels=ROWS, images=IMAGES):
    return tf.data.Dataset.from_tensor_slices((images, labels))


FORMS = {
    "arrays": lambda: Split.from_arrays(IMAGES, ROWS),
    "tensors of doubles": lambda: Split.from_arrays(tf.constant(IMAGES, tf.float64), tf.constant(ROWS, tf.int32)),
    "lists of numbers": lambda: Split.from_arrays(IMAGES.tolist(), CLASSES.tolist(), num_classes=3),
    "items": lambda: Split.from_dataset(pairs()),
    "batches": lambda: Split.from_dataset(pairs().batch(3)),
    "items with class numbers": lambda: Split.from_dataset(pairs(CLASSES), num_classes=3),
    "batches with class numbers": lambda: Split.from_dataset(pairs(np.uint8(CLASSES)).batch(2), num_classes=3),
    "a data set of unknown length": lambda: Split.from_dataset(pairs().filter(lambda image, label: True)),
}


@pytest.mark.parametrize("form", FORMS)
def test_images_and_labels_are_those_that_were_given(form):
    split = FORMS[form]()
    assert split.labels.dtype == np.float32
    np.testing.assert_array_equal(split.labels, ROWS)
    images, labels, index = next(iter(evaluation_batches(split, 7)))
    np.testing.assert_allclose(images, IMAGES, atol=1e-7)
    np.testing.assert_array_equal(labels, ROWS)
    np.testing.assert_array_equal(index, np.arange(7))


def test_a_data_set_that_shuffles_itself_is_read_once():
    split = Split.from_dataset(pairs().shuffle(7))
    first, second = (next(iter(evaluation_batches(split, 7))) for _ in range(2))
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)
    for image, row in zip(first[0].numpy(), split.labels, strict=True):
        (place,) = np.flatnonzero((IMAGES == image).all(axis=(1, 2, 3)))
        np.testing.assert_array_equal(row, ROWS[place])


WRONG = [
    (lambda: Split.from_arrays(IMAGES * 255, ROWS), r"outside of \[0, 1\]"),
    (lambda: Split.from_arrays(np.uint8(IMAGES), ROWS), "Divide uint8 pixels by 255"),
    (lambda: Split.from_arrays(IMAGES[0], ROWS), "as many"),
    (lambda: Split.from_arrays(IMAGES, ROWS[:3]), "as many"),
    (lambda: Split.from_arrays(IMAGES[:0], ROWS[:0]), "must have items"),
    (lambda: Split.from_arrays(IMAGES, CLASSES), "class numbers by one-hot rows"),
    (lambda: Split.from_arrays(IMAGES, CLASSES, num_classes=2), r"below 2\. Received: values from 0 to 2"),
    (lambda: Split.from_arrays(IMAGES, ROWS, num_classes=3), "must be class numbers"),
    (lambda: Split.from_dataset(pairs().repeat()), "must have an end"),
    (lambda: Split.from_dataset(pairs().take(0)), "must have items"),
    (lambda: Split.from_dataset(pairs(images=IMAGES * 255)), "outside of"),
    (lambda: Split.from_dataset(pairs(CLASSES)), "class numbers by one-hot rows"),
    (lambda: Split.from_dataset(tf.data.Dataset.from_tensor_slices(IMAGES)), "A batch must be"),
    (lambda: Split.from_dataset(tf.data.Dataset.from_tensor_slices((IMAGES, ROWS, CLASSES))), "Received: 3 parts"),
    (lambda: Split.from_dataset((IMAGES, ROWS)), "must be a tf.data.Dataset. Received: tuple. `Split.from_arrays`"),
    (
        lambda: Split.from_dataset(
            pairs().batch(3).concatenate(pairs().batch(3).map(lambda x, y: (x[:, :4], y)))
        ),
        r"images of one size. Received: \[\(4, 8\), \(8, 8\)\]",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("make", "message"), WRONG)
def test_what_is_no_data_set_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def write_folder(root, classes, count, first=0):
    """Write pictures of one color each, which tells which they are."""
    for column, name in enumerate(classes):
        (root / name).mkdir(parents=True, exist_ok=True)
        for number in range(first, first + count):
            color = np.full((10, 12, 3), (40 * column, 10 * number, 200), np.uint8)
            Image.fromarray(color).save(root / name / f"{number:02}.png")


@pytest.mark.slow
def test_a_folder_of_class_folders_is_that_of_keras(tmp_path):
    write_folder(tmp_path, ("cat", "dog"), 3)
    split = Split.from_directory(tmp_path, 8, resize_size=10)
    images, labels, _ = next(iter(evaluation_batches(split, 6)))
    theirs = keras.utils.image_dataset_from_directory(
        tmp_path, label_mode="categorical", image_size=(8, 8), shuffle=False, batch_size=6, verbose=False
    )
    expected = next(iter(theirs))
    np.testing.assert_allclose(images, expected[0] / 255, atol=1e-5)  # one color, so that the cut does not matter
    np.testing.assert_array_equal(labels, expected[1])
    np.testing.assert_array_equal(Split.from_dataset(theirs.map(lambda x, y: (x / 255, y))).labels, expected[1])
    with pytest.raises(DataError, match="no such folder"):
        Split.from_directory(tmp_path / "none", 8)
    divided = tmp_path / "divided"
    for part in ("train", "val"):
        write_folder(divided / part, ("cat", "dog"), 2)
    with pytest.raises(DataError, match=r"is divided into .* such as .*train, or train by python -m trainers\.folders"):
        Split.from_directory(divided, 8)
    assert len(Split.from_directory(divided / "train", 8)) == 4


def names(images):
    return [f"{path.parent.name}/{path.name}" for path in images.paths]


def test_queries_are_drawn_of_each_class_and_the_rest_is_database_and_training_set(tmp_path):
    write_folder(tmp_path, ("cat", "dog"), 10)
    write_folder(tmp_path, ("eel",), 2)
    lists, class_names = class_folder_lists(tmp_path, 0.3, seed=5)
    assert class_names == ("cat", "dog", "eel")
    queries = names(lists.test)
    assert sorted(name.split("/")[0] for name in queries) == ["cat"] * 3 + ["dog"] * 3 + ["eel"]
    assert names(lists.train) == names(lists.database) != sorted(names(lists.database))
    everything = {f"{p.parent.name}/{p.name}" for p in tmp_path.rglob("*.png")}
    assert sorted(queries + names(lists.database)) == sorted(everything)
    for images in (lists.train, lists.database, lists.test):
        assert [class_names[i] for i in images.labels.argmax(axis=1)] == [name.split("/")[0] for name in names(images)]
        assert (images.labels.sum(axis=1) == 1).all()
    again, other = (class_folder_lists(tmp_path, 0.3, seed=seed)[0] for seed in (5, 6))
    assert names(again.test) == queries and names(again.database) == names(lists.database)
    assert set(names(other.test)) != set(queries)


def test_a_divided_folder_says_which_the_queries_are(tmp_path):
    write_folder(tmp_path / "train", ("cat", "dog"), 4)
    write_folder(tmp_path / "test", ("dog",), 3, first=10)
    lists, class_names = class_folder_lists(tmp_path, 0.5, seed=0)
    assert class_names == ("cat", "dog") and len(lists.database.paths) == len(lists.train.paths) == 8
    assert sorted(names(lists.test)) == ["dog/10.png", "dog/11.png", "dog/12.png"]
    np.testing.assert_array_equal(lists.test.labels, np.float32([[0, 1]] * 3))
