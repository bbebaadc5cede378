"""The folder of a sweep: its options, the undefended model, the trials and their results."""

import csv
import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from keras_tuner.engine.trial import Trial, TrialStatus

from saat_tf.evaluation import result_value
from saat_tf.files import write_json, write_whole
from saat_tf.strict_json import read_object
from trainers.console.output import say
from trainers.recipes.identity import changed_options
from trainers.tuning.trial import ATTACK, read_card, read_failure

COMPLETED, FAILED, UNFINISHED = "completed", "failed", "unfinished"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Result:
    """Result of one trial; figures are None where there are none.

    Args:
        trial: its number, as its folder is named.
        values: of the options that were swept.
        status: completed, failed or unfinished.
        reason: why it failed.
        epochs: of adversarial training, those of the trial that it continues among them.
        clean: MAP of the held-out queries, in [0, 1].
        clean_interval: 95% interval of it.
        robust: MAP of their adversarial images.
        robust_interval: 95% interval of it.
        seconds: of training from the undefended model on, and of evaluation.
        pareto: whether no completed trial is better in one and at least as good in the other of the two MAPs.
    """

    trial: str
    values: Mapping
    status: str
    reason: str = ""
    epochs: int | None = None
    clean: float | None = None
    clean_interval: tuple[float, float] | None = None
    robust: float | None = None
    robust_interval: tuple[float, float] | None = None
    seconds: float | None = None
    pareto: bool = False

    @property
    def maps(self) -> tuple[float, float]:
        """Clean and robust MAP of a completed trial."""
        if self.clean is None or self.robust is None:
            raise ValueError(f"Trial {self.trial} is {self.status}, and has no MAP.")
        return self.clean, self.robust


