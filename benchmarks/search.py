"""Measure search: `python -m benchmarks.search --run-dir runs/corel5k-...` prints a table and writes a JSON file.

Queries are the real codes of Corel-5K's test images by the encoder of the run; so is the smallest database, that of its
other images. Larger ones are grown from these: each item lies at a random place between the logits of one image and
those of one of its 32 nearest, with noise of a tenth of their spread. Recall is the share of the 10 nearest that a
search finds, an item that ties with the tenth counting as found. Queries go in batches of 256, and their time, the
median of five turns, includes reading ids and metadata. In the same turns the FAISS index alone is asked: the share of
its queries a second says what the storage costs. Memory is that of a process which has opened the index and searched
it: pages of the index files, which processes share, and everything else.
"""

import dataclasses
import json
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import faiss
import numpy as np
import psutil
import tyro

from export.search import Block, FaissIndex, kinds
from export.search.kinds import Kind, recall
from export.search.measure import exact_distances
from saat_tf.files import write_text
from saat_tf.strict_json import read_object

DATA_DIR = Path("../shared/data/corel5k")
CHUNK, TOP_K, NEIGHBORS, NOISE, EXACT_QUERIES = 100_000, 10, 32, 0.1, 200
BATCH, TURNS = 256, 5
# How thoroughly each kind searches: the attribute that says so, and its values.
EFFORTS = {"flat": (None, [0]), "ivf": ("nprobe", [16, 64, 256]), "hnsw": ("ef_search", [64, 256, 1024])}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """Measure search on codes of a run of trainers.corel5k."""

    run_dir: Path
    """The run."""
    sizes: tuple[int, ...] = (1_000_000, 10_000_000)
    """Items of the databases."""
    kinds: tuple[Literal["flat", "ivf", "hnsw"], ...] = ("flat", "ivf", "hnsw")
    """Kinds of index. A graph of 10 million items takes long to build on 2 cores."""
    work: Path | None = None
    """Folder for the indexes; those that are there already are not built again, and say nothing of building."""
    only_build: bool = False
    """Build the indexes and measure nothing."""
    out: Path = Path(__file__).parents[1] / "docs/results/search.json"
    """File to write. What it contains already of other sizes and kinds stays."""


