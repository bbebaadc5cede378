"""Measure a SAAT step: `python -m benchmarks.saat_step`.

Claims: the inner attack computes no gradient of the weights, which makes a step faster than one that does; a step is no
slower than the published procedure in PyTorch at its best settings; memory stays flat. Baselines: the same step with
weight gradients in its inner steps; PyTorch as such steps are usually written, with its best settings, and by
torch.compile (see `benchmarks.torch_saat`), with the same weights, images and bank. Each way has a process of its own
with all cores; they take turns, so that only one works at a time.

Ours and PyTorch's must do the same: without dropout and from one random start, their losses must agree, or nothing is
timed. They are compared after two inner steps. Where a slope is nearly zero, rounding decides by which sign its pixel
moves, and each step multiplies that: after seven, PyTorch's own float32 and float64 disagree.

PyTorch is needed for its rows alone: extra `bench`, here or in another environment, which TORCH_PYTHON names.
"""

import contextlib
import importlib.util
import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tyro

from benchmarks.timing import Timing, cores, figure, in_turns, show, write_result
from benchmarks.workers import Worker, options_of

REPEATS, MEMORY_STEPS = 5, 50
# Losses are means of terms of at most 4, of which rounding leaves less than 1e-4 apart.
COMPARED_STEPS, TOLERANCE = 2, 1e-3
THREADS = str(cores())
ENVIRONMENT = {"TF_ENABLE_ONEDNN_OPTS": "1", "TF_NUM_INTRAOP_THREADS": THREADS}
TORCH_VARIANTS = {
    "PyTorch, as usually written": "usual",
    "PyTorch, best settings": "best",
    "PyTorch, best settings, torch.compile": "compiled",
}
OURS = "saat-tf"
# Name of the way: options of step_worker, environment.
WAYS = {
    OURS: ((), {}),
    "saat-tf, weight gradients as well": (("--weight-gradients",), {}),
    "saat-tf, oneDNN off": ((), {"TF_ENABLE_ONEDNN_OPTS": "0"}),
    "saat-tf, XLA": (("--xla",), {}),
    "saat-tf, mixed_bfloat16": (("--precision", "mixed_bfloat16"), {}),
}
# Only few ways at a time: each process contains the weights, their gradients and what a step keeps.
GROUPS = (
    (OURS, "saat-tf, weight gradients as well", *TORCH_VARIANTS),
    (OURS, "saat-tf, oneDNN off", "saat-tf, XLA", "saat-tf, mixed_bfloat16"),
)
SLOW_TO_COMPILE = ("PyTorch, best settings, torch.compile",)
CASES = {
    "alexnet": {"backbone": "alexnet", "image-size": 224, "batch-size": 32, "num-steps": 7},
    "efficientnet_lite0": {"backbone": "efficientnet_lite0", "image-size": 48, "batch-size": 64, "num-steps": 7},
}
QUICK_CASES = {"alexnet": {**CASES["alexnet"], "image-size": 64, "batch-size": 4, "num-steps": 2}}


def torch_python() -> str | None:
    """Return the interpreter that has PyTorch: TORCH_PYTHON, or this one; None where there is none."""
    named = os.environ.get("TORCH_PYTHON")
    return named or (sys.executable if importlib.util.find_spec("torch") else None)


def start(way: str, case: Mapping[str, Any], file: Path, *extra: str) -> Worker:
    """Start the process of a way; our own writes the case that PyTorch reads."""
    if way in TORCH_VARIANTS:
        options = ("--case", str(file), "--variant", TORCH_VARIANTS[way], "--threads", THREADS, *extra)
        return Worker(
            "benchmarks.torch_saat",
            options,
            environment={"OMP_NUM_THREADS": THREADS},
            python=torch_python() or sys.executable,
        )
    options, environment = WAYS[way]
    environment = {**ENVIRONMENT, **environment}
    return Worker("benchmarks.step_worker", (*options_of(case), *options, *extra), environment=environment)


