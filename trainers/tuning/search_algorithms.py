"""KerasTuner's four searches, made resumable and strict about failures."""

import itertools
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import keras_tuner as kt
from keras_tuner.engine.trial import Trial, TrialStatus

from saat_tf.files import write_json
from saat_tf.strict_json import read_object
from saat_tf.text_lists import DataError
from trainers.tuning.search_space import Dimension, hyperparameters, rounded

TunerName = Literal["random", "hyperband", "grid", "bayesian"]
OBJECTIVE = "robust_map"
# As many failures one after the other, of one cause, end a sweep.
FAILURES = 3
DEFAULT_TRIALS = 20


class ResumableOracle(kt.Oracle):
    """Base of all searches of a sweep; a class of KerasTuner is the second base.

    - Its files are there whole or not at all; a trial of which the state knows nothing is drawn again, and one that has
      ended is not.
    - Values have six digits, so those that a table shows are those that were tried.
    - Failures of one cause, one after the other, stop the search. KerasTuner's own limit raises inside a lock that it
      does not open again, and a chief would hang.

    Args:
        cause_of: trial -> why it failed, in a word.
        report: called with this after each trial.
        options: those of the second base.
    """

    end_order: list[str]
    _retry_queue: list[str]

    def __init__(
        self, *, cause_of: Callable[[str], str], report: Callable[["ResumableOracle", str], None], **options: object
    ) -> None:
        super().__init__(objective=kt.Objective(OBJECTIVE, "max"), max_consecutive_failed_trials=sys.maxsize, **options)
        self.cause_of = cause_of
        self.report = report
        self.verbose = 0

    def populate_space(self, trial_id: str) -> dict:
        """Return the values of the next trial, if there is to be one."""
        if self.common_cause() is not None:
            return {"status": TrialStatus.STOPPED}
        response = super().populate_space(trial_id)
        values = response.get("values") or {}
        return {**response, "values": {name: rounded(value) for name, value in values.items()}}

    @kt.synchronized
    def end_trial(self, trial: Trial) -> None:
        """Record a finished trial."""
        super().end_trial(trial)
        self.report(self, trial.trial_id)

    def common_cause(self) -> str | None:
        """Return why the last trials failed, if all of them did for one cause."""
        last = self.end_order[-FAILURES:]
        if len(last) < FAILURES or any(self.trials[name].status != TrialStatus.FAILED for name in last):
            return None
        causes = {self.cause_of(name) for name in last}
        return causes.pop() if len(causes) == 1 else None

    def retry_failed(self) -> None:
        """Have the trials that failed done again, the first one first."""
        failed = [name for name in self.start_order if self.trials[name].status == TrialStatus.FAILED]
        self.end_order = [name for name in self.end_order if name not in failed]
        self._retry_queue = [*self._retry_queue, *reversed(failed)]
        for name in failed:
            self._run_times[name] = 0

    def save(self) -> None:
        """Write the state, whole."""
        write_json(Path(self._get_oracle_fname()), self.get_state())

    def reload(self) -> None:
        """Read the state.

        Raises:
            DataError: a file of it is damaged.
        """
        state, remedy = Path(self._get_oracle_fname()), "Restore it, or choose another --study-dir."
        for file in (state, *state.parent.glob("trial_*/trial.json")):
            read_object(file, {}, remedy=remedy)
        try:
            super().reload()
        except (AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
            told = f"{type(error).__name__}: {error!s:.200}"
            raise DataError(f"{state.parent}: not the state of a search ({told}). {remedy}") from error
        for name in self.trials.keys() - set(self.start_order):
            del self.trials[name]  # begun, but the state was not written any more
        # KerasTuner writes the state before it takes a trial that has ended off the list of those that run.
        self._retry_queue = [name for name in self._retry_queue if name not in self.end_order]

    def _save_trial(self, trial: Trial) -> None:
        write_json(Path(self._get_trial_dir(trial.trial_id)) / "trial.json", trial.get_state())


class RandomOracle(ResumableOracle, kt.oracles.RandomSearchOracle):
    """Draw each trial anew."""


class HyperbandOracle(ResumableOracle, kt.oracles.HyperbandOracle):
    """Train many trials for a few epochs, and the best of them for more."""


class _Enumeration(kt.oracles.GridSearchOracle):
    """All combinations in order.

    KerasTuner's own way through a grid is lost when it resumes, and has few trials at a time for several workers.
    """

    def populate_space(self, trial_id: str) -> dict:
        names = [parameter.name for parameter in self.hyperparameters.space]
        for combination in itertools.product(*(parameter.values for parameter in self.hyperparameters.space)):
            values = dict(zip(names, combination, strict=True))
            if not self._duplicate(values):
                return {"status": TrialStatus.RUNNING, "values": values}
        return {"status": TrialStatus.STOPPED}


class GridOracle(ResumableOracle, _Enumeration):
    """Try all combinations."""


class BayesianOracle(ResumableOracle, kt.oracles.BayesianOptimizationOracle):
    """Try what a Gaussian process of the trials before thinks best or knows least of."""

    def populate_space(self, trial_id: str) -> dict:
        """Return the values of the next trial; drawn ones in place of values that have been tried."""
        response = super().populate_space(trial_id)
        if response["status"] == TrialStatus.RUNNING and self._duplicate(response["values"]):
            values = self._random_values()
            if values is None:
                return {"status": TrialStatus.STOPPED}
            return {"status": TrialStatus.RUNNING, "values": {name: rounded(v) for name, v in values.items()}}
        return response


def build_oracle(
    tuner: TunerName,
    space: Sequence[Dimension],
    *,
    seed: int,
    epochs: int,
    max_trials: int | None = None,
    cause_of: Callable[[str], str],
    report: Callable[[ResumableOracle, str], None],
) -> ResumableOracle:
    """Build the search.

    Args:
        tuner: which one.
        space: what to search.
        seed: of what it draws.
        epochs: of a trial; under hyperband of the longest.
        max_trials: end after so many. Default: 20 drawn ones, the whole grid, the whole of hyperband.
        cause_of: see `ResumableOracle`.
        report: see `ResumableOracle`.

    Raises:
        ImportError: bayesian needs scikit-learn, which is not installed.
    """
    shared = {
        "hyperparameters": hyperparameters(space, grid=tuner == "grid"),
        "seed": seed + 1,  # KerasTuner takes 0 for none
        "cause_of": cause_of,
        "report": report,
    }
    if tuner == "hyperband":
        oracle = HyperbandOracle(max_epochs=epochs, **shared)
        oracle.max_trials = max_trials
        return oracle
    if tuner == "grid":
        return GridOracle(max_trials=max_trials, **shared)
    shared["max_trials"] = max_trials or DEFAULT_TRIALS
    if tuner == "random":
        return RandomOracle(**shared)
    return BayesianOracle(num_initial_points=len(space) + 2, **shared)


def planned_trials(oracle: ResumableOracle) -> int:
    """Return how many trials a search has, if none fails and the space does not run out."""
    planned = [oracle.max_trials] if oracle.max_trials else []
    if isinstance(oracle, GridOracle):
        planned.append(math.prod(len(parameter.values) for parameter in oracle.hyperparameters.space))
    if isinstance(oracle, HyperbandOracle):
        brackets = range(oracle._get_num_brackets())
        planned.append(sum(oracle._get_size(bracket, i) for bracket in brackets for i in range(bracket + 1)))
    return min(planned)


def exhausted(oracle: ResumableOracle) -> str | None:
    """Say why a search that has ended did fewer trials than were asked for; None where it did them all, or failed."""
    done, asked = len(oracle.trials), oracle.max_trials
    if not asked or done >= asked or oracle.common_cause() is not None:
        return None
    if isinstance(oracle, HyperbandOracle):
        return f"{done} of {asked} trials were done: hyperband has no more rounds. Raise --epochs for more."
    return (
        f"{done} of {asked} trials were done: the space is exhausted, no values were found that had not been tried. "
        "Widen --space, in another --study-dir, for more."
    )
