"""Compare random histories of an index with a dictionary: `python -m tests.stress.index_histories 10000`.

Items are added and removed, alone or many; the index is opened again, its cache damaged, and a process that adds or
removes is killed by SIGKILL at a random step of SQLite, of a forced write or of a rename. A second reader stays open.
After each operation both must contain what the dictionary does, at distances counted by NumPy: after a kill what was
there before or after the change, and the latter once the process has reported it.
"""

import collections
import functools
import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from export.search import Block, FaissIndex, database, faiss_index, kinds

BYTES = 2
BUILD = kinds.build
SHARES = {"add": 0.45, "remove": 0.38, "open": 0.1, "damage": 0.05, "kill": 0.02}
Items = dict[str, list[int]]


def block(items: Items) -> Block:
    """Return the items as a block."""
    return Block(np.array(list(items.values()), np.uint8).reshape(-1, BYTES), list(items), [{"id": x} for x in items])


def agrees(index: FaissIndex, expected: Items, query: np.ndarray, top_k: int) -> bool:
    """Return whether an index contains and finds what the dictionary, in the order of additions, says.

    Flat finds exactly that; IVF, which looks at all of its lists, items as near; HNSW may miss some.
    """
    distances = np.bitwise_count(block(expected).codes ^ query).sum(axis=1).tolist()
    known = dict(zip(expected, distances, strict=True))
    right = sorted(known.items(), key=lambda item: item[1])
    near = [item for item in right if item[1] <= 5]
    for hits, wanted in (index.search(query[None], top_k)[0], right[:top_k]), (
        index.search_within(query[None], 5)[0], near
    ):  # fmt: skip
        found = [(hit.id, hit.distance) for hit in hits]
        if index.kind.name == "hnsw":
            good = len(found) <= len(wanted) and [x for _, x in found] == sorted(x for _, x in found)
        elif index.kind.name == "ivf":
            good = [x for _, x in found] == [x for _, x in wanted]
        else:
            good = found == wanted
        if not good or len(dict(found)) != len(found) or any(known.get(x) != distance for x, distance in found):
            return False
    return len(index) == len(expected)


def use_small_caches() -> None:
    """Have this process build the cache anew after few changes, and IVF and HNSW of few items."""
    faiss_index.CHANGES = 7
    kinds.build = functools.partial(BUILD, approximate_from=20)


def change(index: FaissIndex, added: Items, removed: list[str]) -> None:
    """Add or remove."""
    if removed:
        index.remove(removed)
    else:
        index.add([block(added)])


def killed(folder: Path, added: Items, removed: list[str], step: int) -> bool:
    """Have another process make a change and die at a step of it; return whether it has reported the change."""
    command = [sys.executable, "-m", "tests.stress.index_histories", "--die", str(folder), str(step)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    text = json.dumps([added, removed])
    process = subprocess.run(command, input=text, env=environment, capture_output=True, text=True, check=False)
    if process.returncode not in (0, -signal.SIGKILL):
        raise RuntimeError(process.stderr)
    return "done" in process.stdout


def die(folder: Path, step: int) -> None:
    """Make the change that is read from the standard input, and die at a step; be the process of `killed`."""
    steps, connect = itertools.count(), database.connect
    use_small_caches()

    def count(*_: object) -> int:
        if next(steps) == step:
            os.kill(os.getpid(), signal.SIGKILL)
        return 0

    def counting(call):
        def counted(*arguments):
            for _ in range(20):  # so that few forced writes weigh as much as many instructions
                count()
            return call(*arguments)

        return counted

    def connected(*arguments):
        connection = connect(*arguments)
        connection.set_progress_handler(count, 2)
        return connection

    added, removed = json.load(sys.stdin)
    index = FaissIndex(folder)
    os.fsync, os.replace, database.connect = counting(os.fsync), counting(os.replace), connected
    change(index, added, removed)
    print("done", flush=True)
    os.kill(os.getpid(), signal.SIGKILL)


def histories(folder: Path, operations: int, seed: int, kind: str, shares: dict[str, float]) -> collections.Counter:
    """Run one history; count its operations, and as "wrong" those after which something was wrong."""
    rng = np.random.default_rng(seed)
    use_small_caches()
    expected, number, counts = {}, 0, collections.Counter(wrong=0)
    index = FaissIndex.create(folder, [], code_length=8 * BYTES, kind=kinds.Kind(name=kind, nprobe=1000))
    reader = FaissIndex(folder)
    for what in rng.choice(list(shares), operations, p=list(shares.values())):
        counts[str(what)] += 1
        size = int(rng.choice([1, 2, 30]))
        returning = [x for x in ("0", "1", "2") if x not in expected and number > 3]  # ids that were removed
        added = {x: rng.integers(0, 4, BYTES).tolist() for x in returning + [str(number + i) for i in range(size)]}
        removed = [str(x) for x in rng.permutation(list(expected))[: max(size, len(expected) - 300)]]
        removed = removed if what == "remove" or (what == "kill" and rng.random() < 0.5) else []
        left = {x: code for x, code in expected.items() if x not in removed}
        after = left if removed else {**expected, **added}
        if what in ("open", "damage"):
            index.close()
            if what == "damage":
                for file in folder.glob("cache-*.faiss"):
                    file.unlink()  # a new file: the reader has mapped the old one
                    file.write_bytes(b"damaged")
            index = FaissIndex(folder)
        elif what == "kill":
            reported = killed(folder, added, removed, int(rng.integers(0, 400)))
            made = len(index) == len(after)
            counts["made before the kill"] += made
            counts["wrong"] += reported and not made
            expected = after if made else expected
        elif removed or what == "add":
            change(index, added, removed)
            expected = after
        number += size
        query, top_k = rng.integers(0, 256, BYTES, np.uint8), int(rng.integers(1, 40))
        right = all(agrees(opened, expected, query, top_k) for opened in (index, reader))
        counts["wrong"] += not right
        if not right:
            print(f"wrong after {what} of seed {seed}, {kind}", file=sys.stderr)
    index.check()
    reader.close()
    index.close()
    return counts


def main(operations: int) -> None:
    """Run histories of all kinds of index and print what was counted."""
    started, total = time.monotonic(), collections.Counter()
    for seed, kind in enumerate(("flat", "ivf", "hnsw")):
        with tempfile.TemporaryDirectory() as folder:
            total += histories(Path(folder) / "index", -(-operations // 3), seed, kind, SHARES)
    print(json.dumps({"wrong": 0, **total, "seconds": round(time.monotonic() - started)}))


if __name__ == "__main__":
    if sys.argv[1] == "--die":
        die(Path(sys.argv[2]), int(sys.argv[3]))
    else:
        main(int(sys.argv[1]))
