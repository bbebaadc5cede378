"""The index on disk: what it finds, what it refuses, and what is left of it after faults."""

import contextlib
import inspect
import os
import sqlite3
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("faiss", reason="faiss is not installed")

from export.search import Block, FaissIndex, IndexDamagedError, database
from export.search.kinds import Kind, recall
from export.search.measure import measured_recall

ROOT = Path(__file__).parents[3]
BITS = 16
ODD_IDS = ["a b", 'quo"te', "new\nline", "ünï", "\udcff", "<b>", "../../up", "\x1b[2J", "0", " "]


def codes_of(numbers, bits=BITS):
    """A code for each number, many of them equal or tied."""
    rows = np.random.default_rng(0).integers(0, 4, (100, bits // 8), np.uint8)
    return rows[list(numbers)]


def block(start, end, bits=BITS):
    numbers = range(start, end)
    return Block(codes_of(numbers, bits), [f"item {i}" for i in numbers], [{"number": i} for i in numbers])


def by_brute_force(query, numbers, top_k):
    distances = np.unpackbits(query ^ codes_of(numbers), axis=1).sum(axis=1).tolist()
    return sorted(zip(distances, range(len(numbers)), numbers, strict=True))[:top_k]


def assert_holds(index, numbers):
    assert len(index) == len(numbers)
    queries = np.random.default_rng(99).integers(0, 256, (5, BITS // 8), np.uint8)
    for top_k in (1, 10, len(numbers) + 3):
        for query, hits in zip(queries, index.search(queries, top_k), strict=True):
            expected = by_brute_force(query, numbers, top_k)
            found = [(hit.distance, hit.metadata["number"], hit.id) for hit in hits]
            assert found == [(distance, number, f"item {number}") for distance, _, number in expected]


@pytest.fixture
def index(tmp_path):
    return FaissIndex.create(tmp_path / "index", [block(0, 30), block(30, 40)], code_length=BITS, probe_codes="aa")


def test_it_finds_what_brute_force_finds_after_adding_and_removing(index):
    numbers = list(range(40))
    for change in [(40, 41), (41, 43), [5, 41, 39], (43, 80), list(range(10, 38)), (80, 81), [80]]:
        if isinstance(change, tuple):
            assert index.add([block(*change)]) == change[1] - change[0]
            numbers += range(*change)
        else:
            assert index.remove([f"item {i}" for i in change]) == len(change)
            numbers = [number for number in numbers if number not in change]
        assert_holds(index, numbers)
    again = FaissIndex(index.folder)
    assert_holds(again, numbers)
    assert (again.code_length, again.probe_codes, again.kind) == (BITS, "aa", Kind())
    index.remove([f"item {i}" for i in numbers])
    assert len(FaissIndex(index.folder)) == 0 and index.search(codes_of([1]), 3) == [[]]
    index.add([block(0, 3)])
    assert_holds(index, [0, 1, 2])


def test_removed_items_do_not_hide_those_behind_them(tmp_path):
    near, far = np.zeros((20, 2), np.uint8), np.full((80, 2), 255, np.uint8)
    ids = [str(i) for i in range(100)]
    index = FaissIndex.create(
        tmp_path / "index", [Block(np.concatenate([near, far]), ids, [{}] * 100)], code_length=BITS
    )
    index.remove(ids[:19])
    assert [hit.id for hit in index.search(near[:1], 3)[0]] == ["19", "20", "21"]


def test_ids_and_metadata_come_back_whatever_they_hold(tmp_path):
    metadata = [{"path": item_id, "nested": {"x": [1, 2.5, None, True]}} for item_id in ODD_IDS]
    codes = codes_of(range(len(ODD_IDS)))
    index = FaissIndex.create(tmp_path / "index", [Block(codes, ODD_IDS, metadata)], code_length=BITS)
    hits = index.search(codes[:1], len(ODD_IDS))[0]
    assert {hit.id: hit.metadata for hit in hits} == dict(zip(ODD_IDS, metadata, strict=True))
    assert index.remove(ODD_IDS[1:]) == len(ODD_IDS) - 1
    assert [hit.id for hit in index.search(codes[:1], 9)[0]] == ODD_IDS[:1]


REFUSED = {
    "an id that is there": (lambda index: index.add([block(50, 60), block(39, 41)]), "'item 39' is in the index"),
    "an id twice": (lambda index: index.add([block(50, 60), block(59, 61)]), "'item 59' is given twice"),
    "codes of another length": (lambda index: index.add([block(50, 60, 32)]), "16 bits takes no codes of 32"),
    "an id that is not there": (lambda index: index.remove(["item 3", "item 77"]), "1 of 2 ids .* 'item 77'"),
    "queries of another length": (lambda index: index.search(codes_of([1], 32), 3), "packed codes of 16 bits"),
    "no result": (lambda index: index.search(codes_of([1]), 0), "at least 1. Received: 0"),
}


@pytest.mark.parametrize(("do", "message"), REFUSED.values(), ids=REFUSED)
def test_what_is_refused_changes_nothing(index, do, message):
    before = database.about(index._connection)
    with pytest.raises(ValueError, match=message):
        do(index)
    assert database.about(index._connection) == before
    assert_holds(FaissIndex(index.folder), list(range(40)))


def test_a_block_must_be_whole():
    codes = codes_of([1, 2])
    with pytest.raises(ValueError, match="2 codes, 1 ids, 2 metadata"):
        Block(codes, ["a"], [{}, {}])
    with pytest.raises(ValueError, match=r"not empty\. Received: ''"):
        Block(codes, ["a", ""], [{}, {}])
    with pytest.raises(ValueError, match="float32"):
        Block(codes.astype(np.float32), ["a", "b"], [{}, {}])


def test_no_index_is_overwritten_and_a_failed_one_leaves_nothing(index, tmp_path):
    with pytest.raises(FileExistsError, match="no index is overwritten"):
        FaissIndex.create(index.folder, [block(0, 1)], code_length=BITS)
    with pytest.raises(ValueError, match="given twice"):
        FaissIndex.create(tmp_path / "other", [block(0, 2), block(1, 2)], code_length=BITS)
    assert [path.name for path in tmp_path.iterdir()] == ["index"]
    with pytest.raises(FileNotFoundError, match="Build an index first"):
        FaissIndex(tmp_path / "other")


# Reading while another process writes


def in_other_process(code, *arguments, **options):
    lines = ["import sys", f"sys.path.insert(0, {str(ROOT)!r})", "import numpy as np", f"BITS = {BITS}"]
    lines += ["from export.search import Block, FaissIndex", inspect.getsource(codes_of), inspect.getsource(block)]
    command = [sys.executable, "-c", "\n".join([*lines, textwrap.dedent(code)]), *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, **options)


ADD_ONE_BY_ONE = """
    index = FaissIndex(sys.argv[1])
    for number, _ in enumerate(sys.stdin, 40):
        index.add([block(number, number + 1)])
        print("added", flush=True)
"""


def test_readers_find_a_whole_version_at_any_time(index):
    queries = codes_of([0, 1])
    with in_other_process(ADD_ONE_BY_ONE, index.folder, stdin=subprocess.PIPE) as writer:
        for count in range(40, 52):
            writer.stdin.write(b"\n")
            writer.stdin.flush()
            for _ in range(3):  # while the other adds
                one, other = ({hit.metadata["number"] for hit in hits} for hits in index.search(queries, 100))
                assert one == other == set(range(len(one))) and len(one) in (count, count + 1)
            assert writer.stdout.readline() == b"added\n"
            assert len(index) == count + 1
        writer.stdin.close()
    assert writer.returncode == 0
    assert_holds(FaissIndex(index.folder), list(range(52)))


def test_there_is_one_writer(index, monkeypatch):
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.1)
    code = """
        with FaissIndex(sys.argv[1])._writing():
            print("held", flush=True)
            sys.stdin.read()
    """
    with in_other_process(code, index.folder, stdin=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(BlockingIOError, match="another process writes here"):
            index.add([block(50, 51)])
        with pytest.raises(BlockingIOError, match="another process writes here"):
            index.remove(["item 1"])
        holder.kill()  # and the lock goes with it
    index.add([block(50, 51)])


# Faults

DIE_AT_STEP = """
    import os, signal
    index = FaissIndex(sys.argv[1])
    index.add([block(40, 45)])
    index.remove(["item 0"])
    print("acknowledged", flush=True)
    def dying():
        for number in range(45, 60):
            if number == 44 + int(sys.argv[2]):
                os.kill(os.getpid(), signal.SIGKILL)
            yield block(number, number + 1)
    index.add(dying())
"""


@pytest.mark.parametrize("step", [1, 2, 3, 6])
def test_kill_9_while_adding_loses_nothing_that_was_acknowledged(index, step):
    with in_other_process(DIE_AT_STEP, index.folder, step) as process:
        assert process.stdout.read().count(b"acknowledged") == 1
    assert process.returncode == -9
    left = FaissIndex(index.folder)
    assert_holds(left, list(range(1, 45)))
    left.add([block(45, 47)])
    assert_holds(FaissIndex(index.folder), list(range(1, 47)))


def change_byte(path):
    contents = bytearray(path.read_bytes())
    contents[len(contents) // 2] ^= 64
    path.write_bytes(contents)


DAMAGES = {
    "a byte": change_byte,
    "cut short": lambda path: os.truncate(path, path.stat().st_size - 2),
    "empty": lambda path: path.write_bytes(b""),
    "gone": lambda path: path.unlink(),
}


@pytest.mark.parametrize("suffix", [".faiss", ".npy"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_cache_is_built_anew(index, suffix, damage):
    DAMAGES[damage](next(index.folder.glob(f"cache-*{suffix}")))
    assert_holds(FaissIndex(index.folder), list(range(40)))


@pytest.mark.parametrize("suffix", [".faiss", ".npy"])
def test_a_cache_that_is_a_link_is_refused(index, suffix, tmp_path):
    file = next(index.folder.glob(f"cache-*{suffix}"))
    file.rename(tmp_path / "elsewhere")
    file.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match="is a link"):
        FaissIndex(index.folder)


@pytest.mark.parametrize("name", ["items.db", "items.db-wal", "items.db-shm", "items.db-journal"])
def test_a_database_file_that_is_a_link_is_refused_and_its_target_is_left_alone(index, name, tmp_path):
    index.close()
    (tmp_path / "victim").write_bytes(b"precious")
    (index.folder / name).unlink(missing_ok=True)
    (index.folder / name).symlink_to(tmp_path / "victim")
    with pytest.raises(ValueError, match="is a link"):
        FaissIndex(index.folder)
    assert (tmp_path / "victim").read_bytes() == b"precious"


CHANGES = {
    "metadata": "UPDATE items SET metadata = '{' WHERE row = 7",
    "a code of another length": "UPDATE items SET code = x'01' WHERE row = 7",
    "a row gone": "DELETE FROM items WHERE row = 7",
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_check_finds_changed_rows(index, change):
    index.check()
    with contextlib.closing(sqlite3.connect(index.folder / "items.db")) as connection, connection:
        connection.execute(change)
    with pytest.raises(IndexDamagedError, match="Restore the folder"):
        index.check()


def test_check_finds_a_changed_byte_of_an_id(index):
    index.close()
    file = index.folder / "items.db"
    contents = file.read_bytes()
    assert contents.count(b"item 17") == 2  # in the table, and in its index of ids
    file.write_bytes(contents.replace(b"item 17", b"item 7x", 1))
    with pytest.raises(IndexDamagedError, match="damaged"):
        FaissIndex(index.folder).check()


@pytest.mark.parametrize("contents", [b"", b"no database" * 1000])
def test_a_damaged_database_is_refused(index, contents):
    index.close()
    (index.folder / "items.db").write_bytes(contents)
    with pytest.raises(IndexDamagedError, match="Restore the folder"):
        FaissIndex(index.folder)


def test_what_is_no_index_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"it has no items\.db"):
        FaissIndex(tmp_path)
    (tmp_path / "generation-00000001.json").write_text("{}")
    with pytest.raises(ValueError, match=r"older format.*Build it anew"):
        FaissIndex(tmp_path)


def test_all_within_a_distance_are_found(index):
    index.add([block(40, 60)])
    index.remove(["item 3", "item 45"])
    numbers = [i for i in range(60) if i not in (3, 45)]
    for distance in (np.int64(0), 3, 8, 16):
        for query, hits in zip(codes_of([1, 50]), index.search_within(codes_of([1, 50]), distance), strict=True):
            expected = [(d, n) for d, _, n in by_brute_force(query, numbers, 99) if d <= distance]
            assert [(hit.distance, hit.metadata["number"]) for hit in hits] == expected


# Approximate kinds


def clustered(count, bits=64):
    rng = np.random.default_rng(0)
    centers = rng.integers(0, 2, (50, bits), np.uint8)
    flips = (rng.random((count, bits)) < 0.1).astype(np.uint8)
    return np.packbits(centers[rng.integers(0, 50, count)] ^ flips, axis=1)


@pytest.mark.parametrize(
    ("kind", "low", "high"),
    [
        (Kind(name="ivf", nprobe=1), 0.05, 0.99),
        (Kind(name="ivf", nprobe=128), 1.0, 1.0),
        (Kind(name="hnsw", links=8, ef_search=128), 0.5, 1.0),
    ],
    ids=["few lists", "all lists", "graph"],
)
def test_approximate_kinds_find_the_share_that_they_say(tmp_path, kind, low, high):
    codes = clustered(10_000)
    ids = [str(i) for i in range(len(codes))]
    index = FaissIndex.create(tmp_path / "index", [Block(codes, ids, [{}] * len(ids))], code_length=64, kind=kind)
    measured = measured_recall(index)
    assert low <= measured <= high
    queries = clustered(10_200)[10_000:]
    counted = []
    for query, hits in zip(queries, index.search(queries, 10), strict=True):
        distances = np.unpackbits(query ^ codes, axis=1).sum(axis=1)
        assert all(hit.distance == distances[int(hit.id)] for hit in hits)
        counted.append(sum(hit.distance <= np.sort(distances)[9] for hit in hits) / 10)
    assert np.mean(counted) == pytest.approx(measured, abs=0.12)
    nearest = [hit.id for hit in index.search(queries[:1], 5)[0]]
    index.remove(nearest[:2])
    assert [hit.id for hit in FaissIndex(index.folder).search(queries[:1], 3)[0]] == nearest[2:]


@pytest.mark.parametrize("kind", [Kind(name="ivf", nprobe=128), Kind(name="hnsw", ef_search=128)], ids=["ivf", "hnsw"])
def test_approximate_kinds_return_more_within_a_distance_than_they_are_first_asked_for(tmp_path, kind):
    codes = clustered(10_000)
    ids = [str(i) for i in range(len(codes))]
    index = FaissIndex.create(tmp_path / "index", [Block(codes, ids, [{}] * len(ids))], code_length=64, kind=kind)
    distances = np.bitwise_count(codes ^ codes[0]).sum(axis=1)
    near = {str(i) for i in np.flatnonzero(distances <= 16)}
    assert len(near) > 150
    found = index.search_within(codes[:1], 16)[0]
    assert all(hit.distance == distances[int(hit.id)] for hit in found) and {hit.id for hit in found} <= near
    assert len(found) == len(near) if kind.name == "ivf" else len(found) > 0.9 * len(near)


def test_recall_counts_an_item_that_ties_with_the_last_one():
    exact = np.array([[0, 2, 2], [1, 1, 5]])
    assert recall(np.array([[0, 2, 3], [1, 5, 2**31 - 1]]), exact) == pytest.approx(4 / 6)


def test_a_small_index_of_any_kind_is_exact(tmp_path):
    kind = Kind(name="hnsw")
    index = FaissIndex.create(tmp_path / "index", [block(0, 40)], code_length=BITS, kind=kind)
    assert_holds(index, list(range(40)))
    assert measured_recall(index) is None


@pytest.mark.parametrize("options", [{"name": "pq"}, {"nprobe": 0}, {"ef_search": 0}, {"links": 1}], ids=str)
def test_a_kind_is_checked(options):
    with pytest.raises(ValueError, match="Received"):
        Kind(**options)


def test_searching_needs_no_tensorflow():
    code = "import export.search, export.search.milvus_index; print('tensorflow' in sys.modules)"
    with in_other_process(code) as process:
        assert process.stdout.read() == b"False\n"
