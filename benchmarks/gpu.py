"""What a GPU has to show, in one command of some ten minutes: `python -m benchmarks.gpu`.

It runs the tests marked `gpu`; trains, resumes on the CPU, and exports; and times SAAT steps in each precision with and
without XLA, AlexNet's in 32 bits beside PyTorch where that is installed (or TORCH_PYTHON names a Python that has it).
The card says which device that was. Without a GPU it does the same on the CPU; --quick takes little time.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tyro

from benchmarks.saat_step import THREADS, torch_python
from benchmarks.timing import Timing, figure, show, write_result
from benchmarks.workers import ROOT, Worker, options_of

ON_CPU = {"CUDA_VISIBLE_DEVICES": "-1"}
CASES = {
    "alexnet": {"backbone": "alexnet", "image-size": 224, "batch-size": 32},
    "resnet50": {"backbone": "resnet50", "image-size": 224, "batch-size": 32},
    "efficientnet_lite0": {"backbone": "efficientnet_lite0", "image-size": 224, "batch-size": 32},
}
QUICK_CASES = {"alexnet": {"backbone": "alexnet", "image-size": 64, "batch-size": 4, "num-steps": 1}}
# What benchmarks.torch_saat can do as well; 16 bits it cannot.
TORCH_BACKBONE, TORCH_SETTINGS = "alexnet", {"float32": (), "TF32": ("--tf32",)}
SETTINGS = {
    "float32": (),
    "TF32": ("--tf32",),
    "bfloat16": ("--precision", "mixed_bfloat16"),
    "float16": ("--precision", "mixed_float16"),
}
REPEATS, QUICK_REPEATS = 10, 2
TRAINING = ("--image-size", "32", "--num-train", "512", "--num-queries", "64", "--attack-steps", "10")
QUICK_TRAINING = ("--image-size", "16", "--num-train", "24", "--num-queries", "8", "--attack-steps", "2")
EPOCHS = ("--pretrain-epochs", "1", "--epochs", "1", "--num-steps", "2")


def program(*arguments: str, environment: Mapping[str, str] | None = None) -> dict:
    """Run a module of the project, and return its exit code and the end of what it said."""
    command = [sys.executable, "-m", *arguments]
    run = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **(environment or {})}, capture_output=True, text=True, check=False
    )
    print(f"{' '.join(arguments)}: exit code {run.returncode}", flush=True)
    said = (run.stdout + run.stderr).strip().splitlines()
    return {"command": " ".join(arguments[:1]), "exit_code": run.returncode, "said": said[-3:]}


def checks(folder: Path, trainer: str, training: tuple[str, ...]) -> dict[str, dict]:
    """Return what tests, training, going on by the CPU, and export came to."""
    run_dir, options = folder / "run", (*training, *EPOCHS, "--seed", "0")
    found = {"tests": program("pytest", "-q", "-p", "no:xdist", "-m", "gpu", "tests")}
    found["train"] = program(f"trainers.{trainer}", "--run-dir", str(run_dir), *options)
    found["train with XLA"] = program(f"trainers.{trainer}", "--run-dir", str(folder / "jit"), *options, "--jit")
    # A run of one epoch more, whose first part was computed by the GPU and whose rest the CPU computes.
    longer = (*options, "--epochs", "2", "--resume", "--allow-changes", "--run-dir", str(run_dir))
    (run_dir / "card.json").unlink(missing_ok=True)
    found["resume on the CPU"] = program(f"trainers.{trainer}", *longer, environment=ON_CPU)
    out = ("--run-dir", str(run_dir), "--out", str(folder / "model"), "--version", "1")
    found["export"] = program("export.saved_model", *out)
    cards = {name: folder / name / "card.json" for name in ("run", "jit")}
    for name, file in cards.items():
        if file.is_file():
            card = json.loads(file.read_text(encoding="utf-8"))
            found[f"card of {name}"] = {"machine": card["machine"], "results": card["results"]}
    return found


def time_case(name: str, case: Mapping[str, Any], setting: str, repeats: int, folder: Path) -> list[dict]:
    """Return the figures of one network in one precision: as it is, by XLA, and by PyTorch where that is there."""
    title, file = f"{name}, {setting}", folder / "case.npz"
    options, batch_size = (*options_of(case), *SETTINGS[setting]), int(case["batch-size"])
    rows = [time_worker(title, "benchmarks.gpu_step", (*options, "--dump", str(file)), batch_size, repeats)]
    rows.append(time_worker(f"{title}, XLA", "benchmarks.gpu_step", (*options, "--xla"), batch_size, repeats))
    python = torch_python()
    if python and name == TORCH_BACKBONE and setting in TORCH_SETTINGS and "failed" not in rows[0]:
        device = "cuda" if rows[0]["has_gpu"] else "cpu"
        asked = ("--case", str(file), "--variant", "best", "--threads", THREADS, "--device", device)
        options = (*asked, *TORCH_SETTINGS[setting])
        rows.append(
            time_worker(f"{title}, PyTorch", "benchmarks.torch_saat", options, batch_size, repeats, python, rows[0])
        )
    return rows


def time_worker(
    title: str,
    module: str,
    options: tuple[str, ...],
    batch_size: int,
    repeats: int,
    python: str = sys.executable,
    facts: Mapping[str, Any] | None = None,
) -> dict:
    """Return the figures of a worker; `facts` are those of a worker of ours that does the same step."""
    try:
        with Worker(module, options, python=python) as worker:
            first = worker()["seconds"]  # traces and compiles
            steps = [worker() for _ in range(repeats)]
            facts = facts or worker.facts
    except RuntimeError as error:
        print(f"{title}: failed, {error}", flush=True)
        return {"name": title, "failed": str(error)[:300]}
    timing = Timing(tuple(step["seconds"] for step in steps))
    row = {
        **timing.row(title),
        "first_step_s": figure(first),
        "images_per_s": figure(batch_size / timing.median),
        "peak_mb": round(max(step["peak_mb"] for step in steps)),
        "share_of_peak": figure(facts["flops"] / timing.median / facts["peak"]),
    }
    show([row])
    return {**row, **{name: facts[name] for name in ("devices", "has_gpu", "flops", "peak")}}


def main(
    *,
    quick: bool = False,
    trainer: str = "scenes",
    training: tuple[str, ...] = (),
    only: tuple[str, ...] = (),
    settings: tuple[str, ...] = tuple(SETTINGS),
) -> None:
    """Check and time, and write the card.

    Args:
        quick: AlexNet alone, small images and few steps: whether it works.
        trainer: which trainer is run: scenes draws its images, coco needs --training --data-dir DIR.
        training: options of the trainer instead of the usual ones.
        only: of alexnet, resnet50 and efficientnet_lite0, these.
        settings: of float32, TF32, bfloat16 and float16, these. share_of_peak is that of a product of float32 matrices
            in the same setting of TF32, as measured; it exceeds 1 in 16 bits.
    """
    cases, repeats = (QUICK_CASES, QUICK_REPEATS) if quick else (CASES, REPEATS)
    with tempfile.TemporaryDirectory() as folder:
        found = checks(Path(folder), trainer, training or (QUICK_TRAINING if quick else TRAINING))
        rows = [
            row
            for name, case in cases.items()
            if not only or name in only
            for setting in settings
            for row in time_case(name, case, setting, repeats, Path(folder))
        ]
    file = write_result("gpu", {"cases": cases, "checks": found, "rows": rows}, quick=quick)
    failed = [name for name, check in found.items() if check.get("exit_code")] + [
        row["name"] for row in rows if "failed" in row
    ]
    print(f"{file}: {'all of it worked' if not failed else 'failed: ' + ', '.join(failed)}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    tyro.cli(main)
