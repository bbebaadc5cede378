"""The parts of a sweep by hand: its space, its searches when they are cut off, failures, the Pareto front, refusals."""

import itertools
import json
import shlex
import socket

import keras_tuner as kt
import numpy as np
import pytest
from keras_tuner.engine.trial import TrialStatus

from saat_tf.files import write_json
from trainers import sweep
from trainers.recipes.defense_options import named_recipe, read_command_line
from trainers.recipes.scenes import ScenesRecipe
from trainers.tuning.search_algorithms import ResumableOracle, build_oracle, exhausted, planned_trials
from trainers.tuning.search_space import default_space, hyperparameters, read_space
from trainers.tuning.study import FAILED, Result, Study, best_of, pareto
from trainers.tuning.study_report import command_of
from trainers.tuning.tuner import IP, PORT, TUNER_ID, check_port, chief_listens, role_of

SPACE = ("learning-rate=1e-4..1e-1:log", "num-steps=3..10", "epsilon-255=4,8")
LISTS = ("learning-rate=0.001,0.01,0.1", "num-steps=3,10")
# Of bayesian's trials five that are completed are drawn; each later one takes over a second with a Gaussian process.
FEW = {"bayesian": 8}
FEW_OF_WHICH_SOME_FAIL = {"bayesian": 9}


@pytest.fixture(params=["random", "hyperband", "grid", pytest.param("bayesian", marks=pytest.mark.slow)])
def tuner(request):
    if request.param == "bayesian":
        pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    return request.param


class Search:
    """A search without training: `robust` says what a trial of some values gives, None that it fails."""

    def __init__(self, folder, tuner, space, robust, max_trials=None, epochs=9):
        self.study = Study(folder)
        self.tuner, self.space, self.robust = tuner, read_space(space, ScenesRecipe()), robust
        self.max_trials, self.epochs = max_trials, epochs
        self.ended, self.causes = [], {}
        self.begin()

    def begin(self):
        """Begin, or go on as a new process would, which knows nothing but the folder."""
        self.oracle = build_oracle(
            self.tuner, self.space, seed=0, epochs=self.epochs, max_trials=self.max_trials,
            cause_of=self.causes.get, report=lambda oracle, number: self.ended.append(number),
        )  # fmt: skip
        self.oracle._set_project_dir(self.study.folder, "oracle")
        if (self.study.folder / "oracle/oracle.json").exists():
            self.oracle.reload()

    def end(self, trial):
        values = trial.hyperparameters.values
        robust = self.robust(values)
        folder = self.study.trial(trial.trial_id)
        self.oracle.update_trial(trial.trial_id, {"robust_map": 1.0 if robust is None else robust})
        if robust is None:
            self.causes.setdefault(trial.trial_id, "not finite")
            write_json_in(folder / "failure.json", {"cause": "not finite", "reason": "A loss is NaN."})
            trial.status, trial.message = TrialStatus.FAILED, "it failed"
        else:
            write_json_in(folder / "card.json", card(clean=0.9 - robust / 2, robust=robust))
            trial.status = TrialStatus.COMPLETED
        self.oracle.end_trial(trial)

    def go(self, *, cut=False):
        """Go to the end; return the values that were tried, in order. With `cut` the process dies twice in each."""
        tried = []
        while (trial := self.oracle.create_trial("tuner0")).status != TrialStatus.STOPPED:
            if cut:
                self.begin()
                again = self.oracle.create_trial("tuner0")
                assert again.trial_id == trial.trial_id
                assert again.hyperparameters.values == trial.hyperparameters.values
                trial = again
            tried.append(trial.hyperparameters.values)
            self.end(trial)
            if cut:
                self.begin()
        return tried

    def results(self):
        return self.study.results(self.oracle.trials.values())


def write_json_in(file, content):
    file.parent.mkdir(parents=True, exist_ok=True)
    write_json(file, content)


def card(clean, robust):
    rows = [
        {"defense": "saat", "attack": attack, "value": value, "interval": [value - 0.01, value + 0.01]}
        for attack, value in (("none", clean), ("mainstay", robust))
    ]
    return {"epochs": 2, "seconds": {"adversarial": 3.0, "evaluate": 1.0, "pretrain": 50.0}, "results": rows}


def peak(values):
    """Highest at a learning rate of 0.01."""
    return 0.6 - abs(np.log10(values["learning_rate"]) + 2) / 10


# --- the space ---


