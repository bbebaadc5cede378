"""Training with resume from Python: the same bits, the calls of Keras, and the retrieval scores of an epoch."""

import os
import signal

import keras
import numpy as np
import pytest

from saat_tf.data import DataError, array_split, evaluation_batches
from saat_tf.files import lock_folder
from saat_tf.losses import HashNet
from saat_tf.models import SAAT, HashingModel, HashingTraining
from saat_tf.training import NotFiniteError, RetrievalMAP, fit
from tests.small_graphs import small_graphs

BITS, SIZE, ITEMS = 8, 12, 20
RNG = np.random.default_rng(0)
IMAGES = RNG.random((ITEMS, SIZE, SIZE, 3), dtype=np.float32)
LABELS = np.eye(3, dtype=np.float32)[RNG.integers(0, 3, ITEMS)]
SPLIT = array_split(IMAGES, LABELS)


@pytest.fixture(scope="module", autouse=True)
def small():
    with small_graphs():
        yield


def make(kind=HashingTraining, optimizer=None, **options):
    keras.utils.set_random_seed(1)
    training = kind(HashingModel("small_cnn", BITS, SIZE), hashing_loss=HashNet(), **options)
    training.compile(optimizer=optimizer or keras.optimizers.Adam(1e-2, use_ema=True, ema_momentum=0.5))
    return training


class Interrupt(keras.callbacks.Callback):
    """Send a signal to this process after so many steps."""

    def __init__(self, steps):
        super().__init__()
        self.left = steps

    def on_train_batch_end(self, batch, logs=None):
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGTERM)


def states(training):
    return [variable.numpy() for variable in training.training_state()]


OPTIONS = {"epochs": 3, "batch_size": 6, "flip": True, "validation_data": (IMAGES[:5], LABELS[:5])}


@pytest.mark.slow
def test_a_training_that_is_interrupted_again_and_again_ends_with_the_same_bits(tmp_path):
    """By a signal in the first epoch and at the end of the second, and by a crash on the way in the third."""
    whole = make(SAAT, num_steps=1)
    expected = fit(whole, SPLIT, checkpoint_dir=tmp_path / "whole", **OPTIONS)
    for steps in (2, 6):  # 4 steps an epoch
        with pytest.raises(KeyboardInterrupt):
            fit(
                make(SAAT, num_steps=1), SPLIT, checkpoint_dir=tmp_path / "cut", callbacks=[Interrupt(steps)], **OPTIONS
            )
    crash = keras.callbacks.LambdaCallback(on_train_batch_begin=lambda batch, logs: 1 / (batch - 2))
    with pytest.raises(ZeroDivisionError):
        fit(make(SAAT, num_steps=1), SPLIT, checkpoint_dir=tmp_path / "cut", callbacks=[crash], **OPTIONS)
    resumed = make(SAAT, num_steps=1)
    history = fit(resumed, SPLIT, checkpoint_dir=tmp_path / "cut", **OPTIONS)
    assert history.history == expected.history and history.epoch == expected.epoch == [0, 1, 2]
    assert {"loss", "val_loss", "hashing_loss", "val_adversarial_loss"} <= set(history.history)
    for one, other in zip(states(resumed), states(whole), strict=True):
        np.testing.assert_array_equal(one, other)

    # What is finished only gets its state back; more epochs continue it.
    again = make(SAAT, num_steps=1)
    assert fit(again, SPLIT, checkpoint_dir=tmp_path / "cut", **OPTIONS).history == expected.history
    for one, other in zip(states(again)[:-8], states(whole)[:-8], strict=True):  # without the means of an epoch
        np.testing.assert_array_equal(one, other)
    more = fit(make(SAAT, num_steps=1), SPLIT, checkpoint_dir=tmp_path / "cut", **{**OPTIONS, "epochs": 4})
    assert more.epoch == [0, 1, 2, 3] and more.history["loss"][:3] == expected.history["loss"]


class Calls(keras.callbacks.Callback):
    """Note which methods are called, with the numbers of epochs and batches and the names in logs."""

    def __init__(self):
        super().__init__()
        self.calls = []
        for name in (
            "on_train_begin", "on_train_end", "on_epoch_begin", "on_epoch_end", "on_train_batch_begin",
            "on_train_batch_end", "on_test_begin", "on_test_end", "on_test_batch_begin", "on_test_batch_end",
        ):  # fmt: skip
            setattr(self, name, self._note(name))

    def _note(self, name):
        def note(*arguments, logs=None):
            *numbers, logs = arguments if logs is None else (*arguments, logs)
            self.calls.append((name, *numbers, *([sorted(logs)] if name in ("on_epoch_end", "on_test_end") else [])))

        return note


