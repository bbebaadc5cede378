"""Splits against a plain re-derivation, stored draws, and the published lists."""

import gzip
import random
from pathlib import Path

import numpy as np
import pytest

from saat_tf.data import DataError, LabeledImages, Protocol, make_split
from saat_tf.data.splits import official_split, seeded_split, split_digest
from saat_tf.data.tfds.coco import PROTOCOL as COCO
from saat_tf.data.tfds.flickr25k import PROTOCOL as FLICKR25K
from saat_tf.data.tfds.nus_wide import PROTOCOL as NUS_WIDE

HASH_LISTS = Path(__file__).parents[4] / "shared" / "data" / "hash_lists"
needs_lists = pytest.mark.skipif(not HASH_LISTS.is_dir(), reason="needs shared/data/hash_lists")


def data_set(rows, order=None):
    """Images `00.jpg` and on with the given labels, handed over in any order."""
    order = range(len(rows)) if order is None else order
    names = [f"{i:02}.jpg" for i in order]
    labels = np.uint8([rows[i] for i in order])
    return LabeledImages.ordered(names, [Path("x") / n for n in names], labels, [f"c{c}" for c in range(len(rows[0]))])


def numbers(split):
    return [int(path.stem) for path in split.paths]


def some_rows(count, classes, seed):
    generator = random.Random(seed)
    return [[int(generator.random() < 0.3) for _ in range(classes)] for _ in range(count)]


def drawn(count, seed):
    """Positions by ascending PCG64 output: PCG-XSL-RR 128/64 in integers, from the generator's own seeding."""
    state = np.random.PCG64(seed).state["state"]
    value, increment, mask = state["state"], state["inc"], 2**128 - 1
    keys = []
    for _ in range(count):
        value = (value * 0x2360ED051FC65DA44385DF649FCCF645 + increment) & mask
        word, turn = ((value >> 64) ^ value) & (2**64 - 1), value >> 122
        keys.append(((word >> turn) | (word << (-turn & 63))) & (2**64 - 1))
    return sorted(range(count), key=keys.__getitem__)


@pytest.mark.parametrize("seed", [0, 1, 12345])
def test_at_random_the_first_labeled_images_drawn_are_queries_and_the_next_ones_train(seed):
    rows = some_rows(40, 4, seed)
    protocol = Protocol(num_images=40, num_queries=5, num_train=8)
    lists = seeded_split(data_set(rows), protocol, seed=seed)
    order = drawn(40, seed)
    labeled = [i for i in order if any(rows[i])]
    assert len(labeled) < 40
    assert numbers(lists.test) == labeled[:5]
    assert numbers(lists.train) == labeled[5:13]
    assert numbers(lists.database) == [i for i in order if i not in labeled[:5]]


@pytest.mark.parametrize("seed", [0, 7])
def test_per_class_the_rarest_class_draws_first_and_no_image_twice(seed):
    rows = some_rows(60, 4, seed)
    protocol = Protocol(num_images=60, num_queries=2, num_train=3, per_class=True)
    lists = seeded_split(data_set(rows), protocol, seed=seed)
    order = drawn(60, seed)
    sizes = [sum(row[c] for row in rows) for c in range(4)]
    used, chosen = set(), {}
    for split, each in (("test", 2), ("train", 3)):
        chosen[split] = set()
        for c in sorted(range(4), key=lambda c: (sizes[c], c)):
            mine = [i for i in order if rows[i][c] and i not in used][:each]
            used.update(mine)
            chosen[split].update(mine)
    assert numbers(lists.test) == [i for i in order if i in chosen["test"]]
    assert numbers(lists.train) == [i for i in order if i in chosen["train"]]
    assert len(lists.test.paths) == 8 and len(lists.train.paths) == 12
    assert set(numbers(lists.database)) == set(range(60)) - chosen["test"]


def test_a_split_is_the_same_for_ever():
    # Stored: whoever draws others has another split.
    lists = seeded_split(data_set([[1]] * 12), Protocol(num_images=12, num_queries=3, num_train=4), seed=0)
    assert (numbers(lists.test), numbers(lists.train)) == ([11, 3, 2], [1, 8, 6, 0])