def test_the_default_space_is_what_the_options_say_and_fits_every_defense():
    texts = [str(dimension) for dimension in read_space(default_space(ScenesRecipe()), ScenesRecipe())]
    assert texts == [
        "epsilon-255=4..16", "step-255=0.5..4:log", "num-steps=3..10", "adversarial-weight=0.3..5:log",
        "quantization-weight=1e-05..0.01:log", "learning-rate=0.0004..0.012:log",
    ]  # fmt: skip
    assert read_space(texts, ScenesRecipe()) == read_space(default_space(ScenesRecipe()), ScenesRecipe())
    atrdh = ScenesRecipe(defense="atrdh")
    assert "quantization_weight" not in {dimension.name for dimension in read_space(default_space(atrdh), atrdh)}


def test_a_space_is_drawn_within_its_bounds_on_its_scale():
    space = hyperparameters(read_space(SPACE, ScenesRecipe()))
    draws = {p.name: [p.random_sample(seed) for seed in range(400)] for p in space.space}
    rates = np.array(draws["learning_rate"])
    assert 1e-4 <= rates.min() and rates.max() <= 1e-1
    assert 120 < np.sum(rates < 1e-3) < 150  # about a third a decade
    assert set(draws["num_steps"]) == set(range(3, 11)) and set(draws["epsilon_255"]) == {4.0, 8.0}


@pytest.mark.parametrize(
    "space, message",
    [
        (["epochs=1,2"], "must sweep options of adversarial training: epsilon-255, .*Received: epochs"),
        (["learning-rate"], "must be values as learning-rate=1,2,4, or a range"),
        (["num-steps=1.5,2"], "whole numbers for num-steps. Received: num-steps=1.5,2"),
        (["learning-rate=1..nan"], "must be values"),
        (["learning-rate=0.1..0.01"], "from low to high"),
        (["weight-decay=0..0.01:log"], "begins above 0"),
        (["learning-rate=0.1,0.2:log"], "a list may not"),
        (["num-steps=3,3"], "each value once"),
        (["learning-rate=0,0.1"], "--space learning-rate=0,0.1: --learning-rate must be above 0"),
        (["epsilon-255=8..300"], "--epsilon-255 must be in"),
        (["num-steps=1,2", "num_steps=3,4"], "each option once"),
    ],
)
def test_a_space_that_cannot_be_is_refused(space, message):
    with pytest.raises(ValueError, match=message):
        read_space(space, ScenesRecipe())
    with pytest.raises(ValueError, match="has no such term"):
        read_space(["quantization-weight=0.1,0.2"], ScenesRecipe(defense="atrdh"))


def test_the_command_line_has_both_options_and_the_best_trial_is_a_command():
    options, recipe = sweep.read_command_line(
        shlex.split("--study-dir s --tuner grid --space num-steps=1,2 scenes --recipe strong --epochs 3 --flip")
    )
    assert (options.tuner, options.space) == ("grid", ("num-steps=1,2",))
    assert recipe == named_recipe(ScenesRecipe, "strong", epochs=3, flip=True)
    best = Result(trial="3", status="completed", values={"learning_rate": 0.000123457, "num_steps": 2})
    python, flag, module, *words = shlex.split(command_of(recipe, "scenes", best))
    assert (python, flag, module) == ("python", "-m", "trainers.scenes")
    full = named_recipe(ScenesRecipe, "strong", epochs=3, flip=True, learning_rate=0.000123457, num_steps=2)
    assert read_command_line(ScenesRecipe, words) == full


# --- the searches ---


@pytest.mark.slow
def test_a_search_that_is_cut_off_at_every_point_is_the_same_search(tmp_path, tuner):
    space = SPACE if tuner != "grid" else LISTS
    whole, cut = (Search(tmp_path / name, tuner, space, peak, max_trials=FEW.get(tuner)) for name in ("whole", "cut"))
    tried, tried_cut = whole.go(), cut.go(cut=True)
    assert len(tried) == len(tried_cut) == planned_trials(whole.oracle) == len(whole.oracle.trials)
    assert tuner != "bayesian" or len(tried) > whole.oracle.num_initial_points  # and trials of the process
    if tuner != "bayesian":  # which draws anew where its descent begins
        assert tried == tried_cut
    drawn = [values for values in tried_cut if "tuner/trial_id" not in values]
    assert len({json.dumps(values) for values in drawn}) == len(drawn)
    assert all(float(f"{x['learning_rate']:.6g}") == x["learning_rate"] for x in tried)
    assert cut.ended == [result.trial for result in cut.results()]


