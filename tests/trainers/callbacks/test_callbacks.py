"""What TensorBoard reads of a training; collapse: the rule, a stop, a way back that goes on to the same bits."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from saat_tf.layers import CodeBank
from saat_tf.models import SAAT
from saat_tf.threat_model import ThreatModel
from tests.small_graphs import small_graphs
from trainers.callbacks.catastrophic_overfitting import CatastrophicOverfittingError, EpochRobustness, collapsed
from trainers.callbacks.robustness_probe import STEPS, RobustnessProbe
from trainers.callbacks.tensorboard import PROFILED_STEPS
from trainers.recipes import scenes
from trainers.recipes.option_checks import check_recipe
from trainers.recipes.scenes import ScenesRecipe
from trainers.run_folder.state import RunFolder
from trainers.runs import run
from trainers.runs.training import build_encoder, build_hashing_loss, build_probe, train_adversarially

SMALL = {"image_size": 16, "bits": 16, "num_steps": 1, "num_train": 48, "num_queries": 4, "batch_size": 16}


@pytest.fixture(scope="module", autouse=True)
def small():
    with small_graphs():
        yield


@pytest.mark.parametrize(
    "history, expected",
    [
        ([], False),
        ([(0.1, 0.9)] * 5, False),
        ([(0.5, 0.7), (0.2, 0.8)], False),  # one epoch is not enough
        ([(0.5, 0.7), (0.2, 0.7), (0.24, 0.8)], True),
        ([(0.5, 0.7), (0.2, 0.8), (0.25, 0.8)], False),  # half is not below half
        ([(0.5, 0.7), (0.2, 0.8), (0.2, 0.69)], False),  # the model has become bad as a whole
        ([(0.08, 0.7), (0.035, 0.8), (0.035, 0.8)], False),  # less than 0.05 lost
        ([(0.3, 0.7), (0.5, 0.9), (0.4, 0.9), (0.2, 0.9), (0.1, 0.95)], True),
        ([(0.5, 0.7), (0.1, 0.8), (0.4, 0.8), (0.1, 0.8)], False),  # it recovered in between
        ([(0.5, 0.7, 0.25), (0.4, 0.7, 0.5), (0.4, 0.7, 0.5)], True),  # the bits alone tell
        ([(0.5, 0.7, 0.25), (0.4, 0.7, 0.5), (0.4, 0.7, 0.49)], False),  # less than twice
        ([(0.5, 0.7, 0.05), (0.4, 0.7, 0.24), (0.4, 0.7, 0.24)], False),  # less than a fifth of the code
        ([(0.5, 0.7, 0.25), (0.4, 0.6, 0.5), (0.4, 0.6, 0.5)], False),  # the model has become bad as a whole
        ([(0.5, 0.7, 0.25), (0.2, 0.7, 0.3), (0.4, 0.7, 0.5)], True),  # one by MAP, one by bits
    ],
)
def test_collapse_is_two_epochs_of_lost_robustness_at_no_loss_of_clean_map(history, expected):
    assert collapsed([EpochRobustness(*epoch) for epoch in history]) == expected


class Training:
    """Adversarial training in a run folder of its own, begun or gone on with."""

    def __init__(self, run_dir):
        self.run_dir = run_dir
        run_dir.mkdir()

    def train(self, **options):
        recipe = ScenesRecipe(run_dir=self.run_dir, **{**SMALL, **options})
        keras.utils.set_random_seed(0)
        encoder = build_encoder(recipe)
        data = scenes.load(recipe)
        with_identity = RunFolder(self.run_dir, {"data": "here"})
        train_adversarially(recipe, data, encoder, build_hashing_loss(recipe, 10), with_identity)
        return encoder

    def scalars(self):
        accumulator = EventAccumulator(str(self.run_dir / "logs" / "saat"), size_guidance={"tensors": 0})
        accumulator.Reload()
        return {
            tag: [(event.step, tf.make_ndarray(event.tensor_proto)) for event in accumulator.Tensors(tag)]
            for tag in accumulator.Tags()["tensors"]
        }


@pytest.fixture(scope="module")
def probed(tmp_path_factory):
    training = Training(tmp_path_factory.mktemp("probe") / "run")
    training.train(epochs=3, profile=True)
    return training


@pytest.mark.slow
def test_tensorboard_reads_scalars_pictures_and_the_trace(probed):
    tags = probed.scalars()
    parts = {f"epoch_{part}" for part in ("loss", "hashing_loss", "adversarial_loss", "quantization_loss")}
    probe_maps = {"epoch_probe_clean_map", "epoch_probe_robust_map", "epoch_probe_bits_flipped"}
    flips = {f"bits_flipped/after_step_{step:02d}" for step in range(STEPS + 1)}
    assert {*parts, *probe_maps, *flips, "bank/balance_of_worst_bit", "bank/share_of_plus_one", "attacked"} <= {*tags}
    assert all([step for step, _ in events] == [0, 1, 2] for events in tags.values())
    for _, balance in tags["bank/balance_of_worst_bit"]:
        assert 0 <= balance <= 0.5
    for _, (width, height, *pictures) in tags["attacked"]:
        assert (int(width), int(height)) == (3 * 16, 16)
        assert len({picture for picture in pictures}) == 4 and tf.io.decode_png(pictures[0]).shape == (16, 48, 3)
    assert len(list((probed.run_dir / "logs").rglob("*.xplane.pb"))) == 1 and len(PROFILED_STEPS) == 5


@pytest.mark.slow
def test_a_probe_changes_nothing_repeats_itself_and_flips_more_bits_step_by_step(probed):
    recipe = ScenesRecipe(**SMALL)
    data = scenes.load(recipe)
    encoder = build_encoder(recipe)
    training = SAAT(encoder, CodeBank.from_labels(data.train.labels, 16), build_hashing_loss(recipe, 10))
    training.code_bank.codes.assign(np.random.default_rng(0).normal(size=(48, 16)))
    probe = build_probe(recipe, data, None)
    np.testing.assert_array_equal(probe.images[-1], data.train.load(47))  # the last training images
    before = [variable.numpy() for variable in training.variables]
    first, second = probe.measure(training), probe.measure(training)
    for variable, value in zip(training.variables, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)
    for field in dataclasses.fields(first):
        np.testing.assert_array_equal(getattr(first, field.name), getattr(second, field.name))
    assert first.bits_flipped.shape == (STEPS + 1,) and 0 <= first.bits_flipped.min() <= first.bits_flipped.max() <= 16
    ball = ThreatModel.from_255(8)
    pictures = first.pictures.reshape(4, 16, 3, 16, 3).transpose(2, 0, 1, 3, 4)
    ball.verify(pictures[1], pictures[0])
    np.testing.assert_array_equal(pictures[0], probe.images[:4])


def test_the_probe_can_be_left_out():
    recipe = ScenesRecipe(probe_images=0, **SMALL)
    assert build_probe(recipe, scenes.load(recipe), None) is None
    with pytest.raises(ValueError, match="--probe-images must be at least 0"):
        check_recipe(ScenesRecipe(probe_images=-1))


@pytest.fixture
def scripted(monkeypatch):
    """Have the probe find a collapse: it is robust after the second epoch, then no more, and later again."""
    measure = RobustnessProbe.measure
    robust = {1: 0.4, 2: 0.5, 3: 0.1, 4: 0.1, 5: 0.6, 6: 0.6}

    def scripted_measure(self, training):
        # 3 steps an epoch; the count of steps goes on after a rollback, so it tells the epoch.
        epoch = int(training.optimizer.iterations.numpy()) // 3
        if epoch == scripted_measure.interrupted_at:
            scripted_measure.interrupted_at = None
            raise KeyboardInterrupt
        scripted_measure.inner_steps.append(training.inner.num_steps)
        found = dataclasses.replace(measure(self, training), clean_map=0.9, robust_map=robust[epoch])
        return dataclasses.replace(found, bits_flipped=np.full_like(found.bits_flipped, 2.0))

    scripted_measure.interrupted_at, scripted_measure.inner_steps = None, []
    monkeypatch.setattr(RobustnessProbe, "measure", scripted_measure)
    return scripted_measure


@pytest.mark.slow
def test_a_collapse_stops_or_goes_back_and_a_run_cut_off_thereafter_ends_alike(scripted, tmp_path, capsys):
    whole = Training(tmp_path / "whole")
    expected = whole.train(epochs=6, on_collapse="rollback")
    assert scripted.inner_steps == [1, 1, 1, 1, 2, 2]
    assert "Going back to the most robust epoch, with 2 inner steps" in capsys.readouterr().err

    cut = Training(tmp_path / "cut")
    with pytest.raises(
        CatastrophicOverfittingError, match=r"from 0\.500 to 0\.100 by epoch 4.*--num-steps.*--on-collapse rollback"
    ):
        cut.train(epochs=6)
    scripted.interrupted_at = 5
    with pytest.raises(KeyboardInterrupt):
        cut.train(epochs=6, on_collapse="rollback")
    scripted.inner_steps.clear()
    found = cut.train(epochs=6, on_collapse="rollback")
    assert scripted.inner_steps == [2, 2]
    for ours, theirs in zip(found.variables, expected.variables, strict=True):
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy(), err_msg=theirs.path)
    logged = (training.scalars() for training in (cut, whole))
    for (tag, events), (other, others) in zip(*(sorted(tags.items()) for tags in logged), strict=True):
        assert tag == other and [step for step, _ in events] == [step for step, _ in others]
        for (_, value), (_, value_whole) in zip(events, others, strict=True):
            np.testing.assert_array_equal(value, value_whole, err_msg=tag)


@pytest.mark.slow
def test_going_back_brings_the_most_robust_epochs_weights(scripted, tmp_path, monkeypatch):
    states = {}
    save = RunFolder.save

    def saved(self, position, arrays):
        states[position.epoch] = arrays
        save(self, position, arrays)

    monkeypatch.setattr(RunFolder, "save", saved)
    Training(tmp_path / "run").train(epochs=4, on_collapse="rollback")
    metrics = 2 * len(SAAT.LOSSES)  # sum and count of each mean, which come last and begin anew with each epoch
    pairs = list(zip(states[2], states[4], strict=True))[:-metrics]
    differ = [i for i, pair in enumerate(pairs) if not np.array_equal(*pair)]
    assert [(int(states[2][i]), int(states[4][i])) for i in differ] == [(6, 12)]  # the count of steps alone
    assert any(not np.array_equal(a, b) for a, b in zip(states[3], states[4], strict=True))


def test_a_collapse_ends_a_run_with_exit_code_1(tmp_path, monkeypatch, capsys):
    def collapse(*_):
        raise CatastrophicOverfittingError("It collapsed: --resume")

    monkeypatch.setattr(run, "run", collapse)
    recipe = ScenesRecipe(run_dir=tmp_path / "run", **SMALL)
    assert run.main(recipe, "scenes", lambda: scenes.load(recipe)) == run.FAILED
    assert f"error: It collapsed: --resume --run-dir {tmp_path / 'run'}" in capsys.readouterr().err