class Study:
    """A sweep's folder.

    options.json is what the sweep was begun with; undefended/ and trials/<number>/ are run folders; oracle/ is
    KerasTuner's; study.json, study.csv and pareto.png are the results.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.undefended = folder / "undefended"
        self.oracle = folder / "oracle"

    def trial(self, number: str) -> Path:
        """Return the folder of a trial."""
        return self.folder / "trials" / number

    def begin(self, options: Mapping) -> None:
        """Begin the study, or check that it was begun with the same options.

        Raises:
            ValueError: other options, which are listed.
            OSError: the folder is not that of a study.
        """
        if not self._options.is_file():
            if self.folder.is_dir() and any(path.name[0] != "." for path in self.folder.iterdir()):
                raise FileNotFoundError(
                    f"{self._options}: no such file. {self.folder} has something else than a sweep. Choose another "
                    "--study-dir."
                )
            self.folder.mkdir(parents=True, exist_ok=True)
            write_json(self._options, dict(options))
        self.check(options)

    def check(self, options: Mapping) -> None:
        """Check that the study was begun with these options.

        Raises:
            ValueError: it was begun with others; the message lists them.
        """
        changed = list(changed_options(self._begun_with(), options))
        if changed:
            raise ValueError(
                f"{self.folder} began with other options:\n  "
                + "\n  ".join(changed)
                + "\nResume with those of before, "
                "or choose another --study-dir: trials of different options do not compare."
            )

    def wait(self, options: Mapping, chief_listens: Callable[[], bool]) -> bool:
        """Wait for the chief, which trains the undefended model first; return whether it came while there is work.

        Raises:
            ValueError: the chief has begun the study with other options.
        """
        waiting = False
        while True:
            if self._options.is_file():
                self.check(options)
                if read_card(self.undefended) is not None and chief_listens():
                    return True
                if self.is_over():
                    return False
            if not waiting:
                say(f"Waiting for the chief, which trains the undefended model in {self.undefended} first.")
                waiting = True
            time.sleep(1)

    def is_over(self) -> bool:
        """Return whether the last process that gave out trials had no more to give."""
        file = self.folder / "study.json"
        return file.is_file() and read_object(file, {"over": bool})["over"]

    def results(self, trials: Sequence) -> list[Result]:
        """Return the results of KerasTuner's trials, in the order of their numbers."""
        found = [self._result(trial) for trial in sorted(trials, key=lambda trial: int(trial.trial_id))]
        completed = [result for result in found if result.status == COMPLETED]
        best = dict(zip((one.trial for one in completed), pareto([x.maps for x in completed]), strict=True))
        return [dataclasses.replace(result, pareto=best.get(result.trial, False)) for result in found]

    def write(self, results: Sequence[Result], *, over: bool) -> dict:
        """Write study.json and study.csv, and return what is in the first; `over` where no trial is to come."""
        undefended = read_card(self.undefended)
        if undefended is None:
            raise FileNotFoundError(f"{self.undefended}: no finished run. It is trained before any trial.")
        content = {
            **{name: undefended[name] for name in ("dataset", "code_length", "epsilon_255", "chance_map", "queries")},
            "over": over,
            "undefended": maps(undefended),
            "options": self._begun_with(),
            "versions": undefended["versions"],
            "machine": undefended["machine"],
            "trials": [dataclasses.asdict(result) for result in results],
        }
        write_json(self.folder / "study.json", content)
        names = list(dict.fromkeys(name for result in results for name in result.values))

        def write(file: Path) -> None:
            with open(file, "w", encoding="utf-8", newline="") as stream:
                writer = csv.writer(stream)
                columns = ("trial", *names, "epochs", "clean", "robust", "status", "pareto", "seconds", "reason")
                writer.writerow(columns)
                for result in results:
                    row = {**dataclasses.asdict(result), **result.values}
                    writer.writerow([row.get(column) for column in columns])

        write_whole(self.folder / "study.csv", write)
        return content

    @property
    def _options(self) -> Path:
        return self.folder / "options.json"

    def _begun_with(self) -> dict:
        return read_object(self._options, {}, remedy="Restore it, or choose another --study-dir.")

    def _result(self, trial: Trial) -> Result:
        values = {name: v for name, v in trial.hyperparameters.values.items() if not name.startswith("tuner/")}
        about = {"trial": trial.trial_id, "values": values}
        folder = self.trial(trial.trial_id)
        card = read_card(folder)
        if trial.status == TrialStatus.COMPLETED and card is not None:
            seconds = sum(card["seconds"].get(phase, 0.0) for phase in ("adversarial", "evaluate"))
            return Result(**about, status=COMPLETED, epochs=card["epochs"], seconds=seconds, **maps(card))
        if trial.status in (TrialStatus.FAILED, TrialStatus.INVALID):
            failure = read_failure(folder)
            return Result(**about, status=FAILED, reason=failure["reason"] if failure else "MAP is not a number.")
        return Result(**about, status=UNFINISHED)


def maps(card: dict) -> dict:
    """Return the clean and the robust MAP of a card, with their intervals."""
    defense = card["results"][0]["defense"]
    intervals = {row["attack"]: tuple(row["interval"]) for row in card["results"]}
    return {
        "clean": result_value(card, defense=defense, attack="none"),
        "clean_interval": intervals["none"],
        "robust": result_value(card, defense=defense, attack=ATTACK),
        "robust_interval": intervals[ATTACK],
    }


def pareto(points: Sequence[tuple[float, float]]) -> list[bool]:
    """Say of each point whether no other is better in one coordinate and at least as good in the other.

    Example:
        >>> pareto([(0.9, 0.1), (0.5, 0.5), (0.8, 0.1), (0.5, 0.5)])
        [True, True, False, True]
    """
    values = np.reshape(np.asarray(points, np.float64), (-1, 2))
    at_least = (values[:, None] >= values).all(axis=-1)  # (N, 1, 2), (N, 2) -> (N, N)
    better = (values[:, None] > values).any(axis=-1)
    dominated = np.any(at_least & better, axis=0)
    return np.logical_not(dominated).tolist()


def best_of(results: Sequence[Result]) -> Result | None:
    """Return the completed trial of the highest robust MAP, the first of equals, or None where there is none."""
    completed = [result for result in results if result.status == COMPLETED]
    return max(completed, key=lambda result: result.maps[1], default=None)