def test_the_order_in_which_images_are_found_does_not_matter():
    rows = some_rows(30, 3, 0)
    shuffled = random.Random(1).sample(range(30), 30)
    protocol = Protocol(num_images=30, num_queries=4, num_train=6)
    one, other = (seeded_split(data_set(rows, order), protocol, seed=3) for order in (None, shuffled))
    assert split_digest(one) == split_digest(other)
    for name in ("train", "database", "test"):
        np.testing.assert_array_equal(getattr(one, name).labels, getattr(other, name).labels)
        assert numbers(getattr(one, name)) == numbers(getattr(other, name))


def test_rows_keep_their_labels():
    rows = some_rows(30, 3, 0)
    lists = seeded_split(data_set(rows), Protocol(num_images=30, num_queries=4, num_train=6))
    for split in (lists.train, lists.database, lists.test):
        assert split.labels.dtype == np.float32
        assert split.labels.tolist() == [rows[i] for i in numbers(split)]
        assert split.lines == tuple(range(1, len(split.paths) + 1))


def test_another_seed_is_another_split_with_another_digest():
    protocol = Protocol(num_images=30, num_queries=4, num_train=6)
    digests = {split_digest(seeded_split(data_set([[1]] * 30), protocol, seed=seed)) for seed in range(5)}
    assert len(digests) == 5


@pytest.mark.parametrize("queries, train, what", [(11, 1, "11 queries"), (4, 7, "7 training images")])
def test_too_few_images_with_a_label_are_an_error(queries, train, what):
    rows = [[1]] * 10 + [[0]] * 10
    with pytest.raises(DataError, match=rf"expected {what}\. Received: "):
        seeded_split(data_set(rows), Protocol(num_images=20, num_queries=queries, num_train=train))


def test_too_few_images_of_a_class_are_an_error():
    rows = [[1, 0]] * 10 + [[0, 1]] * 2
    with pytest.raises(DataError, match=r"expected 3 images of c1 for the queries.* Received: 2"):
        seeded_split(data_set(rows), Protocol(num_images=12, num_queries=3, num_train=3, per_class=True))


def test_what_is_no_split_or_no_database_is_refused():
    protocol = Protocol(num_images=2, num_queries=1, num_train=1)
    images = data_set([[1], [1]])
    with pytest.raises(ValueError, match=r"'seeded' or 'official'\. Received: 'random'"):
        make_split(images, protocol, split="random")
    with pytest.raises(DataError, match="needs the lists"):
        make_split(images, protocol, split="official")
    with pytest.raises(DataError, match="reads no lists"):
        make_split(images, protocol, split="seeded", lists=Path("lists"))
    with pytest.raises(ValueError, match=r"'listed', 'joined' or 'rest'\. Received: 'all'"):
        official_split(images, Path("lists"), database="all")


@pytest.fixture
def listed(tmp_path):
    """Eight images, and lists as HashNet's for COCO: the database has the queries and lacks the training images."""
    rows = [[i & 1, (i >> 1) & 1, (i >> 2) & 1] for i in range(8)]
    members = {"test": [6, 1], "train": [3, 5, 3], "database": [1, 2, 6, 7]}

    def write(split, wanted, folder=tmp_path, columns=(2, 0, 1), suffix="", prefix=""):
        contents = {
            "img": "".join(f"some/where/{i:02}.jpg\n" for i in wanted),
            "label": "".join(" ".join(str(rows[i][c]) for c in columns) + " \n" for i in wanted),
        }
        for kind, text in contents.items():
            file = folder / f"{prefix}{split}_{kind}.txt{suffix}"
            file.write_bytes(gzip.compress(text.encode()) if suffix else text.encode())

    for split, wanted in members.items():
        write(split, wanted)
    return data_set(rows), tmp_path, write


def test_the_joined_database_is_database_and_train_without_test(listed):
    images, folder, _ = listed
    lists = official_split(images, folder, database="joined")
    assert (numbers(lists.test), numbers(lists.train)) == ([6, 1], [3, 5, 3])
    assert numbers(lists.database) == [2, 7, 3, 5]
    assert lists.train.labels.tolist() == [[1, 1, 0], [1, 0, 1], [1, 1, 0]]


