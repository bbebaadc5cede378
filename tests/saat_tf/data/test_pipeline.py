"""Batches of images, labels and indices: what is in them, and in what order."""

import dataclasses
import types

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from saat_tf.data import (
    DataError,
    ImageList,
    array_split,
    cached_file_split,
    evaluation_batches,
    file_split,
    record_split,
    training_batches,
    training_epochs,
    write_records,
)
from saat_tf.data.decoding.decode import decode_image
from saat_tf.replicas import deal, taken_here

COUNT, SIZE, CLASSES = 11, 8, 3


@pytest.fixture(scope="module")
def arrays():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (COUNT, SIZE, SIZE, 3)).astype(np.float32) * np.float32(1 / 255)
    return images, rng.integers(0, 2, (COUNT, CLASSES)).astype(np.float32)


@pytest.fixture(scope="module")
def image_list(arrays, tmp_path_factory):
    images, labels = arrays
    folder = tmp_path_factory.mktemp("images")
    paths = tuple(folder / f"{i}.png" for i in range(COUNT))
    for path, image in zip(paths, images, strict=True):
        Image.fromarray(np.uint8(np.round(image * 255))).save(path)
    return ImageList("train", paths, labels, tuple(range(1, COUNT + 1)))


@pytest.fixture(scope="module")
def record_folder(image_list, tmp_path_factory):
    folder = tmp_path_factory.mktemp("records")
    write_records(image_list, folder, images_per_file=3)
    return folder


@pytest.fixture
def png_only(monkeypatch):
    """Decode PNG alone: the graph of all kinds, whose pixels other tests compare, takes a second for each data set."""

    def decode_png(contents, *, apply_orientation=True):
        return tf.io.decode_png(contents, channels=3)

    monkeypatch.setattr("saat_tf.data.decoding.decode.decode_pixels", decode_png)


@pytest.fixture(params=["arrays", "cached arrays", "files", "cached files", "disk cache", "records", "cached records"])
def split(request, arrays, image_list, record_folder, tmp_path, png_only):
    cache = request.param.startswith("cached")
    if request.param.endswith("records"):
        return record_split(record_folder, "train", SIZE, SIZE, cache=cache)
    if request.param == "disk cache":
        return cached_file_split(image_list, SIZE, SIZE, tmp_path)
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


@pytest.mark.slow
def test_training_batches_hold_the_images_and_labels_that_their_index_names_in_each_epoch(split, arrays):
    batches = training_batches(split, 4, seed=0)
    for _ in range(3):
        check_contents(epoch(batches), arrays)


@pytest.mark.slow
def test_training_batches_hold_every_item_once_an_epoch_and_the_last_one_the_rest(split):
    batches = training_batches(split, 4, seed=0)
    for _ in range(3):
        items = epoch(batches)
        assert [len(index) for _, _, index in items] == [4, 4, 3]
        assert sorted(order(items)) == list(range(COUNT))


@pytest.mark.slow
def test_the_order_is_new_in_every_epoch_and_is_not_the_list_s(split):
    batches = training_batches(split, 4, seed=0)
    orders = [order(epoch(batches)) for _ in range(3)]
    assert len({tuple(o) for o in [*orders, range(COUNT)]}) == 4


@pytest.mark.slow
def test_the_same_seed_gives_the_same_orders_and_another_seed_others(split):
    first, again, other = (training_batches(split, 4, seed=seed) for seed in (5, 5, 6))
    expected = [order(epoch(first)) for _ in range(2)]
    assert [order(epoch(again)) for _ in range(2)] == expected
    assert order(epoch(other)) != expected[0]


@pytest.mark.slow
def test_the_order_is_that_of_the_seed_whatever_else_was_drawn(split):
    expected = order(epoch(training_batches(split, 4, seed=5)))
    tf.random.uniform(())
    np.random.default_rng().random()
    assert order(epoch(training_batches(split, 4, seed=5))) == expected


def test_a_cache_loads_each_image_once_and_without_one_each_epoch_loads_anew(arrays):
    images, labels = arrays
    for cache, expected in ((False, 3 * COUNT), (True, COUNT)):
        loads = tf.Variable(0)

        def decode(index, crop_seed, loads=loads):
            loads.assign_add(1)
            return tf.gather(images, index)

        split = dataclasses.replace(array_split(images, labels), decode=decode, cache=cache)
        batches = training_batches(split, 4, seed=0)
        for _ in range(3):
            check_contents(epoch(batches), arrays)
        assert loads.numpy() == expected


