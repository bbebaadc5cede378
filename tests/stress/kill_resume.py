"""Kill a run at seeded moments and resume it: is the result that of an uninterrupted run, bit for bit?

    python -m tests.stress.kill_resume --kills 20

A moment is the entry to a function that writes, trains or evaluates; the run kills its own process there by SIGKILL.
Every run is a process of its own, forked from a server that has imported TensorFlow and done nothing with it.
"""

import argparse
import collections
import contextlib
import functools
import hashlib
import io
import json
import multiprocessing
import os
import signal
import sys
import tempfile
import types
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

OPTIONS = {
    "image_size": 16, "bits": 16, "num_train": 44, "num_queries": 2, "batch_size": 8, "pretrain_epochs": 2, "epochs": 2,
    "num_steps": 1, "attack_steps": 1, "checkpoint_every": 2, "flip": True,
}  # fmt: skip
KILLED = -signal.SIGKILL


def places() -> list[tuple[object, str]]:
    """Return the functions at whose entry a run may be killed: holder and name."""
    import trainers.runs.run
    from saat_tf import checkpoints
    from saat_tf.models import HashingModel
    from saat_tf.models.code_training import CodeTraining
    from saat_tf.training.checkpointing import Checkpointing
    from trainers.run_folder.state import RunFolder

    return [
        (os, "fsync"), (os, "rename"), (os, "replace"), (np, "savez"), (checkpoints, "_digest"),
        (checkpoints, "_remove"), (Checkpointing, "on_train_batch_end"), (Checkpointing, "on_epoch_begin"),
        (Checkpointing, "on_epoch_end"),
        (CodeTraining, "fill_bank"), (HashingModel, "encode"), (RunFolder, "save_report"),
        (trainers.runs.run, "write_json"), (trainers.runs.run, "plot_maps"), (trainers.runs.run, "plot_queries"),
    ]  # fmt: skip


def train(
    run_dir: Path, struck_at: tuple[str, int] | None, by: int, notes: Path, environment: dict, options: dict
) -> None:
    """Train in this process, with signal `by` at the n-th call of a function; note moments and what was said."""
    import trainers.recipes.scenes
    import trainers.runs.run
    from saat_tf.training.checkpointing import Checkpointing
    from tests.small_graphs import small_graphs

    os.environ.update(environment)

    os.dup2(os.open(notes / "said", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), sys.stderr.fileno())
    calls: collections.Counter[str] = collections.Counter()

    def counted(name: str, function: Callable) -> Callable:
        @functools.wraps(function)
        def call(*args: object, **kwargs: object) -> object:
            if (name, calls[name]) == struck_at:
                os.kill(os.getpid(), by)
            calls[name] += 1
            return function(*args, **kwargs)

        return call

    for holder, name in places():
        setattr(holder, name, counted(name, getattr(holder, name)))
    save = Checkpointing._save

    def noted_save(checkpointing: Checkpointing) -> None:
        save(checkpointing)
        state = b"".join(v.numpy().tobytes() for v in checkpointing.variables[: -len(checkpointing.metric_variables)])
        with open(notes / "states", "a") as file:
            file.write(hashlib.sha256(state).hexdigest() + "\n")

    Checkpointing._save = noted_save
    recipe = trainers.recipes.scenes.ScenesRecipe(run_dir=run_dir, resume=True, **{**OPTIONS, **options})
    with contextlib.redirect_stdout(io.StringIO()), small_graphs():
        code = trainers.runs.run.main(recipe, "scenes", lambda: trainers.recipes.scenes.load(recipe))
    (notes / "calls").write_text(json.dumps(calls))
    raise SystemExit(code)


class Runs:
    """Runs in processes of their own, and what they left."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(["trainers.recipes.scenes", "trainers.runs.run"])

    def run(
        self, name: str, struck_at: tuple[str, int] | None = None, by: int = signal.SIGKILL, **options: object
    ) -> int:
        """Train in folder `name`, or resume there; return the exit code."""
        process = self.start(name, struck_at, by, **options)
        process.join()
        return process.exitcode

    def start(
        self,
        name: str,
        struck_at: tuple[str, int] | None = None,
        by: int = signal.SIGKILL,
        environment: Mapping[str, str] = types.MappingProxyType({}),
        **options: object,
    ) -> multiprocessing.process.BaseProcess:
        """Begin `run` with variables set in the environment of its process; return the process."""
        notes = self.folder / "notes" / name
        notes.mkdir(parents=True, exist_ok=True)
        arguments = (self.folder / name, struck_at, by, notes, dict(environment), options)
        process = self.context.Process(target=train, args=arguments)
        process.start()
        return process

    def calls(self, name: str) -> dict[str, int]:
        """Return how often the last run of `name` called which function."""
        return json.loads((self.folder / "notes" / name / "calls").read_text())

    def said(self, name: str) -> str:
        """Return what the last run of `name` wrote to its error stream."""
        return (self.folder / "notes" / name / "said").read_text()

    def states(self, name: str) -> list[str]:
        """Return a digest of weights, bank and optimizer at each checkpoint that the runs of `name` wrote."""
        return (self.folder / "notes" / name / "states").read_text().split()

    def outcome(self, name: str) -> dict:
        """Return what a run left that must not depend on how often it was interrupted."""
        run_dir = self.folder / name
        last = sorted((run_dir / "checkpoints").glob("[0-9]*"))[-1]
        facts = json.loads((last / "facts.json").read_text())
        weights = {
            model: hashlib.sha256(zipfile.ZipFile(run_dir / model).read("model.weights.h5")).hexdigest()
            for model in ("hashing.keras", "robust.keras")
        }
        return {
            "state": hashlib.sha256((last / "arrays.npz").read_bytes()).hexdigest(),
            "position": facts["position"],
            "weights": weights,
            "results": json.loads((run_dir / "card.json").read_text())["results"],
            "logs": {phase: logged_scalars(run_dir / "logs" / phase) for phase in ("hashing", "saat")},
            "left over": [p.name for p in run_dir.rglob(".*")],
        }


def logged_scalars(folder: Path) -> list[tuple[str, int, float]]:
    """Return (tag, step, value) of everything that TensorBoard finds in a folder, each as often as it is there."""
    import tensorflow as tf

    return sorted(
        (value.tag, event.step, float(tf.make_ndarray(value.tensor)))
        for file in folder.glob("events.*")
        for event in tf.compat.v1.train.summary_iterator(str(file))
        for value in event.summary.value
        if value.HasField("tensor") and value.tensor.dtype == tf.float32.as_datatype_enum
    )


def main() -> int:
    """Kill, resume, compare; print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        runs = Runs(Path(folder))
        if runs.run("whole"):
            return 1
        calls, expected = runs.calls("whole"), runs.outcome("whole")
        rng = np.random.default_rng(options.seed)
        equal = 0
        for i in range(options.kills):
            place = str(rng.choice(sorted(calls)))  # they differ in how often they run: one of them, then one call
            number = int(rng.integers(calls[place]))
            killed, resumed = runs.run(f"kill{i}", (place, number)), runs.run(f"kill{i}")
            same = (killed, resumed) == (KILLED, 0) and runs.outcome(f"kill{i}") == expected
            equal += same
            verdict = "equal" if same else "DIFFERS"
            print(f"{i + 1:3d}. killed at call {number + 1} of {calls[place]} of {place}: {verdict}", flush=True)
    print(f"{equal} of {options.kills} killed runs gave bit for bit the result of the uninterrupted one")
    return int(equal < options.kills)


if __name__ == "__main__":
    raise SystemExit(main())
