"""Send damaged image files to `encode_bytes` and to `export.encode`: `python -m benchmarks.fuzz`.

10,000 files, each whole or damaged at random, and a decompression bomb, through an exported encoder in batches of 20;
then the same files in a folder through the bulk encoder with one process; each twice. Fails where a batch fails, a
whole file is refused, a refused file has a code, the bomb is decoded, the bulk encoder does not name the same files
with a reason each, or memory grows while the files come for the second time. Writes docs/results/fuzz.json.
"""

import collections
import contextlib
import itertools
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import psutil
import tensorflow as tf

from benchmarks.mutated_images import WHOLE, bomb, mutated_images
from export.bulk.encoded_folder import read_blocks, read_encoding
from export.saved_model import export_saved_model
from saat_tf.evaluation import machine, peak_rss_mb, versions
from saat_tf.files import write_json
from saat_tf.models import HashingModel

RESULT = Path("docs/results/fuzz.json")
COUNT, BATCH, IMAGE_SIZE, BITS = 10_000, 20, 32, 16
# A leak of a kilobyte a file would be 10 MB in the second pass.
PASSES, MOST_GROWTH_MB, MOST_BOMB_MB = 2, 8, 8
SHARD, SAMPLE_SECONDS = 250, 0.2


def send(
    encode: Callable[..., dict], files: Iterator[tuple[str, bytes]]
) -> tuple[dict[str, list[int]], list[bool], int, list[float]]:
    """Send drawn files through the signature `encode_bytes`.

    Returns:
        for each way of damage how many files were read and how many sent; whether each file was read; how many refused
        files had a code; and the resident memory in MB after each batch.
    """
    found: dict[str, list[int]] = collections.defaultdict(lambda: [0, 0])
    every, coded, memory = [], 0, []
    while batch := list(itertools.islice(files, BATCH)):
        encoded = encode(image_bytes=tf.constant([file for _, file in batch]))
        ok, codes = encoded["ok"].numpy(), encoded["packed_codes"].numpy()
        for (name, _), read in zip(batch, ok, strict=True):
            found[name][0] += int(read)
            found[name][1] += 1
        every += ok.tolist()
        coded += int(np.any(codes[~ok], axis=1).sum())
        memory.append(psutil.Process().memory_info().rss / 2**20)
    return dict(sorted(found.items())), every, coded, memory


def send_to_bulk(model: Path, folder: Path, count: int, seed: int = 0) -> tuple[list[bool], int, list[float]]:
    """Encode the same files by `python -m export.encode` with one process.

    Returns:
        whether each file was read; how many of the others are named without a reason; and the resident memory in MB of
        the process that encodes, from time to time.

    Raises:
        CalledProcessError: the encoder failed.
    """
    images, out = folder / "images", folder / "encoded"
    images.mkdir()
    for number, (_, contents) in enumerate(mutated_images(count, seed)):
        for again in range(PASSES):
            (images / f"{again}-{number:05}.jpg").write_bytes(contents)
    options = [
        "--images",
        images,
        "--model",
        model,
        "--out",
        out,
        "--workers",
        "1",
        "--shard-size",
        str(SHARD),
        "--skip-unreadable",
    ]
    process = psutil.Popen([sys.executable, "-m", "export.encode", *options], stdout=subprocess.DEVNULL)
    memory = []
    while process.poll() is None:
        with contextlib.suppress(psutil.NoSuchProcess):
            if any(out.glob("shard-*/codes.npy")):  # by then it has loaded the model
                # Of the processes that it started, the one that encodes is the largest.
                memory.append(max((child.memory_info().rss for child in process.children()), default=0) / 2**20)
        time.sleep(SAMPLE_SECONDS)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, process.args)
    read = {item_id for block in read_blocks(out, read_encoding(out)) for item_id in block.ids}
    named = [json.loads(line) for file in out.glob("shard-*/skipped.jsonl") for line in file.read_text().splitlines()]
    unnamed = {path.name for path in images.iterdir()} - read - {item_id for item_id, reason in named if reason}
    every = [f"{again}-{number:05}.jpg" in read for again in range(PASSES) for number in range(count)]
    return every, len(unnamed), memory


def growth_of(memory: list[float]) -> float:
    """Return how much more memory the last tenth of the samples took than that in which the second pass begins."""
    tenth, second = max(1, len(memory) // 10), len(memory) // PASSES
    return float(np.median(memory[-tenth:]) - np.median(memory[second : second + tenth]))


def main() -> int:
    """Send the files, print and write what came back; return 1 where something failed."""
    keras.utils.set_random_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "encoder"
        export_saved_model(HashingModel("small_cnn", BITS, IMAGE_SIZE), out, card={})
        encode = tf.saved_model.load(str(out)).signatures["encode_bytes"]
        started = time.perf_counter()
        bulk_read, unnamed, bulk_memory = send_to_bulk(out, Path(folder), COUNT)
        bulk_seconds = time.perf_counter() - started
    twice = itertools.chain.from_iterable(mutated_images(COUNT) for _ in range(PASSES))
    started = time.perf_counter()
    found, every, coded, memory = send(encode, twice)
    seconds = time.perf_counter() - started
    growth, bulk_growth = growth_of(memory), growth_of([sample for sample in bulk_memory if sample])
    peak = peak_rss_mb()
    bomb_read = bool(encode(image_bytes=tf.constant([bomb()]))["ok"].numpy()[0])
    result: dict[str, Any] = {
        "files": COUNT,
        "passes": PASSES,
        "read_of_sent": found,
        "refused_with_code": coded,
        "seconds": round(seconds, 1),
        "growth_mb": round(growth, 2),
        "peak_rss_mb": round(peak),
        "bulk_read": sum(bulk_read),
        "bulk_differs": sum(one != other for one, other in zip(bulk_read, every, strict=True)),
        "bulk_without_reason": unnamed,
        "bulk_seconds": round(bulk_seconds, 1),
        "bulk_growth_mb": round(bulk_growth, 2),
        "bomb_read": bomb_read,
        "bomb_mb": round(peak_rss_mb() - peak, 1),
        "versions": versions(),
        "machine": machine(),
    }
    write_json(RESULT, result)
    for name, value in result.items():
        print(f"{name:18} {value}")
    passed = (
        coded == 0
        and found[WHOLE][0] == found[WHOLE][1]
        and max(growth, bulk_growth) <= MOST_GROWTH_MB
        and result["bulk_differs"] == unnamed == 0
        and not bomb_read
        and result["bomb_mb"] <= MOST_BOMB_MB
    )
    print("passed" if passed else "failed")
    return int(not passed)


if __name__ == "__main__":
    sys.exit(main())