@pytest.mark.slow
def test_a_trial_that_fails_is_never_best_in_any_search(tmp_path, tuner):
    def robust(values):
        return None if values["learning_rate"] > 0.008 else peak(values)

    search = Search(
        tmp_path, tuner, SPACE if tuner != "grid" else LISTS, robust, max_trials=FEW_OF_WHICH_SOME_FAIL.get(tuner)
    )
    search.oracle.common_cause = lambda: None
    tried = search.go()
    results = search.results()
    failed = {result.trial for result in results if result.values["learning_rate"] > 0.008}
    assert failed and {result.trial for result in results if result.status == FAILED} == failed
    completed = [result for result in results if result.trial not in failed]
    if tuner == "bayesian":  # the process has drawn what comes after the last of the drawn trials
        assert results.index(completed[search.oracle.num_initial_points - 1]) < len(results) - 1
    assert best_of(results).robust == max(peak(result.values) for result in completed)
    assert not any(result.pareto or result.robust for result in results if result.trial in failed)
    assert not {values.get("tuner/trial_id") for values in tried} & failed
    assert all(result.reason == "A loss is NaN." for result in results if result.trial in failed)


@pytest.mark.slow
def test_where_every_trial_fails_there_is_no_best_and_no_search_without_end(tmp_path, tuner):
    search = Search(tmp_path, tuner, SPACE, lambda values: None)
    assert len(search.go()) == 3 and search.oracle.common_cause() == "not finite"
    assert best_of(search.results()) is None
    search.begin()  # called again it says the same, and more trials only where that is asked for
    assert search.go() == [] and search.oracle.common_cause() == "not finite"
    search.oracle.retry_failed()
    search.robust = lambda values: 0.5
    assert len(search.go()) >= 3 and search.oracle.common_cause() is None
    assert {result.status for result in search.results()} == {"completed"}
    assert [result.trial for result in search.results()][:3] == search.ended[:3] == search.ended[3:6]


def test_failures_of_different_causes_do_not_end_a_search(tmp_path):
    search = Search(tmp_path, "random", SPACE, lambda values: None, max_trials=7)
    search.causes.update({f"{i}": f"cause {i % 2}" for i in range(7)})
    assert len(search.go()) == 7


@pytest.mark.parametrize("tuner", ["random", "grid", "bayesian"])
def test_a_space_smaller_than_its_trials_is_said_to_be_exhausted(tmp_path, tuner):
    search = Search(tmp_path, tuner, ("num-steps=3,10",), lambda values: values["num_steps"] / 10, max_trials=5)
    tried = search.go()
    assert sorted(values["num_steps"] for values in tried) == [3, 10]
    assert exhausted(search.oracle).startswith("2 of 5 trials were done: the space is exhausted")
    search.max_trials = 2
    search.begin()
    assert search.go() == [] and exhausted(search.oracle) is None


def test_hyperband_says_that_it_has_no_more_rounds(tmp_path):
    search = Search(tmp_path, "hyperband", SPACE, peak, max_trials=100, epochs=3)
    tried = search.go()
    assert exhausted(search.oracle).startswith(f"{len(tried)} of 100 trials were done: hyperband has no more rounds")


def test_a_grid_gives_each_combination_once_to_several_workers(tmp_path):
    search = Search(tmp_path, "grid", (*LISTS, "epsilon-255=4..8"), peak)
    running = [search.oracle.create_trial(f"tuner{i}") for i in range(4)]
    assert {trial.status for trial in running} == {TrialStatus.RUNNING}
    tried = [trial.hyperparameters.values for trial in running]
    for trial in running:
        search.end(trial)
    tried += search.go()
    expected = itertools.product((0.001, 0.01, 0.1), (3, 10), (4.0, 6.0, 8.0))
    assert sorted(tuple(values.values()) for values in tried) == sorted(expected)


def test_hyperband_trains_the_best_of_a_round_on(tmp_path):
    tried = Search(tmp_path, "hyperband", SPACE, peak, epochs=9).go()
    # max_epochs 9, factor 3: 9 + 3 + 1 trials of 1, 3 and 9 epochs, 5 + 2 of 3 and 9, 3 of 9.
    rounds = [(x["tuner/bracket"], x["tuner/initial_epoch"], x["tuner/epochs"]) for x in tried]
    counts = {one: rounds.count(one) for one in rounds}
    assert counts == {(2, 0, 1): 9, (2, 1, 3): 3, (2, 3, 9): 1, (1, 0, 3): 5, (1, 3, 9): 2, (0, 0, 9): 3}
    first = [x for x in tried if x["tuner/bracket"] == 2 and x["tuner/round"] == 0]
    second = [x["learning_rate"] for x in tried if x["tuner/bracket"] == 2 and x["tuner/round"] == 1]
    assert sorted(second) == sorted(x["learning_rate"] for x in sorted(first, key=peak)[-3:])


