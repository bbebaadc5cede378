"""Time one encoder under each runtime: `python -m benchmarks.encoder`.

Claim: LiteRT's int8 answers a single image 1.5 times faster than the float SavedModel, the baseline. EfficientNet-Lite0
with 64 bits, exported once and run by TensorFlow (the SavedModel, with and without oneDNN), LiteRT (float32 and int8),
ONNX Runtime and OpenVINO, pixels in and packed codes out, on all cores, at the image size of `trainers.corel5k`.
Weights are random, which costs the same time. Each runtime has a process of its own, since idle threads of one slow
down another; the first calls are not counted. Writes docs/results/encoder.json.
"""

import concurrent.futures
import multiprocessing
import os
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import tyro

from benchmarks.runtimes import Encode, litert, onnx_runtime, openvino, saved_model, to_onnx
from benchmarks.timing import write_result
from export.litert import convert
from export.saved_model import export_saved_model
from saat_tf.models import HashingModel

BACKBONE, BITS, IMAGE_SIZE, BATCHES = "efficientnet_lite0", 64, 64, (1, 8, 32)
SECONDS, WARM_UP, REPRESENTATIVE = 0.6, 3, 32
GOAL = 1.5
# Name: how to load, from which of the exported files, and TF_ENABLE_ONEDNN_OPTS.
RUNTIMES = {
    "SavedModel": (saved_model, "encoder", "0"),
    "SavedModel, oneDNN": (saved_model, "encoder", "1"),
    "LiteRT float32": (litert, "float32.tflite", "0"),
    "LiteRT int8": (litert, "int8.tflite", "0"),
    "ONNX Runtime": (onnx_runtime, "encoder.onnx", "0"),
    "OpenVINO": (openvino, "encoder", "0"),
}


def export(folder: Path) -> None:
    """Write the encoder in every form, and its codes."""
    keras.utils.set_random_seed(0)
    encoder, images = HashingModel(BACKBONE, BITS, IMAGE_SIZE), draw_images()
    np.save(folder / "codes.npy", encoder.encode(images).numpy())
    export_saved_model(encoder, folder / "encoder", card={})
    for variant in ("float32", "int8"):
        (folder / f"{variant}.tflite").write_bytes(convert(folder / "encoder", variant, images[:REPRESENTATIVE]))
    to_onnx(folder / "encoder", folder / "encoder.onnx")


def draw_images() -> np.ndarray:
    """Return the images that are encoded."""
    return np.random.default_rng(0).random((max(BATCHES), IMAGE_SIZE, IMAGE_SIZE, 3), np.float32)


def measure(name: str, folder: Path) -> tuple[np.ndarray, dict[int, list[float]]]:
    """Return a runtime's codes, and for each batch size the milliseconds of each call."""
    load, file, _ = RUNTIMES[name]
    encode, images = load(folder / file), draw_images()
    return encode(images), {batch: times(encode, images[:batch]) for batch in BATCHES}


def times(encode: Encode, images: np.ndarray) -> list[float]:
    """Call for `SECONDS`, at least three times; return the milliseconds of each call."""
    for _ in range(WARM_UP):
        encode(images)
    taken, started = [], time.perf_counter()
    while len(taken) < 3 or time.perf_counter() < started + SECONDS:
        before = time.perf_counter()
        encode(images)
        taken.append(1e3 * (time.perf_counter() - before))
    return taken


def rows_of(folder: Path, runtimes: tuple[str, ...]) -> list[dict]:
    """Return a row for each of some runtimes and each batch size."""
    expected = np.load(folder / "codes.npy")
    rows = []
    for name in runtimes:
        os.environ["TF_ENABLE_ONEDNN_OPTS"] = RUNTIMES[name][2]
        with concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
            codes, taken = process.submit(measure, name, folder).result()
        for batch, milliseconds in taken.items():
            p50, p99 = np.percentile(milliseconds, (50, 99))
            rows.append(
                {
                    "runtime": name,
                    "batch": batch,
                    "images_per_second": round(1e3 * batch / p50, 1),
                    "p50_ms": round(p50, 3),
                    "p99_ms": round(p99, 3),
                    "calls": len(milliseconds),
                    "equal_bits": float(np.mean(np.unpackbits(codes) == np.unpackbits(expected))),
                }
            )
    return rows


def main(*, quick: bool = False) -> None:
    """Export, measure, print and write.

    Args:
        quick: the SavedModel and LiteRT alone.
    """
    with tempfile.TemporaryDirectory() as folder:
        export(Path(folder))
        report(rows_of(Path(folder), tuple(RUNTIMES)[:4] if quick else tuple(RUNTIMES)), quick=quick)


def report(rows: list[dict], *, quick: bool) -> None:
    """Print and write what was measured."""
    print(f"{'runtime':18} batch  images/s   p50 ms   p99 ms calls equal bits")
    for row in rows:
        print(f"{row['runtime']:18} {row['batch']:5} {row['images_per_second']:9.1f} {row['p50_ms']:8.2f} "
              f"{row['p99_ms']:8.2f} {row['calls']:5} {row['equal_bits']:.4f}")  # fmt: skip
    p50 = {row["runtime"]: row["p50_ms"] for row in rows if row["batch"] == 1}
    fastest = min(milliseconds for name, milliseconds in p50.items() if name.startswith("SavedModel"))
    ratio = round(fastest / p50["LiteRT int8"], 2)
    print(f"LiteRT int8 at batch 1: {ratio} times the faster float SavedModel (goal: at least {GOAL})")
    about = {"backbone": BACKBONE, "bits": BITS, "image_size": IMAGE_SIZE, "int8_over_saved_model_at_batch_1": ratio}
    write_result("encoder", {**about, "rows": rows}, quick=quick)


if __name__ == "__main__":
    tyro.cli(main)