def test_the_rest_is_every_image_that_is_no_query(listed):
    images, folder, _ = listed
    for kind in ("img", "label"):
        (folder / f"database_{kind}.txt").unlink()
    lists = official_split(images, folder, database="rest")
    assert numbers(lists.database) == [i for i in drawn(8, 0) if i not in (1, 6)]


def test_a_database_as_listed_with_queries_in_it_is_an_error_that_says_what_to_choose(listed):
    images, folder, write = listed
    with pytest.raises(DataError, match=r"database_img\.txt: contains 2 of the 2 queries.*'joined'"):
        official_split(images, folder)
    write("database", [7, 0, 3])
    assert numbers(official_split(images, folder).database) == [7, 0, 3]


def test_lists_may_be_gzipped_and_share_a_beginning_of_their_names(listed, tmp_path):
    images, _, write = listed
    other = tmp_path / "published"
    other.mkdir()
    for split, wanted in (("test", [4]), ("train", [2, 3]), ("database", [2, 3, 5])):
        write(split, wanted, other, suffix=".gz", prefix="SET_")
    lists = official_split(images, other / "SET_")
    assert [numbers(s) for s in (lists.test, lists.train, lists.database)] == [[4], [2, 3], [2, 3, 5]]
    with pytest.raises(DataError, match=r"published/test_img\.txt|published/train_img\.txt"):
        official_split(images, other)


@pytest.mark.parametrize("cut", [10, 30])
def test_a_truncated_gzip_file_is_named(listed, tmp_path, cut):
    images, folder, write = listed
    write("test", [6, 1], suffix=".gz", prefix="SET_")
    for split in ("train", "database"):
        write(split, [3], suffix=".gz", prefix="SET_")
    file = folder / "SET_test_img.txt.gz"
    file.write_bytes(file.read_bytes()[:cut])
    with pytest.raises(DataError, match=r"SET_test_img\.txt\.gz: not a whole gzip file"):
        official_split(images, folder / "SET_")


def test_an_image_that_the_data_lack_is_named_with_its_line(listed):
    images, folder, _ = listed
    (folder / "test_img.txt").write_text("06.jpg\n99.jpg\n")
    with pytest.raises(DataError, match=r"test_img\.txt:2: the data have no images named 99\.jpg"):
        official_split(images, folder, database="rest")


def test_skipped_images_are_left_out_of_the_lists(listed):
    images, folder, _ = listed
    without = LabeledImages.ordered(images.ids[:3], images.files[:3], images.labels[:3], images.class_names)
    without = LabeledImages(
        without.ids, without.files, without.labels, without.class_names, skipped=tuple(images.ids[3:])
    )
    lists = official_split(without, folder, database="joined")
    assert [numbers(s) for s in (lists.test, lists.train, lists.database)] == [[1], [], [2]]


@pytest.mark.parametrize(
    "rows, message",
    [
        (["0 1 1", "1 1 0"], r"test_label\.txt:2: the image has 2 labels in the list and 1 in the data"),
        (["0 1 1", "0 0 1"], r"test_label\.txt: no order of the columns"),
        (["0 1", "1 0"], r"test_label\.txt: the rows have 2 columns, the data have 3 classes"),
    ],
)
def test_labels_that_are_not_those_of_the_data_are_an_error(listed, rows, message):
    images, folder, _ = listed
    (folder / "test_label.txt").write_text("\n".join(rows) + "\n")
    with pytest.raises(DataError, match=message):
        official_split(images, folder, database="rest")


def test_equal_file_names_are_told_apart_by_their_folders(tmp_path):
    images = LabeledImages.ordered(
        ["a/1.jpg", "b/1.jpg", "b/2.jpg"], [Path("x")] * 3, np.uint8([[1, 0], [0, 1], [1, 1]]), ["c", "d"]
    )
    for split, name, row in (("test", "b\\1.jpg", "0 1"), ("train", "2.jpg", "1 1")):
        (tmp_path / f"{split}_img.txt").write_text(f"{name}\n")
        (tmp_path / f"{split}_label.txt").write_text(f"{row}\n")
    lists = official_split(images, tmp_path, database="rest")
    assert lists.test.labels.tolist() == [[0, 1]]
    (tmp_path / "test_img.txt").write_text("1.jpg\n")
    with pytest.raises(DataError, match=r"test_img\.txt:1: the data have 2 images named 1\.jpg"):
        official_split(images, tmp_path, database="rest")


