"""Inner attacks from the command line: what they need, how epochs count, a run that is cut off, and rollback."""

import dataclasses

import keras
import numpy as np
import pytest

from saat_tf.layers import CodeBank
from saat_tf.models.inner import NFGSM, FGSMPrior, Free, Steps
from tests.small_graphs import small_graphs
from trainers.callbacks.catastrophic_overfitting import OverfittingMonitor
from trainers.recipes import scenes
from trainers.recipes.corel5k import Corel5kRecipe
from trainers.recipes.defense_options import read_command_line
from trainers.recipes.inner_options import build_inner, passes_over_data, replays_of
from trainers.recipes.option_checks import check_recipe
from trainers.recipes.scenes import ScenesRecipe
from trainers.run_folder.state import RunFolder
from trainers.runs.training import build_defense, build_encoder, build_hashing_loss, train_adversarially
from trainers.tuning.search_space import default_space

SMALL = {"image_size": 16, "bits": 16, "num_train": 20, "num_queries": 4, "batch_size": 8, "probe_images": 0}


@pytest.fixture(scope="module", autouse=True)
def small():
    with small_graphs():
        yield


KINDS = ("pgd", "pgd-2", "pgd-3", "n-fgsm", "fgsm-prior", "yopo", "free")


@pytest.mark.parametrize(
    "inner, passes, step_255",
    [("pgd", 7, 2.0), ("pgd-2", 2, 4.0), ("pgd-3", 3, 4.0), ("n-fgsm", 1, None), ("fgsm-prior", 1, None),
     ("yopo", 2, 2.0), ("free", 0, None)],
)  # fmt: skip
def test_the_option_names_the_inner_attack(inner, passes, step_255):
    built = build_inner(ScenesRecipe(inner=inner, **SMALL), num_items=20)
    assert built.passes == passes
    assert step_255 is None or built.step_size == pytest.approx(step_255 / 255)
    if isinstance(built, Free):
        assert built.delta.shape == (8, 16, 16, 3) and built.replays == replays_of(ScenesRecipe(inner=inner)) == 4
    if isinstance(built, FGSMPrior):
        assert built.delta.shape == (20, 16, 16, 3)


@pytest.mark.parametrize(
    "inner, epochs, until, expected",
    [("n-fgsm", 9, None, 9), ("free", 9, None, 3), ("free", 9, 4, 1), ("pgd", 9, 4, 4)],
)
def test_epochs_of_free_are_updates_of_the_weights(inner, epochs, until, expected):
    assert passes_over_data(ScenesRecipe(inner=inner, epochs=epochs), until) == expected


def test_random_crops_are_refused_where_a_perturbation_is_kept_for_each_image():
    recipe = Corel5kRecipe(inner="fgsm-prior", random_crop=True)
    with pytest.raises(ValueError, match=r"--inner fgsm-prior .* --random-crop\. Add --no-random-crop"):
        check_recipe(recipe)
    check_recipe(dataclasses.replace(recipe, random_crop=False))
    check_recipe(dataclasses.replace(recipe, inner="n-fgsm"))


@pytest.mark.parametrize("option", [{"num_steps": 3}, {"step_255": 1.0}])
def test_steps_are_refused_where_the_attack_has_its_own(option):
    (name,) = option
    with pytest.raises(ValueError, match=f"--inner n-fgsm has steps of its own. Received: --{name.replace('_', '-')}"):
        check_recipe(ScenesRecipe(inner="n-fgsm", **option))
    check_recipe(ScenesRecipe(**option))
    assert name.replace("_", "-") in " ".join(default_space(ScenesRecipe()))
    space = default_space(ScenesRecipe(inner="n-fgsm"))
    assert len(space) == 4 and name.replace("_", "-") not in " ".join(space)