def same_work(case: Mapping[str, Any], file: Path) -> dict[str, dict[str, float]]:
    """Return the losses of the first step: ours, and those of PyTorch's usual way.

    Raises:
        RuntimeError: they differ.
    """
    usual, case = next(iter(TORCH_VARIANTS)), {**case, "num-steps": COMPARED_STEPS}
    with start(OURS, case, file, "--no-dropout", "--dump", str(file)) as ours:
        found = {OURS: ours()}
    with start(usual, case, file, "--compare") as baseline:
        found[usual] = baseline()
    losses = {way: {name: row[name] for name in row if name.endswith("loss")} for way, row in found.items()}
    differences = [abs(value - losses[usual][name]) for name, value in losses[OURS].items()]
    if not all(difference <= TOLERANCE for difference in differences):
        raise RuntimeError(
            f"The losses of one step must agree within {TOLERANCE}, or the times of two different things are compared. "
            f"Received: {losses}."
        )
    return losses


def measure(name: str, case: Mapping[str, Any], repeats: int, ways: tuple[str, ...], folder: Path) -> list[dict]:
    """Return a row for each of some ways; ours is the first, and ratios say how much longer the others take."""
    file = folder / f"{name}.npz"
    with contextlib.ExitStack() as stack:
        workers, failed = {}, []
        for way in ways:
            extra = ("--peak", "--dump", str(file)) if way == OURS else ()
            try:
                workers[way] = stack.enter_context(start(way, case, file, *extra))
                workers[way]()  # compiles
            except RuntimeError as error:
                workers.pop(way, None)
                failed.append({"case": name, "name": way, "failed": str(error)[:200]})
        timings = in_turns(workers, repeats=repeats)
        facts = workers[OURS].facts
    return [*(row_of(name, way, timings, case, facts) for way in timings), *failed]


def row_of(name: str, way: str, timings: dict[str, Timing], case: Mapping[str, Any], facts: dict) -> dict:
    """Return the figures of a way."""
    rate = facts["flops"] / timings[way].median
    return {
        "case": name,
        **timings[way].row(way),
        "ratio": figure(timings[way].median / timings[OURS].median),
        "images_per_s": figure(case["batch-size"] / timings[way].median),
        "gflops": figure(rate / 1e9),
        "share_of_peak": figure(rate / facts["peak"]),
    }


def memory(case: Mapping[str, Any], steps: int) -> dict:
    """Return the resident memory, in MB, after a tenth of some steps and after all."""
    with start(OURS, case, Path()) as worker:
        sizes = [worker()["rss_mb"] for _ in range(steps)]
    return {
        "steps": steps,
        "early_step": steps // 10,
        "early_mb": round(sizes[steps // 10 - 1]),
        "last_mb": round(sizes[-1]),
    }


def main(*, quick: bool = False, only: tuple[str, ...] = tuple(CASES)) -> None:
    """Print images/s of each way, and how much longer it takes than ours.

    Args:
        quick: AlexNet alone, small images and batches, and fewer steps: whether it works.
        only: of the two networks, these.
    """
    cases, repeats = (QUICK_CASES, 2) if quick else (CASES, REPEATS)
    has_torch, rows, losses = torch_python() is not None, [], None
    if not has_torch:
        print('no PyTorch: its rows are left out; pip install "saat-tf[bench]", or name another Python by TORCH_PYTHON')
    with tempfile.TemporaryDirectory() as folder:
        if has_torch and "alexnet" in only:
            losses = same_work(cases["alexnet"], Path(folder) / "compared.npz")
            print(f"losses of one step: {losses}")
        for name in (name for name in only if name in cases):
            for group in GROUPS[: 1 if quick else None]:
                torch_runs = has_torch and name == "alexnet"
                ways = tuple(way for way in group if way not in TORCH_VARIANTS or torch_runs)
                ways = tuple(way for way in ways if not (quick and way in SLOW_TO_COMPILE))
                found = measure(name, cases[name], repeats, ways, Path(folder))
                show([row for row in found if "failed" not in row])
                rows += found
    flat = memory(list(cases.values())[-1], 10 if quick else MEMORY_STEPS)
    print(f"memory: {flat}")
    write_result("saat_step", {"cases": cases, "rows": rows, "losses": losses, "memory": flat}, quick=quick)


if __name__ == "__main__":
    tyro.cli(main)