@pytest.mark.slow
def test_evaluation_batches_keep_the_order_of_the_list(split, arrays):
    batches = evaluation_batches(split, 4)
    for _ in range(2):
        items = epoch(batches)
        check_contents(items, arrays)
        assert order(items) == list(range(COUNT))
        assert [len(index) for _, _, index in items] == [4, 4, 3]


@pytest.mark.slow
@pytest.mark.parametrize("batch_size, sizes", [(1, [1] * COUNT), (COUNT, [COUNT]), (100, [COUNT])])
def test_a_batch_may_be_as_small_as_one_and_larger_than_the_split(split, batch_size, sizes):
    for batches in (evaluation_batches(split, batch_size), training_batches(split, batch_size, seed=0)):
        items = epoch(batches)
        assert [len(index) for _, _, index in items] == sizes
        assert sorted(order(items)) == list(range(COUNT))


def test_a_split_is_as_long_as_its_labels(split):
    assert len(split) == COUNT


@pytest.mark.slow
def test_the_sides_of_images_are_known_to_the_graph(split):
    for batches in (evaluation_batches(split, 4), training_batches(split, 4, seed=0)):
        images, labels, index = batches.element_spec
        assert images.shape.as_list() == [None, SIZE, SIZE, 3]
        assert labels.shape.as_list() == [None, CLASSES]
        assert index.shape.as_list() == [None]


def test_files_are_resized_and_cut(image_list, png_only):
    images, _, _ = next(iter(evaluation_batches(file_split(image_list, 4, 6), COUNT)))
    for path, image in zip(image_list.paths, images.numpy(), strict=True):
        with Image.open(path) as stored:
            expected = stored.resize((6, 6), Image.Resampling.BILINEAR).crop((1, 1, 5, 5))
        # PIL rounds to 8 bits after each of its two passes.
        np.testing.assert_allclose(image, np.asarray(expected, np.float32) / 255, atol=1.01 / 255)


@pytest.mark.slow
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


class Encoder(tf.Module):
    """What an exported encoder does with the contents of image files of any size."""

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.string)])
    def pixels(self, contents):
        return tf.map_fn(lambda c: decode_image(c, 12, 14), contents, fn_output_signature=tf.float32)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """Nine JPEG files of several sizes, all to be resized."""
    folder, rng = tmp_path_factory.mktemp("photographs"), np.random.default_rng(1)
    paths = tuple(folder / f"{i}.jpg" for i in range(9))
    for i, path in enumerate(paths):
        Image.fromarray(rng.integers(0, 256, (20 + 3 * i, 44 - 2 * i, 3), np.uint8)).save(path, quality=95)
    return ImageList("train", paths, np.eye(9, dtype=np.float32), tuple(range(1, 10)))


def by_index(batches):
    return np.concatenate([images[np.argsort(index)] for images, _, index in [join(batches)]])


def join(batches):
    return tuple(np.concatenate(parts) for parts in zip(*epoch(batches), strict=True))


@pytest.mark.slow
def test_training_evaluation_caches_records_and_export_show_the_same_pixels_bit_for_bit(photographs, tmp_path):
    tf.saved_model.save(Encoder(), tmp_path / "encoder")
    exported = (
        tf.saved_model.load(tmp_path / "encoder").pixels([path.read_bytes() for path in photographs.paths]).numpy()
    )
    assert exported.shape == (9, 12, 12, 3) and exported.std() > 0.05
    write_records(photographs, tmp_path / "records", images_per_file=4)
    for split in (
        file_split(photographs, 12, 14),
        file_split(photographs, 12, 14, cache=True),
        record_split(tmp_path / "records", "train", 12, 14),
        cached_file_split(photographs, 12, 14, tmp_path / "cache"),
        cached_file_split(photographs, 12, 14, tmp_path / "cache"),
    ):
        np.testing.assert_array_equal(by_index(evaluation_batches(split, 4)), exported)
        training = training_batches(split, 4, seed=1)
        np.testing.assert_array_equal(by_index(training), exported)
        np.testing.assert_array_equal(by_index(training), exported)


