"""KerasTuner's loop around the trials of a sweep: alone, as a chief that gives them out, or as one of its workers."""

import shutil
import socket
import time
from collections.abc import Mapping, Sequence
from typing import Literal

import keras_tuner as kt
from keras_tuner.engine.base_tuner import BaseTuner
from keras_tuner.engine.trial import Trial

from trainers.console.output import say, warn
from trainers.tuning.search_algorithms import ResumableOracle, TunerName, build_oracle, planned_trials
from trainers.tuning.search_space import Dimension
from trainers.tuning.study import COMPLETED, Study, best_of, maps
from trainers.tuning.trial import TrialRunner, read_failure, write_failure

Role = Literal["alone", "chief", "worker"]
TUNER_ID, IP, PORT = "KERASTUNER_TUNER_ID", "KERASTUNER_ORACLE_IP", "KERASTUNER_ORACLE_PORT"
IDLE_SECONDS = 5


def role_of(environment: Mapping[str, str]) -> Role:
    """Return which part of a sweep this process has, as KerasTuner's environment variables say.

    Raises:
        ValueError: some of the variables are missing, or the port is none.

    Example:
        >>> role_of({}), role_of({TUNER_ID: "chief", IP: "127.0.0.1", PORT: "8000"})
        ('alone', 'chief')
    """
    missing = [name for name in (TUNER_ID, IP, PORT) if not environment.get(name)]
    if len(missing) == 3:
        return "alone"
    if missing:
        raise ValueError(f"{TUNER_ID}, {IP} and {PORT} go together. Missing: {', '.join(missing)}.")
    if not environment[PORT].isdecimal() or not 0 < int(environment[PORT]) < 2**16:
        raise ValueError(f"{PORT} must be a port, 1 to 65535. Received: {environment[PORT]}.")
    return "chief" if "chief" in environment[TUNER_ID] else "worker"


def check_port(environment: Mapping[str, str]) -> None:
    """Check that the chief can have its address for itself; gRPC would share it with another chief without a word.

    Raises:
        OSError: something listens there, or the address is not this machine's.
    """
    ip, port = environment[IP], int(environment[PORT])
    family, kind, _, _, address = socket.getaddrinfo(ip, port, type=socket.SOCK_STREAM)[0]
    with socket.socket(family, kind) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
            probe.listen()
        except OSError as error:
            raise OSError(f"{IP}={ip} {PORT}={port}: the chief cannot listen there ({error.strerror})") from error
    if not ip.startswith("127.") and ip not in ("localhost", "::1"):
        warn(f"{ip} is open to the network: all who can reach it can read and write this sweep's trials.")


def chief_listens(environment: Mapping[str, str]) -> bool:
    """Return whether there is a chief at the address."""
    try:
        socket.create_connection((environment[IP], int(environment[PORT])), timeout=IDLE_SECONDS).close()
    except OSError:
        return False
    return True


class StudyTuner(BaseTuner):
    """KerasTuner's loop around the trials: alone, as chief or as worker, by its environment variables.

    Args:
        runner: what makes trials.
        study: where.
        tuner: which search.
        max_trials: end after so many.
        retry_failed: do trials that failed once more.
        space: what to search.
    """

    def __init__(
        self,
        runner: TrialRunner,
        study: Study,
        tuner: TunerName,
        max_trials: int | None,
        retry_failed: bool,
        space: Sequence[Dimension],
    ) -> None:
        oracle = build_oracle(
            tuner,
            space,
            seed=runner.recipe.seed,
            epochs=runner.recipe.epochs,
            max_trials=max_trials,
            cause_of=lambda number: (read_failure(study.trial(number)) or {"cause": "unknown"})["cause"],
            report=Progress(study),
        )
        super().__init__(oracle, directory=study.folder, project_name=study.oracle.name)
        self.runner = runner
        self.study = study
        self.keeps_checkpoints = tuner == "hyperband"  # later rounds resume from them
        self.idle = 0
        if isinstance(self.oracle, ResumableOracle):  # and not a worker's connection to it
            if (study.oracle / "oracle.json").is_file():
                oracle.reload()
            if retry_failed:
                oracle.retry_failed()
            oracle.save()

    def save(self) -> None:
        """Do nothing: the tuner has no state, and the oracle saves itself at every change."""

    def pre_create_trial(self) -> None:
        """Wait a little where there was no trial to have the last time; KerasTuner would ask without a break."""
        time.sleep(min(self.idle, IDLE_SECONDS))
        self.idle += 1

    def on_trial_begin(self, trial: Trial) -> None:
        """Say what is tried."""
        self.idle = 0
        values = trial.hyperparameters.values.items()
        say(f"Trial {trial.trial_id}: {', '.join(f'{n} {v}' for n, v in values if not n.startswith('tuner/'))}")

    def run_trial(self, trial: Trial) -> dict[str, float]:
        """Make a trial and return its figures.

        Raises:
            FatalError: the disk fails, which is not the trial's fault.
            FailedTrialError: training it failed.
        """
        values = dict(trial.hyperparameters.values)
        rounds = {name: values.pop(name) for name in list(values) if name.startswith("tuner/")}
        before, folder = rounds.get("tuner/trial_id"), self.study.trial(trial.trial_id)
        start = self.study.trial(before) if before else self.study.undefended
        try:
            card = self.runner.trial(folder, values, start=start, epochs=rounds.get("tuner/epochs"))
            if not self.keeps_checkpoints:
                shutil.rmtree(folder / "checkpoints", ignore_errors=True)
        except OSError as error:
            raise kt.errors.FatalError(str(error)) from error
        except Exception as error:
            write_failure(folder, error)
            raise kt.errors.FailedTrialError(str(error)) from error
        return {f"{name}_map": maps(card)[name] for name in ("robust", "clean")}


class Progress:
    """Print after each trial its result, how many are left, and about how long that takes."""

    def __init__(self, study: Study) -> None:
        self.study = study
        self.started = time.monotonic()
        self.ended = 0

    def __call__(self, oracle: ResumableOracle, number: str) -> None:
        """Report the trial that has just ended."""
        self.ended += 1
        results = self.study.results(oracle.trials.values())
        self.study.write(results, over=False)
        result = next(result for result in results if result.trial == number)
        if result.status == COMPLETED:
            came_out = f"clean MAP {result.clean:.3f}, robust {result.robust:.3f}"
        else:
            came_out = f"failed: {result.reason.rstrip('.')}"
        best, planned, over = best_of(results), planned_trials(oracle), len(set(oracle.end_order))
        left = (time.monotonic() - self.started) / self.ended * max(0, planned - over)
        say(
            f"Trial {number}: {came_out}. {over} of {planned} are over, about {_duration(left)} left."
            + (f" Most robust so far: {best.trial}, {best.robust:.3f}." if best else "")
        )


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"
