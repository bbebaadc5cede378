"""Compare random histories of an index with a dictionary: `python -m benchmarks.index_histories FOLDER COUNT SEED`.

Items are added and removed, alone or many; the index is opened again, its cache damaged, and writers are killed. A
second reader stays open. After each operation both must hold what the dictionary holds, at distances counted by NumPy.
"""

import json
import os
import signal
import sys
from pathlib import Path

import numpy as np

from export.search import Block, FaissIndex, faiss_index

BYTES = 2


def block(items: dict[str, np.ndarray]) -> Block:
    """Return the items as a block."""
    codes = np.array(list(items.values()), np.uint8).reshape(-1, BYTES)
    return Block(codes, list(items), [{"id": item_id} for item_id in items])


def agrees(index: FaissIndex, expected: dict[str, np.ndarray], query: np.ndarray, top_k: int) -> bool:
    """Return whether an index holds and finds what the dictionary, in the order of additions, says."""
    codes = np.array(list(expected.values()), np.uint8).reshape(-1, BYTES)
    distances = np.bitwise_count(codes ^ query).sum(axis=1).tolist()
    order = sorted(zip(distances, range(len(codes)), expected, strict=True))
    right = [(distance, item_id) for distance, _, item_id in order]
    found = [(hit.distance, hit.id) for hit in index.search(query[None], top_k)[0]]
    near = [(hit.distance, hit.id) for hit in index.search_within(query[None], 5)[0]]
    return len(index) == len(expected) and found == right[:top_k] and near == [x for x in right if x[0] <= 5]


def killed_writer(folder: Path, new: dict[str, np.ndarray], gone: list[str], step: int) -> None:
    """Have a process die while it adds or removes."""
    child = os.fork()
    if child == 0:

        def dying(values: list) -> object:
            for number, value in enumerate(values):
                if number == step:
                    os.kill(os.getpid(), signal.SIGKILL)
                yield value
            os.kill(os.getpid(), signal.SIGKILL)

        index = FaissIndex(folder)
        if gone:
            with index._writing() as (connection, _):
                connection.execute("DELETE FROM items WHERE row % 2")
                os.kill(os.getpid(), signal.SIGKILL)
        index.add(dying([block({item_id: code}) for item_id, code in new.items()]))
    os.waitpid(child, 0)


def histories(folder: Path, operations: int, seed: int) -> dict[str, int]:
    """Run one history and count its operations and those after which something was wrong."""
    rng = np.random.default_rng(seed)
    faiss_index.CHANGES = 7  # so that the cache is often built anew
    expected, number, counts = {}, 0, dict.fromkeys(("add", "remove", "open", "kill", "damage", "wrong"), 0)
    index = FaissIndex.create(folder, [], code_length=8 * BYTES)
    reader = FaissIndex(folder)
    for _ in range(operations):
        what = rng.choice(["add", "remove", "open", "kill", "damage"], p=[0.4, 0.35, 0.1, 0.1, 0.05])
        counts[what] += 1
        size = int(rng.choice([1, 2, 30]))
        new = {f"{number + i}": rng.integers(0, 4, BYTES, np.uint8) for i in range(size)}
        gone = [str(x) for x in rng.permutation(list(expected))[:size]]
        if what == "add":
            back = [x for x in ("0", "1", "2") if x not in expected and number > 3]  # removed ids come again
            new |= {x: rng.integers(0, 4, BYTES, np.uint8) for x in back}
            index.add([block(new)])
            expected |= new
            number += size
        elif what == "remove":
            index.remove(gone)
            for item_id in gone:
                del expected[item_id]
        elif what == "open":
            index.close()
            index = FaissIndex(folder)
        elif what == "kill":
            killed_writer(folder, new, gone if rng.random() < 0.5 else [], int(rng.integers(0, size + 1)))
        else:
            index.close()
            for file in folder.glob("cache-*.faiss"):
                file.write_bytes(b"damaged")
            index = FaissIndex(folder)
        query, top_k = rng.integers(0, 256, BYTES, np.uint8), int(rng.integers(1, 40))
        counts["wrong"] += not (agrees(index, expected, query, top_k) and agrees(reader, expected, query, top_k))
    index.check()
    return counts


if __name__ == "__main__":
    print(json.dumps(histories(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))))