@pytest.mark.slow
@pytest.mark.parametrize("cache", [False, True])
@pytest.mark.parametrize("kind", ["files", "records"])
@pytest.mark.usefixtures("png_only")
def test_random_crops_are_new_in_every_epoch_and_repeat_with_the_seed(kind, cache, image_list, record_folder, arrays):
    if kind == "files":
        split = file_split(image_list, 5, SIZE, cache=cache)
    else:
        split = record_split(record_folder, "train", 5, SIZE, cache=cache)

    def crops(seed):
        tf.random.set_seed(0)
        batches = training_batches(split, 4, seed=seed, random_crop=True)
        return [by_index(batches) for _ in range(2)]

    first = crops(seed=5)
    for shown in first:
        places = []
        for crop, image in zip(shown, arrays[0], strict=True):
            windows = [image[y : y + 5, x : x + 5] for y in range(4) for x in range(4)]
            places += [place for place, window in enumerate(windows) if (window == crop).all()]
        assert len(places) == COUNT and len(set(places)) > 3
    assert (first[0] != first[1]).any()
    np.testing.assert_array_equal(crops(seed=5), first)
    assert (crops(seed=6)[0] != first[0]).any()


def test_images_that_are_cut_already_cannot_be_cropped_at_random(arrays, image_list, tmp_path):
    for split in (array_split(*arrays), cached_file_split(image_list, SIZE, SIZE, tmp_path)):
        with pytest.raises(ValueError, match=r"`random_crop` needs images that are not cut yet"):
            training_batches(split, 4, seed=0, random_crop=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind, count", [("arrays", 1), ("arrays", COUNT), ("arrays", 2), ("files", 3), ("records", 3), ("records", 2)]
)
@pytest.mark.usefixtures("png_only")
def test_shards_together_hold_every_item_once_whatever_their_number(kind, count, arrays, image_list, record_folder):
    whole = {
        "arrays": lambda: array_split(*arrays),
        "files": lambda: file_split(image_list, SIZE, SIZE, cache=True),
        "records": lambda: record_split(record_folder, "train", SIZE, SIZE),
    }[kind]()
    parts = [whole.shard(number, count) for number in range(count)]
    assert sorted(map(len, parts)) == sorted(COUNT // count + (i < COUNT % count) for i in range(count))
    evaluated, trained = [], []
    for part in parts:
        np.testing.assert_array_equal(part.labels, arrays[1][len(evaluated) : len(evaluated) + len(part)])
        for batches, found in ((evaluation_batches(part, 2), evaluated), (training_batches(part, 2, seed=0), trained)):
            items = epoch(batches)
            check_contents(items, arrays)
            found += order(items)
            assert sum(len(index) for _, _, index in items) == len(part)
    assert evaluated == list(range(COUNT)) == sorted(trained)


def test_a_shard_of_a_worker_can_be_dealt_to_its_replicas(arrays):
    split = array_split(*arrays)
    found = [
        order(epoch(evaluation_batches(split.shard(worker, 2).shard(replica, 2), 4)))
        for worker in range(2)
        for replica in range(2)
    ]
    # floor(11 / 2) = 5 items are cut at 2, six at 3.
    assert found == [[0, 1], [2, 3, 4], [5, 6, 7], [8, 9, 10]]


@pytest.mark.slow
def test_an_epoch_is_a_function_of_seed_and_number_and_skipping_leaves_the_rest_as_it_is(split, arrays):
    batches = training_epochs(split, 4, seed=5, flip=True)
    orders = [order(epoch(batches(number, 0))) for number in range(3)]
    assert len({tuple(found) for found in orders}) == 3
    assert all(sorted(found) == list(range(COUNT)) for found in orders)
    whole = epoch(batches(2, 0))
    assert [len(index) for _, _, index in whole] == [4, 4, 3]
    fresh = training_epochs(split, 4, seed=5, flip=True)
    for skipped in (2, 1, 3, 0):  # no earlier epoch was read
        rest = epoch(fresh(2, skipped))
        assert len(rest) == 3 - skipped
        for batch, expected in zip(rest, whole[skipped:], strict=True):
            for part, same in zip(batch, expected, strict=True):
                np.testing.assert_array_equal(part, same)
    assert order(epoch(training_epochs(split, 4, seed=6)(2, 0))) != orders[2]


def test_batches_that_are_skipped_are_not_decoded(arrays):
    decoded = tf.Variable(0)

    def decode(index, crop_seed):
        decoded.assign_add(1)
        return tf.gather(arrays[0], index)

    split = dataclasses.replace(array_split(*arrays), decode=decode)
    assert len(order(epoch(training_epochs(split, 4, seed=0)(1, 2)))) == COUNT - 8 == decoded.numpy()


@pytest.mark.slow
@pytest.mark.parametrize("workers, local", [(2, 1), (3, 1), (2, 2)])  # of the last batch, of 3, four take all
def test_a_worker_reads_no_rows_but_its_own(split, arrays, workers, local):
    count, whole = workers * local, training_epochs(split, 4, seed=5, flip=True)
    jobs = tf.train.ClusterSpec({"worker": [f"host{i}:1" for i in range(workers)]})
    for worker in range(workers):
        resolver = types.SimpleNamespace(task_id=worker, cluster_spec=lambda: jobs)
        needed = taken_here(types.SimpleNamespace(num_replicas_in_sync=count, cluster_resolver=resolver))
        mine = training_epochs(split, 4, seed=5, flip=True, needed=needed)
        here = range(worker * local, (worker + 1) * local)
        parts, expected = epoch(deal(mine(2, 1), count, here)), epoch(deal(whole(2, 1), count, here))
        for part, same in zip(parts, expected, strict=True):
            for values, others in zip(part, same, strict=True):
                np.testing.assert_array_equal(values, others)
        lit = sum((images.max(axis=(1, 2, 3)) > 0).sum() for images, _, _ in epoch(mine(2, 1)))
        assert lit == len({index for _, _, indices in expected for index in indices.tolist()})


def test_one_machine_reads_all_rows():
    assert taken_here(tf.distribute.get_strategy()) is None


@pytest.mark.parametrize("number, count", [(2, 2), (-1, 2), (0, 0), (0, COUNT + 1)])
def test_a_shard_that_there_is_not_or_that_would_be_empty_is_refused(arrays, number, count):
    with pytest.raises(ValueError, match=rf"at most {COUNT} items. Received: {number} and {count}"):
        array_split(*arrays).shard(number, count)


def test_a_strategy_shards_a_whole_split_and_leaves_a_shard_alone(arrays):
    policy = tf.data.experimental.AutoShardPolicy
    whole = array_split(*arrays)
    for split, expected in ((whole, policy.DATA), (whole.shard(0, 2), policy.OFF)):
        for batches in (evaluation_batches(split, 2), training_batches(split, 2, seed=0)):
            assert batches.options().experimental_distribute.auto_shard_policy == expected


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["arrays", "records"])
def test_workers_that_shard_automatically_get_every_item_of_a_whole_split_once(kind, arrays, record_folder, png_only):
    # What MultiWorkerMirroredStrategy applies to the data set that `fit` is given.
    from tensorflow.python.data.experimental.ops.distribute import _AutoShardDataset

    split = array_split(*arrays) if kind == "arrays" else record_split(record_folder, "train", SIZE, SIZE)
    found = []
    for worker in range(2):
        found += order(epoch(_AutoShardDataset(training_batches(split, 2, seed=0), num_workers=2, index=worker)))
    assert sorted(found) == list(range(COUNT))