def test_a_trial_that_was_begun_as_the_process_died_is_drawn_again(tmp_path, monkeypatch):
    search = Search(tmp_path, "random", SPACE, peak, max_trials=3)
    search.end(search.oracle.create_trial("tuner0"))
    with monkeypatch.context() as dying:
        dying.setattr(ResumableOracle, "save", lambda oracle: None)
        lost = search.oracle.create_trial("tuner0")
    search.begin()
    again = search.oracle.create_trial("tuner0")
    assert again.trial_id == lost.trial_id == "1"
    assert again.hyperparameters.values == lost.hyperparameters.values
    search.end(again)
    assert len(search.go()) == 1


def test_the_objective_is_to_be_high():
    oracle = build_oracle("random", read_space(SPACE, ScenesRecipe()), seed=0, epochs=1, cause_of=None, report=None)
    assert oracle.objective == kt.Objective("robust_map", "max") and oracle.seed == 1


# --- what comes out ---


def test_the_pareto_front_is_that_of_brute_force():
    rng = np.random.default_rng(0)
    for size in (0, 1, 2, 3, 5, 8, 13, 40):
        points = [tuple(point) for point in rng.integers(0, 6, (size, 2)) / 5]  # with ties
        expected = [
            not any(b[0] >= a[0] and b[1] >= a[1] and (b[0] > a[0] or b[1] > a[1]) for b in points) for a in points
        ]
        assert pareto(points) == expected


# --- refusals ---


def test_a_study_that_began_with_other_options_is_refused_with_a_list(tmp_path):
    study = Study(tmp_path / "study")
    study.begin({"tuner": "random", "bits": 16, "space": ["num-steps=1,2"]})
    study.begin({"tuner": "random", "bits": 16, "space": ["num-steps=1,2"]})
    with pytest.raises(ValueError, match=r"--bits: 16 -> 32\n  --space: \['num-steps=1,2'\] -> \['num-steps=1,3'\]\n"):
        study.begin({"tuner": "random", "bits": 32, "space": ["num-steps=1,3"]})
    (tmp_path / "photos/mine").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match="something else than a sweep"):
        Study(tmp_path / "photos").begin({})


@pytest.mark.parametrize(
    "arguments, message",
    [
        ("--max-trials 0 scenes", "--max-trials must be at least 1"),
        ("--evaluation-epsilon-255 0 scenes", "--evaluation-epsilon-255 must be above 0"),
        ("scenes --run-dir x", "A sweep has --study-dir"),
        ("scenes --bits 7", "--bits must be a positive multiple of 8"),
        ("--validation-queries 40 scenes --num-train 40 --image-size 16", "--validation-queries must be above 0"),
        ("corel5k", "trainers.corel5k --data-dir"),
    ],
)
def test_options_at_fault_are_refused_before_anything_is_made(tmp_path, capsys, arguments, message):
    study_dir = tmp_path / "study"
    assert sweep.main(*sweep.read_command_line(["--study-dir", str(study_dir), *shlex.split(arguments)])) == 2
    assert message in capsys.readouterr().err and not study_dir.exists()


def test_the_part_of_a_process_is_what_the_environment_says():
    chief = {TUNER_ID: "chief", IP: "127.0.0.1", PORT: "8000"}
    assert role_of({}) == "alone" and role_of(chief) == "chief" and role_of({**chief, TUNER_ID: "tuner1"}) == "worker"
    for name in chief:
        with pytest.raises(ValueError, match=f"Missing: {name}"):
            role_of({key: value for key, value in chief.items() if key != name})
    with pytest.raises(ValueError, match="must be a port, 1 to 65535"):
        role_of({**chief, PORT: "80000"})


def test_a_port_that_another_chief_has_is_refused():
    with socket.socket() as other:
        for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT):  # as gRPC sets them
            other.setsockopt(socket.SOL_SOCKET, option, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        address = {IP: "127.0.0.1", PORT: str(other.getsockname()[1])}
        assert chief_listens(address)
        with pytest.raises(OSError, match="cannot listen there"):
            check_port(address)
    check_port(address)
    assert not chief_listens(address)
