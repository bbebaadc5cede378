"""How benchmarks time: turns, warm-up, medians, cards, processes that take turns, and that the same work is timed."""

import json
import statistics

import pytest

from benchmarks import saat_step, timing
from benchmarks.saat_step import OURS, TORCH_VARIANTS, same_work
from benchmarks.timing import Timing, in_turns, show, write_result
from benchmarks.workers import Worker, options_of


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still unless it is moved."""
    now = [0.0]
    monkeypatch.setattr(timing.time, "perf_counter", lambda: now[0])
    return now


def test_ways_take_turns_and_the_first_turns_do_not_count(clock):
    called = []

    def way(name, *seconds):
        left = iter(seconds)

        def call():
            called.append(name)
            clock[0] += next(left)

        return call

    found = in_turns({"a": way("a", 100, 50, 1, 2, 4), "b": way("b", 90, 80, 3, 3, 9)}, repeats=3, warm_up=2)
    assert called == ["a", "b"] * 5
    assert found["a"].seconds == (1, 2, 4) and found["b"].seconds == (3, 3, 9)


@pytest.mark.parametrize("seconds", [(3.0, 1.0, 2.0), (4.0, 1.0, 2.0, 8.0), (5.0,)])
def test_a_row_has_median_spread_and_how_much_longer_the_baseline_takes(seconds):
    row = Timing(seconds).row("name", baseline=Timing((12.0, 12.0, 99.0)), bits=32)
    median = statistics.median(seconds)
    assert row == {
        "name": "name",
        "median_s": median,
        "least_s": min(seconds),
        "most_s": max(seconds),
        "repeats": len(seconds),
        "ratio": 12.0 / median,
        "bits": 32,
    }
    assert "ratio" not in Timing(seconds).row("name")


def test_a_quick_result_leaves_what_is_stated_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(timing, "RESULTS", tmp_path / "stated")
    monkeypatch.setattr(timing, "QUICK_RESULTS", tmp_path / "quick")
    assert write_result("map", {"rows": []}, quick=True) == tmp_path / "quick/map.json"
    assert not (tmp_path / "stated").exists()
    card = json.loads(write_result("map", {"rows": []}, quick=False).read_text())
    assert card["command"] == "python -m benchmarks.map" and card["rows"] == []
    assert card["machine"]["cores"] >= 1 and card["machine"]["processor"] and card["versions"]["tensorflow"]


def test_what_is_known_of_a_way_is_shown(capsys):
    show([Timing((1.0, 2.0)).row("slow way", baseline=Timing((3.0,)), bits=32), Timing((0.5,)).row("b")])
    first, second = capsys.readouterr().out.splitlines()
    assert first == "slow way       1.5 s (1 to 2)  ratio 2  bits 32"
    assert second.startswith("b              0.5 s (0.5 to 0.5)")


def worker_of(folder, code):
    (folder / "way_of_a_test.py").write_text(f"from benchmarks.workers import serve\n{code}")
    return Worker("way_of_a_test", options_of({"bits": 8}), environment={"PYTHONPATH": str(folder)})


def test_a_process_does_a_step_whenever_it_is_called_whatever_else_it_prints(tmp_path):
    code = (
        "import sys\nprint('loading')\nsteps = []\n"
        "def step():\n    print('noise')\n    steps.append(1)\n    return {'steps': len(steps)}\n"
        "serve(step, {'bits': sys.argv[1:]})\n"
    )
    with worker_of(tmp_path, code) as worker:
        assert worker.facts == {"bits": ["--bits", "8"]}
        assert [worker()["steps"], worker()["steps"]] == [1, 2]
        assert worker()["seconds"] >= 0
        process = worker.process
    assert process.poll() is not None


def test_a_process_that_fails_says_why(tmp_path):
    with pytest.raises(RuntimeError, match="MemoryError: no room"):
        worker_of(tmp_path, "raise MemoryError('no room')")


class Told:
    """A process whose losses are told beforehand."""

    def __init__(self, losses):
        self.losses = losses

    def __enter__(self):
        return lambda: {**self.losses, "seconds": 1.0}

    def __exit__(self, *_):
        return None


@pytest.mark.parametrize(("other", "agree"), [(0.2504, True), (0.252, False), (float("nan"), False)])
def test_nothing_is_timed_whose_losses_differ(monkeypatch, tmp_path, other, agree):
    ours = {"loss": 1.0, "adversarial_loss": 0.25}
    asked = {}

    def start(way, case, file, *extra):
        asked[way] = case["num-steps"]
        return Told(ours if way == OURS else {**ours, "adversarial_loss": other})

    monkeypatch.setattr(saat_step, "start", start)
    usual = next(iter(TORCH_VARIANTS))
    if agree:
        assert same_work({"num-steps": 7}, tmp_path) == {OURS: ours, usual: {**ours, "adversarial_loss": other}}
    else:
        with pytest.raises(RuntimeError, match=r"must agree within 0\.001.*Received"):
            same_work({"num-steps": 7}, tmp_path)
    assert asked == {OURS: 2, usual: 2}