class TestRecords:
    def test_a_record_holds_the_file_its_labels_its_index_and_the_count(self, image_list, record_folder):
        files = sorted(record_folder.iterdir())
        assert [file.name for file in files] == [f"train-0000{i}-of-00004.tfrecord" for i in range(4)]
        records = [record for file in files for record in tf.data.TFRecordDataset(str(file)).as_numpy_iterator()]
        assert len(records) == COUNT
        for i, record in enumerate(records):
            feature = tf.train.Example.FromString(record).features.feature
            assert feature["image"].bytes_list.value[0] == image_list.paths[i].read_bytes()
            assert list(feature["labels"].int64_list.value) == image_list.labels[i].tolist()
            assert (list(feature["index"].int64_list.value), list(feature["count"].int64_list.value)) == ([i], [COUNT])

    def test_the_labels_are_those_that_were_written(self, record_folder, arrays):
        labels = record_split(record_folder, "train", SIZE, SIZE).labels
        assert labels.dtype == np.float32
        np.testing.assert_array_equal(labels, arrays[1])

    def test_what_is_there_is_not_overwritten(self, image_list, record_folder):
        with pytest.raises(FileExistsError, match="train-00000-of-00004"):
            write_records(image_list, record_folder)

    def test_an_unreadable_image_leaves_no_half_written_file(self, image_list, tmp_path):
        broken = tmp_path / "broken.png"
        broken.write_bytes(b"none")
        paths = (*image_list.paths[:4], broken, *image_list.paths[5:])
        with pytest.raises(DataError, match=r"train_img\.txt:5: cannot read .*broken\.png"):
            write_records(dataclasses.replace(image_list, paths=paths), tmp_path / "records", images_per_file=3)
        assert [file.name for file in (tmp_path / "records").iterdir()] == ["train-00000-of-00004.tfrecord"]
        with pytest.raises(DataError, match=r"train-00001-of-00004\.tfrecord: missing"):
            record_split(tmp_path / "records", "train", SIZE, SIZE)

    def damage(self, folder, file, kind):
        contents = file.read_bytes()
        length = 8 + 4 + int.from_bytes(contents[:8], "little") + 4  # length, checksum, data, checksum
        changed = {
            "truncated": contents[:-5],
            "a record short": contents[: len(contents) - length] if kind == "a record short" else b"",
            "empty": b"",
            "a flipped bit": contents[:40] + bytes([contents[40] ^ 1]) + contents[41:],
            "no records": b"this is text, and long enough for a header",
        }
        file.write_bytes(changed[kind])

    @pytest.mark.parametrize("kind", ["truncated", "empty", "a flipped bit", "no records"])
    def test_a_damaged_file_is_named_before_training(self, image_list, tmp_path, kind):
        file = write_records(image_list, tmp_path, images_per_file=3)[1]
        self.damage(tmp_path, file, kind)
        with pytest.raises(DataError, match=r"train-00001-of-00004\.tfrecord: (damaged|contains no records)"):
            record_split(tmp_path, "train", SIZE, SIZE)

    def test_a_set_that_lost_records_or_is_mixed_is_refused(self, image_list, tmp_path):
        files = write_records(image_list, tmp_path, images_per_file=1)
        swapped = files[0].read_bytes()
        files[0].write_bytes(files[1].read_bytes())
        with pytest.raises(DataError, match="not of one set"):
            record_split(tmp_path, "train", SIZE, SIZE)
        files[0].write_bytes(swapped)
        write_records(image_list.take([0, 1]), tmp_path / "two", images_per_file=1)
        files[0].write_bytes((tmp_path / "two" / "train-00000-of-00002.tfrecord").read_bytes())
        with pytest.raises(DataError, match="not of one set"):
            record_split(tmp_path, "train", SIZE, SIZE)
        (tmp_path / "train-00000-of-00002.tfrecord").write_bytes(swapped)
        with pytest.raises(DataError, match=r"not of this set|missing"):
            record_split(tmp_path, "train", SIZE, SIZE)

    def test_a_folder_without_records_is_named(self, tmp_path):
        with pytest.raises(DataError, match="write_records"):
            record_split(tmp_path, "test", SIZE, SIZE)


