"""Time one encoder under each runtime: `python -m benchmarks.encoder`.

Claim: LiteRT's int8 answers a single image 1.5 times faster than the float SavedModel, the baseline. EfficientNet-Lite0
with 64 bits, exported once and run by TensorFlow (the SavedModel, with and without oneDNN), LiteRT (float32 and int8),
ONNX Runtime and OpenVINO, pixels in and packed codes out, on all cores, at the image size of `trainers.corel5k`.
Weights are random, which costs the same time. Each runtime has a process of its own, since idle threads of one slow
down another; the first calls are not counted. Writes docs/results/encoder.json.
"""

import concurrent.futures
import dataclasses
import multiprocessing
import os
import tempfile
import time
import typing
from pathlib import Path

import keras
import numpy as np
import tyro

from benchmarks.runtimes import Encode, litert, onnx_runtime, openvino, saved_model, to_onnx
from benchmarks.timing import write_result
from export.litert.conversion import Variant, convert
from export.saved_model import export_saved_model
from saat_tf.models import HashingModel

BITS, WARM_UP, REPRESENTATIVE, GOAL = 64, 3, 32, 1.5
# Name: how to load, from which of the exported files, and TF_ENABLE_ONEDNN_OPTS.
RUNTIMES = {
    "SavedModel": (saved_model, "encoder", "0"),
    "SavedModel, oneDNN": (saved_model, "encoder", "1"),
    "LiteRT float32": (litert, "float32.tflite", "0"),
    "LiteRT int8": (litert, "int8.tflite", "0"),
    "ONNX Runtime": (onnx_runtime, "encoder.onnx", "0"),
    "OpenVINO": (openvino, "encoder", "0"),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scale:
    """Options: the encoder, its runtimes, and the seconds for each batch size."""

    backbone: str = "efficientnet_lite0"
    image_size: int = 64
    batches: tuple[int, ...] = (1, 8, 32)
    seconds: float = 0.6
    runtimes: tuple[str, ...] = tuple(RUNTIMES)

    def draw_images(self) -> np.ndarray:
        """Return the images that are encoded."""
        shape = (max(*self.batches, REPRESENTATIVE), self.image_size, self.image_size, 3)
        return np.random.default_rng(0).random(shape, np.float32)


QUICK = Scale(backbone="small_cnn", image_size=32, batches=(1,), seconds=0.1, runtimes=("SavedModel", "LiteRT int8"))


def export(folder: Path, scale: Scale) -> None:
    """Write the encoder in the forms that its runtimes read, and its codes."""
    keras.utils.set_random_seed(0)
    encoder, images = HashingModel(scale.backbone, BITS, scale.image_size), scale.draw_images()
    np.save(folder / "codes.npy", encoder.encode(images).numpy())
    export_saved_model(encoder, folder / "encoder", card={})
    files = {RUNTIMES[name][1] for name in scale.runtimes}
    for variant in typing.get_args(Variant):
        if f"{variant}.tflite" in files:
            (folder / f"{variant}.tflite").write_bytes(convert(encoder, variant, images[:REPRESENTATIVE]))
    if "encoder.onnx" in files:
        to_onnx(folder / "encoder", folder / "encoder.onnx")


def measure(name: str, folder: Path, scale: Scale) -> tuple[np.ndarray, dict[int, list[float]]]:
    """Return a runtime's codes, and for each batch size the milliseconds of each call."""
    load, file, _ = RUNTIMES[name]
    encode, images = load(folder / file), scale.draw_images()
    return encode(images), {batch: times(encode, images[:batch], scale.seconds) for batch in scale.batches}


def times(encode: Encode, images: np.ndarray, seconds: float) -> list[float]:
    """Call for some seconds, at least three times; return the milliseconds of each call."""
    for _ in range(WARM_UP):
        encode(images)
    taken: list[float] = []
    started = time.perf_counter()
    while len(taken) < 3 or time.perf_counter() < started + seconds:
        before = time.perf_counter()
        encode(images)
        taken.append(1e3 * (time.perf_counter() - before))
    return taken


def rows_of(folder: Path, scale: Scale) -> list[dict]:
    """Return a row for each runtime and each batch size."""
    expected = np.load(folder / "codes.npy")
    rows = []
    for name in scale.runtimes:
        os.environ["TF_ENABLE_ONEDNN_OPTS"] = RUNTIMES[name][2]
        with concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
            codes, taken = process.submit(measure, name, folder, scale).result()
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
        quick: a small network, the SavedModel and LiteRT's int8, one image: whether it works.
    """
    scale = QUICK if quick else Scale()
    with tempfile.TemporaryDirectory() as folder:
        export(Path(folder), scale)
        report(rows_of(Path(folder), scale), scale, quick=quick)


def report(rows: list[dict], scale: Scale, *, quick: bool) -> None:
    """Print and write what was measured."""
    print(f"{'runtime':18} batch  images/s   p50 ms   p99 ms calls equal bits")
    for row in rows:
        print(f"{row['runtime']:18} {row['batch']:5} {row['images_per_second']:9.1f} {row['p50_ms']:8.2f} "
              f"{row['p99_ms']:8.2f} {row['calls']:5} {row['equal_bits']:.4f}")  # fmt: skip
    p50 = {row["runtime"]: row["p50_ms"] for row in rows if row["batch"] == 1}
    fastest = min(milliseconds for name, milliseconds in p50.items() if name.startswith("SavedModel"))
    ratio = round(fastest / p50["LiteRT int8"], 2)
    print(f"LiteRT int8 at batch 1: {ratio} times the faster float SavedModel (goal: at least {GOAL})")
    about = {
        "backbone": scale.backbone,
        "bits": BITS,
        "image_size": scale.image_size,
        "int8_over_saved_model_at_batch_1": ratio,
    }
    write_result("encoder", {**about, "rows": rows}, quick=quick)


if __name__ == "__main__":
    tyro.cli(main)