def published(name):
    """Names and labels of one published list."""
    names = gzip.decompress((HASH_LISTS / f"{name}_img.txt.gz").read_bytes()).decode().split("\n")[:-1]
    text = gzip.decompress((HASH_LISTS / f"{name}_label.txt.gz").read_bytes()).decode()
    digits = np.frombuffer(text.replace(" ", "").replace("\n", "").encode(), np.uint8) - ord("0")
    return names, digits.reshape(len(names), -1)


def of_lists(*parts):
    """The data set that published lists are of, its columns in another order."""
    rows = {}
    for part in parts:
        names, labels = published(part)
        rows.update(zip(names, labels, strict=True))
    labels = np.stack(list(rows.values()))[:, ::-1]
    ids = [name.rpartition("/")[2] for name in rows]
    return LabeledImages.ordered(ids, [Path(name) for name in rows], labels, [str(c) for c in range(labels.shape[1])])


@needs_lists
def test_the_published_flickr_split_and_a_seeded_one_have_the_sizes_of_the_protocol():
    images = of_lists("FLICKR-25K_database", "FLICKR-25K_test")
    assert len(images) == FLICKR25K.num_images == 25_000
    official = official_split(images, HASH_LISTS / "FLICKR-25K_")
    seeded = seeded_split(images, FLICKR25K)
    for lists in (official, seeded):
        assert [len(s.paths) for s in (lists.test, lists.database, lists.train)] == [1_700, 23_300, 5_000]
        assert not set(lists.test.paths) & set(lists.database.paths)
        assert set(lists.train.paths) <= set(lists.database.paths)
    assert len(set(official.train.paths)) == 4_496 and len(set(seeded.train.paths)) == 5_000
    assert [(~s.labels.any(axis=1)).sum() for s in (official.test, official.train)] == [38, 95]
    assert seeded.test.labels.any(axis=1).all() and seeded.train.labels.any(axis=1).all()


@pytest.mark.slow
@needs_lists
def test_the_published_coco_lists_make_the_usual_database_by_the_joined_step():
    images = of_lists("HashNet-COCO_database", "HashNet-COCO_train")
    assert len(images) == COCO.num_images == 122_218
    with pytest.raises(DataError, match=r"contains 5,000 of the 5,000 queries.*'joined'"):
        official_split(images, HASH_LISTS / "HashNet-COCO_")
    official = official_split(images, HASH_LISTS / "HashNet-COCO_", database="joined")
    seeded = seeded_split(images, COCO)
    for lists in (official, seeded):
        assert [len(s.paths) for s in (lists.test, lists.database, lists.train)] == [5_000, 117_218, 10_000]
        assert not set(lists.test.paths) & set(lists.database.paths)
        assert set(lists.train.paths) <= set(lists.database.paths)
    # ProS-GAN publishes the same queries and training images, and no database.
    others = official_split(images, HASH_LISTS / "MS-COCO_", database="rest")
    for name in ("test", "database", "train"):
        assert set(getattr(others, name).paths) == set(getattr(official, name).paths)


@needs_lists
def test_nus_wide_draws_as_many_of_each_class_as_the_published_lists_have_in_all():
    images = of_lists("NUS-WIDE_train", "NUS-WIDE_test")
    official = official_split(images, HASH_LISTS / "NUS-WIDE_", database="rest")
    assert [len(s.paths) for s in (official.test, official.train)] == [2_100, 10_500]
    assert 21 * NUS_WIDE.num_queries == 2_100 and 21 * NUS_WIDE.num_train == 10_500
    # These 12,600 images are too few for 600 a class apart, so a tenth is drawn.
    seeded = seeded_split(images, Protocol(num_images=12_600, num_queries=10, num_train=50, per_class=True))
    assert [len(s.paths) for s in (seeded.test, seeded.database, seeded.train)] == [210, 12_390, 1_050]
    assert (seeded.test.labels.sum(axis=0) >= 10).all() and (seeded.train.labels.sum(axis=0) >= 50).all()