def test_the_fast_recipe_perturbs_in_fewer_passes_for_a_share_of_the_trainers_epochs():
    fast = read_command_line(ScenesRecipe, ["--recipe", "fast"])
    assert fast.adversarial_weight == 3.0
    assert (fast.inner, fast.epochs) == ("free", 5)  # half of 10
    assert read_command_line(Corel5kRecipe, ["--recipe", "fast", "--epochs", "3"]).epochs == 3
    assert read_command_line(Corel5kRecipe, ["--recipe", "fast"]).epochs == 8  # half of 16
    assert read_command_line(ScenesRecipe, ["--recipe", "fast", "--inner", "pgd-3"]).inner == "pgd-3"


class Interrupt(keras.callbacks.Callback):
    """Interrupt after so many steps; keep the learning rate after each."""

    def __init__(self, steps):
        super().__init__()
        self.steps = steps
        self.rates = []

    def on_train_batch_end(self, batch, logs=None):
        self.steps -= 1
        self.rates.append(float(self.model.optimizer.learning_rate))
        if self.steps == 0:
            raise KeyboardInterrupt


def trained(run_dir, *callbacks, **options):
    recipe = ScenesRecipe(run_dir=run_dir, **{**SMALL, "flip": True, "checkpoint_every": 2, **options})
    keras.utils.set_random_seed(0)
    encoder, data = build_encoder(recipe), scenes.load(recipe)
    run_dir.mkdir(exist_ok=True)
    run_folder = RunFolder(run_dir, {"data": "here"})
    train_adversarially(recipe, data, encoder, build_hashing_loss(recipe, 10), run_folder, callbacks=callbacks)
    state = sorted((run_dir / "checkpoints").glob("[0-9]*"))[-1] / "arrays.npz"
    with np.load(state) as stored:
        return [stored[name] for name in sorted(stored.files)]


@pytest.mark.slow
@pytest.mark.parametrize("inner, epochs, cut_at", [("free", 8, 12 + 7), ("fgsm-prior", 2, 4)])
def test_a_run_that_is_cut_off_goes_on_to_the_same_bits(inner, epochs, cut_at, tmp_path):
    whole = trained(tmp_path / "whole", inner=inner, epochs=epochs)
    interrupt, updates = Interrupt(cut_at), 3 * epochs  # 3 batches
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "cut", interrupt, inner=inner, epochs=epochs)
    cosine = 0.5 * ScenesRecipe().learning_rate * (1 + np.cos(np.pi * np.arange(1, cut_at + 1) / updates))
    np.testing.assert_allclose(interrupt.rates, cosine, rtol=1e-4)
    for ours, theirs in zip(trained(tmp_path / "cut", inner=inner, epochs=epochs), whole, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("inner", KINDS)
def test_rollback_takes_more_passes_whatever_attacked_before(inner, tmp_path):
    recipe = ScenesRecipe(inner=inner, **SMALL)
    bank = CodeBank.from_labels(np.eye(4), recipe.bits)

    def monitored(epoch):
        model = build_defense(recipe, encoder, bank, build_hashing_loss(recipe, 4))
        model.compile(optimizer="sgd")
        model.optimizer.build(model.trainable_variables)
        monitor = OverfittingMonitor("rollback", tmp_path, epoch)
        monitor.set_model(model)
        monitor.on_train_begin()
        return monitor, model

    encoder = build_encoder(recipe)
    monitor, model = monitored(0)
    before, first = len(model.training_state()), model.inner
    weight = encoder.trainable_variables[0]
    best = weight.numpy()
    for epoch, robust in enumerate((0.5, 0.1, 0.1)):
        monitor.on_epoch_end(epoch, {"probe_robust_map": robust, "probe_clean_map": 0.8, "probe_bits_flipped": 4.0})
        weight.assign(weight + 1.0 if epoch < 1 else weight)
    np.testing.assert_array_equal(weight.numpy(), best)
    expected = {"pgd": (14, 2), "pgd-2": (4, 4), "pgd-3": (6, 4), "yopo": (4, 4)}.get(inner, (2, 4))
    assert model.inner == Steps(num_steps=expected[0], step_size=expected[1] / 255)
    assert first != model.inner and not isinstance(model.inner, NFGSM)
    _, again = monitored(3)
    assert again.inner == model.inner
    assert len(again.training_state()) == len(model.training_state()) == before  # checkpoints keep their shape