@pytest.mark.slow
def test_callbacks_are_called_as_by_the_fit_of_keras(tmp_path):
    ours, theirs = Calls(), Calls()
    validation = {"validation_data": (IMAGES[:5], LABELS[:5])}
    fit(make(), SPLIT, checkpoint_dir=tmp_path, epochs=2, batch_size=8, callbacks=[ours], **validation)
    training = make()
    training.adapt(IMAGES, LABELS)
    training.fit(evaluation_batches(SPLIT, 8), epochs=2, verbose=0, callbacks=[theirs], **validation)
    assert ours.calls == theirs.calls and len(ours.calls) == 2 + 2 * (2 + 2 * 3 + 2 + 2)


class StopAt(keras.callbacks.Callback):
    """Stop after so many steps, or after an epoch."""

    def __init__(self, steps=None):
        super().__init__()
        self.steps, self.seen = steps, 0

    def on_train_batch_end(self, batch, logs=None):
        self.seen += 1
        self.model.stop_training = self.seen == self.steps

    def on_epoch_end(self, epoch, logs=None):
        self.model.stop_training = self.steps is None or self.model.stop_training


@pytest.mark.slow
@pytest.mark.parametrize(("steps", "done"), [(2, 2), (5, 5), (None, 4)])
def test_a_callback_stops_it_and_then_it_stays_stopped(tmp_path, steps, done):
    training, stop = make(), StopAt(steps)
    history = fit(training, SPLIT, checkpoint_dir=tmp_path, epochs=5, batch_size=6, callbacks=[stop])
    assert training.optimizer.iterations == done and len(history.epoch) == -(-done // 4)
    training = make()
    again = fit(training, SPLIT, checkpoint_dir=tmp_path, epochs=5, batch_size=6)
    assert training.optimizer.iterations == done and again.history == history.history


class Scripted(keras.callbacks.Callback):
    """Put a score of each epoch into its logs, and note the weights after it."""

    def __init__(self):
        super().__init__()
        self.weights = {}

    def on_epoch_end(self, epoch, logs=None):
        logs["score"] = [3.0, 1.0, 2.0, 2.0, 2.0, 2.0, 0.0][epoch]
        self.weights[epoch] = self.model.get_weights()


@pytest.mark.slow
def test_patience_and_best_weights_resume_with_the_training(tmp_path):
    """The score is best in epoch 1: the rate falls after epoch 3, and after epoch 4 it ends with the weights of 1."""

    def run(name, **interrupted):
        training, scores = make(), Scripted()
        training.compile(optimizer=keras.optimizers.Adam(1e-2), run_eagerly=True)  # six of them, untraced
        stop = keras.callbacks.EarlyStopping("score", mode="min", patience=3, restore_best_weights=True)
        rate = keras.callbacks.ReduceLROnPlateau("score", mode="min", patience=2, factor=0.5)
        best = keras.callbacks.ModelCheckpoint(
            tmp_path / f"{name}.weights.h5", "score", mode="min", save_best_only=True, save_weights_only=True
        )
        callbacks = [scores, rate, best, stop, *(Interrupt(steps) for steps in interrupted.values())]
        history = fit(training, SPLIT, checkpoint_dir=tmp_path / name, epochs=7, batch_size=10, callbacks=callbacks)
        return training.get_weights(), history, scores.weights

    weights, history, each = run("whole")
    rates = np.float32([1e-2, 1e-2, 1e-2, 1e-2, 5e-3])
    assert history.epoch == [0, 1, 2, 3, 4]
    np.testing.assert_allclose(history.history["learning_rate"], rates)
    for steps in (4, 1, 3):  # of 2 an epoch: after epochs 0 and 1, in epoch 2, and after epoch 3
        with pytest.raises(KeyboardInterrupt):
            run("cut", steps=steps)
    for _ in range(2):  # the second time it is finished already
        resumed, resumed_history, _ = run("cut")
        assert resumed_history.history == history.history and resumed_history.epoch == history.epoch
        for one, other, best in zip(resumed, weights, each[1], strict=True):
            np.testing.assert_array_equal(one, other)
            np.testing.assert_array_equal(one, best)
    loaded = make()
    loaded.set_items(LABELS)
    loaded.load_weights(tmp_path / "cut.weights.h5")  # not overwritten by a later epoch
    for one, other in zip(loaded.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.slow
def test_what_has_changed_is_refused_by_name(tmp_path):
    begun = {"checkpoint_dir": tmp_path, "epochs": 1, "batch_size": 10}
    fit(make(), SPLIT, **begun)
    cases = [
        (SPLIT, {"seed": 3}, "seed 0 -> 3"),
        (SPLIT, {"batch_size": 5}, "batch_size 10 -> 5"),
        (array_split(IMAGES, LABELS[::-1]), {}, "labels .* -> "),
    ]
    for split, options, message in cases:
        with pytest.raises(DataError, match=rf"facts.json: .* has changed: {message}.*another `checkpoint_dir`"):
            fit(make(), split, **{**begun, **options})
    with pytest.raises(DataError, match="is of another model or optimizer"):
        fit(make(optimizer=keras.optimizers.SGD(0.1)), SPLIT, **begun)
    with lock_folder(tmp_path), pytest.raises(BlockingIOError, match="another process writes here"):
        fit(make(), SPLIT, **begun)
    with pytest.raises(ValueError, match="must be compiled"):
        fit(HashingTraining(HashingModel("small_cnn", BITS, SIZE)), SPLIT, **begun)
    with pytest.raises(ValueError, match=r"`epochs` must be at least 1\. Received: 0"):
        fit(make(), SPLIT, **{**begun, "epochs": 0})
    with pytest.raises(NotFiniteError, match="lower it and resume"):
        rate = keras.callbacks.LambdaCallback(
            on_train_batch_begin=lambda batch, logs: training.optimizer.learning_rate.assign(np.inf)
        )
        training = make()
        fit(training, SPLIT, **{**begun, "checkpoint_dir": tmp_path / "other", "epochs": 2}, callbacks=[rate])


def map_by_hand(codes, database_codes, labels, database_labels):
    scores = []
    for code, row in zip(codes, labels, strict=True):
        order = np.argsort((code != database_codes).sum(axis=1), kind="stable")
        hits = (database_labels @ row > 0)[order]
        scores.append(np.mean([hits[: i + 1].mean() for i in np.flatnonzero(hits)]) if hits.any() else 0.0)
    return np.mean(scores)


@pytest.mark.slow
def test_retrieval_scores_can_be_monitored_and_change_nothing(tmp_path):
    scores = RetrievalMAP((IMAGES[:6], LABELS[:6]), (IMAGES[6:], LABELS[6:]), num_steps=2)
    stop = keras.callbacks.EarlyStopping("val_robust_map", mode="max", patience=1, min_delta=1.0)
    keep = keras.callbacks.ModelCheckpoint(tmp_path / "best.weights.h5", "val_map", mode="max", save_weights_only=True)
    runs = []
    for callbacks in ([scores, stop, keep], []):
        training = make(optimizer=keras.optimizers.SGD(0.1))
        training.adapt(IMAGES, LABELS)
        history = training.fit(IMAGES, LABELS, epochs=2 if not callbacks else 9, callbacks=callbacks, verbose=0)
        runs.append((training, history.history))
    (training, history), (plain, plain_history) = runs
    assert len(history["val_map"]) == len(history["val_robust_map"]) == len(history["loss"]) == 2  # not 9
    assert history["loss"] == plain_history["loss"] and (tmp_path / "best.weights.h5").is_file()
    for one, other in zip(training.variables, plain.variables, strict=True):
        np.testing.assert_array_equal(one, other)
    bits = np.unpackbits(training.encoder.encode(IMAGES), axis=1)
    expected = map_by_hand(bits[:6], bits[6:], LABELS[:6], LABELS[6:])
    assert history["val_map"][-1] == pytest.approx(expected, abs=1e-6) and 0 <= history["val_robust_map"][-1] <= 1
    for wrong in ({"num_steps": 0}, {"every": 0}, {"epsilon": 2.0}):
        with pytest.raises(ValueError, match="must be"):
            RetrievalMAP((IMAGES, LABELS), (IMAGES, LABELS), **wrong)
    with pytest.raises(ValueError, match="Received: 3, 3, 2 columns"):
        RetrievalMAP((IMAGES, LABELS[:, :2]), (IMAGES, LABELS))