class TestDiskCache:
    @pytest.mark.slow
    def test_other_sizes_images_or_orders_have_other_caches_and_the_same_ones_are_found(self, photographs, tmp_path):
        def folders():
            return {folder.name for folder in tmp_path.iterdir()}

        cached_file_split(photographs, 12, 14, tmp_path)
        first = folders()
        cached_file_split(photographs, 12, 14, tmp_path)
        assert folders() == first and len(first) == 1
        for images, size in (
            (photographs, 13),
            (photographs.take(range(8)), 12),
            (photographs.take(range(8, -1, -1)), 12),
        ):
            before = folders()
            cached_file_split(images, size, 14, tmp_path)
            assert len(folders() - before) == 1

    def test_a_changed_image_is_decoded_anew(self, photographs, tmp_path):
        path = tmp_path / "changing.png"
        images = ImageList("train", (path,), np.ones((1, 1), np.float32), (1,))
        for shade in (0, 255):
            Image.new("L", (14, 14), shade).save(path)
            split = cached_file_split(images, 12, 14, tmp_path / "cache")
            assert (by_index(evaluation_batches(split, 1)) == shade / 255).all()

    def test_an_interrupted_cache_is_not_taken_for_whole(self, photographs, tmp_path):
        def interrupted(items, total, description):
            yield next(iter(items))
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            cached_file_split(photographs.take([0] * 40), 12, 14, tmp_path, track=interrupted)
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("change", ["gone", "short", "more"])
    def test_a_cache_that_lost_files_is_refused(self, photographs, tmp_path, change):
        cached_file_split(photographs, 12, 14, tmp_path)
        (folder,) = tmp_path.iterdir()
        if change == "gone":
            (folder / "00000003").unlink()
        else:
            (folder / ("00000003" if change == "short" else "00000009")).write_bytes(bytes(100))
        with pytest.raises(DataError, match="Remove the folder"):
            cached_file_split(photographs, 12, 14, tmp_path)

    def test_a_disk_without_room_is_told_before_it_is_full(self, photographs, tmp_path, monkeypatch):
        monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 9 * 12 * 12**2 - 1}))
        with pytest.raises(DataError, match="Make room"):
            cached_file_split(photographs, 12, 14, tmp_path)
        assert list(tmp_path.iterdir()) == []