def real_logits(run_dir: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return the logits of Corel-5K's database and test images: float32 (N, K) and (Q, K)."""
    import keras

    from export.encoder.model_card import model_card
    from export.saved_model import decoding_of
    from saat_tf.data import evaluation_batches, file_split, read_image_lists

    encoder = keras.saving.load_model(run_dir / "robust.keras", compile=False)
    card = model_card(run_dir, "robust")
    side = card["preprocessing"]["image_size"]
    lists = read_image_lists(DATA_DIR)
    logits = []
    for images in (lists.database, lists.test):
        batches = evaluation_batches(file_split(images, side, **decoding_of(card)), 64)
        logits.append(np.concatenate([encoder.logits(batch[0]).numpy() for batch in batches]))
    return logits[0], logits[1]


def packed(logits: np.ndarray) -> np.ndarray:
    """Return packed codes, uint8 (N, K / 8)."""
    return np.packbits(logits >= 0, axis=1)


def grown(logits: np.ndarray, size: int) -> Iterator[np.ndarray]:
    """Yield the codes of `size` items, a chunk at a time."""
    rng = np.random.default_rng(size)
    codes = packed(logits)
    _, neighbors = faiss.knn_hamming(codes, codes, NEIGHBORS + 1)
    spread = NOISE * logits.std()
    for start in range(0, size, CHUNK):
        count = min(CHUNK, size - start)
        one = rng.integers(0, len(logits), count)
        other = neighbors[one, rng.integers(1, NEIGHBORS + 1, count)]
        share = rng.random((count, 1), np.float32)
        between = share * logits[one] + (1 - share) * logits[other]
        yield packed(between + spread * rng.standard_normal(between.shape, np.float32))


def blocks(logits: np.ndarray, size: int) -> Iterator[Block]:
    """Yield the items of a database."""
    for number, codes in enumerate(grown(logits, size)):
        ids = [f"{number * CHUNK + i}.jpg" for i in range(len(codes))]
        yield Block(codes, ids, [{"path": f"/photos/{item_id}"} for item_id in ids])


def searched(folder: Path, effort: int, queries: np.ndarray, answer: multiprocessing.Queue) -> None:
    """Open an index in a process of its own, search it, and answer with time, distances and memory."""
    index = FaissIndex(folder)
    attribute = EFFORTS[index.kind.name][0]
    index.search(queries[:1], TOP_K)
    snapshot: Any = index._snapshot
    if attribute:
        kinds.set_effort(snapshot.cached, dataclasses.replace(index.kind, **dict[str, Any]({attribute: effort})))
    batches = [queries[start : start + BATCH] for start in range(0, len(queries), BATCH)]
    index.search(batches[0], TOP_K)
    seconds, bare_seconds = [], []
    for _ in range(TURNS):
        started = time.perf_counter()
        hits = [found for batch in batches for found in index.search(batch, TOP_K)]
        between = time.perf_counter()
        for batch in batches:
            snapshot.cached.search(batch, TOP_K)
        seconds.append(between - started)
        bare_seconds.append(time.perf_counter() - between)
    memory = psutil.Process().memory_full_info()
    distances = [[hit.distance for hit in found] for found in hits]
    share = float(np.median(np.array(bare_seconds) / seconds))
    answer.put((float(np.median(seconds)), share, distances, memory.shared / 1e6, (memory.rss - memory.shared) / 1e6))


def measure(folder: Path, effort: int, queries: np.ndarray, exact: np.ndarray) -> dict:
    """Return a row of the table."""
    context = multiprocessing.get_context("spawn")
    answer = context.Queue()
    process = context.Process(target=searched, args=(folder, effort, queries, answer))
    process.start()
    seconds, share, distances, shared, own = answer.get(timeout=600)
    process.join()
    found = np.full((len(exact), TOP_K), np.iinfo(np.int32).max)
    for row, line in zip(found, distances, strict=False):
        row[: len(line)] = line
    return {
        "queries_per_s": len(queries) / seconds,
        "share_of_faiss": share,
        "recall_at_10": recall(found, exact),
        "mapped_mb": shared,
        "own_mb": own,
        "disk_mb": sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 1e6,
    }


def real_rows(database: np.ndarray, queries: np.ndarray) -> Iterator[dict]:
    """Yield the recall of the approximate kinds on the real codes alone, which are few."""
    exact = exact_distances(queries, database, TOP_K)
    for name in ("ivf", "hnsw"):
        index: Any = kinds.build(Kind(name=name), database, approximate_from=0)
        attribute, efforts = EFFORTS[name]
        for effort in efforts:
            if name == "ivf":
                index.nprobe = effort
            else:
                index.hnsw.efSearch = effort
            found = np.sort(index.search(queries, TOP_K)[0], axis=1)
            yield {"items": len(database), "kind": name, attribute: effort, "recall_at_10": recall(found, exact)}


def main(options: Options) -> None:
    """Build, measure, print and write."""
    logits, query_logits = real_logits(options.run_dir)
    queries = packed(query_logits)
    rows = list(real_rows(packed(logits), queries))
    with tempfile.TemporaryDirectory() as temporary:
        work = options.work or Path(temporary)
        for size in options.sizes:
            exact = None
            for name in options.kinds:
                attribute, efforts = EFFORTS[name]
                folder, built = work / f"{name}-{size}", {}
                if not folder.is_dir():
                    started = time.perf_counter()
                    about = {"code_length": 8 * queries.shape[1], "kind": Kind(name=name)}
                    FaissIndex.create(folder, blocks(logits, size), **about)
                    built = {"build_s": time.perf_counter() - started}
                    print(f"built {name} of {size}: {built['build_s']:.0f} s", file=sys.stderr)
                if options.only_build:
                    continue
                if exact is None:
                    exact = exact_distances(queries[:EXACT_QUERIES], FaissIndex(folder).codes(), TOP_K)
                for effort in efforts:
                    row = {"items": size, "kind": name, **({attribute: effort} if attribute else {})}
                    rows.append({**row, **measure(folder, effort, queries, exact), **built})
                    print(rows[-1], file=sys.stderr)
    if options.only_build:
        return
    about = {
        "queries": len(queries), "code_length": 8 * queries.shape[1], "top_k": TOP_K, "cores": os.cpu_count(),
        "codes": "corel5k", "versions": {"faiss": faiss.__version__},
    }  # fmt: skip
    measured = {(row["items"], row["kind"]) for row in rows}
    before = read_object(options.out, {"results": list})["results"] if options.out.is_file() else []
    rows = [row for row in before if (row["items"], row["kind"]) not in measured] + rows
    text = json.dumps({**about, "results": rows}, indent=1) + "\n"
    write_text(options.out, text)
    print(text)


if __name__ == "__main__":
    main(tyro.cli(Options))
