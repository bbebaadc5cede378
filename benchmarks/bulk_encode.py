"""Measure bulk encoding: `python -m benchmarks.bulk_encode --run-dir runs/corel5k-...` prints images/s and writes JSON.

Corel-5K's images by the encoder of a run, in one process a core, against two limits of the machine: `decode_image`
alone on all cores, from memory, its pixels thrown away; and that followed by the network alone on all cores. The rate
leaves out the start of the processes: it is the difference of a long and a short run.
"""

import dataclasses
import json
import os
import tempfile
import time
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
import tyro

from export.bulk.shards import ShardTask, encode_here
from export.encoder.model_card import model_card
from export.saved_model import decoding_of, export_saved_model
from saat_tf.data import decode_image, read_image_lists
from saat_tf.data.batches import PARALLEL_CALLS
from saat_tf.files import write_text

DATA_DIR = Path("../shared/data/corel5k")
SHARD, BATCH, SHORT, REPEATS = 256, 64, 512, 3


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """Measure bulk encoding with the encoder of a run of trainers.corel5k."""

    run_dir: Path
    """The run."""
    out: Path = Path(__file__).parents[1] / "docs/results/bulk_encode.json"
    """File to write."""


def encoding_seconds(paths: list[str], model: Path) -> float:
    """Encode all images, processes started and ended."""
    tasks = (ShardTask(i, paths[start : start + SHARD]) for i, start in enumerate(range(0, len(paths), SHARD)))
    started = time.perf_counter()
    encoded = sum(len(shard.codes) for shard in encode_here(tasks, model, BATCH, os.cpu_count() or 1))
    if encoded != len(paths):
        raise ValueError(f"Only {encoded} of {len(paths)} images were encoded.")
    return time.perf_counter() - started


def decoding_seconds(contents: tf.Tensor, image_size: int, resize_size: int) -> float:
    """Decode all images on all cores."""
    images = tf.data.Dataset.range(len(contents)).map(
        lambda i: decode_image(contents[i], image_size, resize_size)[0, 0, 0], num_parallel_calls=PARALLEL_CALLS
    )
    started = time.perf_counter()
    for _ in images.batch(BATCH):
        pass
    return time.perf_counter() - started


def main(options: Options) -> None:
    """Print images/s of bulk encoding, of the decode limit, and of the network alone."""
    lists = read_image_lists(DATA_DIR)
    paths = [str(path) for path in lists.database.paths]
    encoder = keras.saving.load_model(options.run_dir / "robust.keras", compile=False)
    card = model_card(options.run_dir, "robust")
    sizes = card["preprocessing"]
    contents = tf.constant([Path(path).read_bytes() for path in paths])
    decoding_seconds(contents, sizes["image_size"], sizes["resize_size"])
    decoding = [decoding_seconds(contents, sizes["image_size"], sizes["resize_size"]) for _ in range(REPEATS)]
    images = np.zeros((BATCH, sizes["image_size"], sizes["image_size"], 3), np.float32)
    encoder.encode(images)
    network = []
    for _ in range(20):
        started = time.perf_counter()
        encoder.encode(images)
        network.append(time.perf_counter() - started)
    with tempfile.TemporaryDirectory() as temporary:
        export_saved_model(encoder, Path(temporary) / "model", **decoding_of(card), card=card)
        short = encoding_seconds(paths[:SHORT], Path(temporary) / "model")
        whole = encoding_seconds(paths, Path(temporary) / "model")
    decode_rate, network_rate = len(paths) / float(np.median(decoding)), BATCH / float(np.median(network))
    both = 1 / (1 / decode_rate + 1 / network_rate)
    rate = (len(paths) - SHORT) / (whole - short)
    result = {
        "images": len(paths), "image_size": sizes["image_size"], "resize_size": sizes["resize_size"],
        "backbone": card["backbone"], "cores": os.cpu_count(), "batch_size": BATCH, "shard_size": SHARD,
        "decode_limit_images_per_s": decode_rate, "network_alone_images_per_s": network_rate,
        "decode_and_network_images_per_s": both, "bulk_encoding_images_per_s": rate,
        "share_of_decode_limit": rate / decode_rate, "share_of_both": rate / both, "with_start_s": whole,
    }  # fmt: skip
    text = json.dumps(result, indent=1) + "\n"
    write_text(options.out, text)
    print(text)


if __name__ == "__main__":
    main(tyro.cli(Options))
