"""Training a model from where its run folder says on, with the callbacks that every run has."""

import contextlib
import dataclasses
from collections.abc import Callable, Sequence

import keras

from saat_tf.backbones import load_pretrained_weights, load_weights_file
from saat_tf.data import Split, evaluation_batches, replayed, training_epochs
from saat_tf.models.image_model import ImageModel
from saat_tf.models.training_model import TrainingModel
from saat_tf.replicas import taken_here
from saat_tf.training import loop
from saat_tf.training.checkpointing import Checkpointing
from saat_tf.training.workers import Workers
from trainers.callbacks.catastrophic_overfitting import MAP, OverfittingMonitor, ProbeScore
from trainers.callbacks.robustness_probe import Probe
from trainers.callbacks.tensorboard import TensorBoardLog
from trainers.console.output import FitProgress, say
from trainers.recipes.run_options import FileOptions, RunOptions
from trainers.run_folder.state import PhaseCheckpoints, RunFolder
from trainers.runs.optimizers import steps_of

EVALUATION_BATCH = 128


@dataclasses.dataclass(frozen=True)
class Phase:
    """A part of a run.

    Args:
        name: by which checkpoints and logs know it.
        title: what the progress display calls it.
        seconds_of: the entry of the card to which its seconds count.
        score: what is monitored for collapse.
    """

    name: str
    title: str
    seconds_of: str
    score: ProbeScore = MAP


def load_initial_weights(recipe: RunOptions, model: ImageModel) -> None:
    """Give the model's backbone the weights that the recipe asks for."""
    if recipe.pretrained:
        load_pretrained_weights(model.backbone, recipe.backbone)
    if recipe.weights is not None:
        load_weights_file(model.backbone, recipe.backbone, recipe.weights)


def fit(
    recipe: RunOptions,
    train: Split,
    training: TrainingModel,
    optimizer: keras.optimizers.Optimizer,
    epochs: int,
    run_folder: RunFolder | None,
    phase: Phase,
    *,
    first: Sequence[keras.callbacks.Callback] = (),
    probe: Probe | None = None,
    replays: int = 1,
    begin: Callable[[], None] = lambda: None,
) -> None:
    """Train from where the run_folder says on; of several workers the chief alone has one.

    `begin` is called before the first step, after the bank is filled, and not where the training resumes.
    """
    strategy = training.distribute_strategy
    with strategy.scope():
        training.compile(optimizer=optimizer, jit_compile=recipe.jit)
        training.optimizer.build(training.trainable_variables)
    batches = training_epochs(
        train,
        recipe.batch_size,
        seed=recipe.seed,
        flip=recipe.flip,
        random_crop=isinstance(recipe, FileOptions) and recipe.random_crop,
        needed=taken_here(strategy),
    )
    batches = replayed(batches, replays)
    epoch_steps, workers = steps_of(recipe, train, replays), Workers(strategy)
    with (
        contextlib.nullcontext() if run_folder is None else run_folder.timed(phase.seconds_of) as clock,
        Checkpointing(
            None if run_folder is None or clock is None else PhaseCheckpoints(run_folder, phase.name, clock),
            training,
            epoch_steps=epoch_steps,
            every=recipe.checkpoint_every,
            workers=workers,
            remedy=lower_rate(phase),
            notify=say,
        ) as checkpointing,
    ):
        if not checkpointing.restore():
            training.prepare(evaluation_batches(train, EVALUATION_BATCH))
            begin()
        with FitProgress(phase.title, epoch_steps * epochs, checkpointing.steps) as progress:
            shown = (
                [progress]
                if run_folder is None
                else _monitored(recipe, run_folder, phase, progress, probe, checkpointing.epoch)
            )
            loop.train(training, batches, epochs=epochs, callbacks=[*first, *shown], checkpointing=checkpointing)


def lower_rate(phase: Phase) -> str:
    """Return what to do where numbers are not finite."""
    rate = "--pretrain-learning-rate" if phase.name == "hashing" else "--learning-rate"
    return f"lower {rate} and resume from the last checkpoint, which is older, by --resume --allow-changes"


def _monitored(
    recipe: RunOptions, run_folder: RunFolder, phase: Phase, progress: FitProgress, probe: Probe | None, epoch: int
) -> list[keras.callbacks.Callback]:
    """Return what logs the training, what shows it, and what judges it, in the order in which they need each other."""
    tensorboard_log = TensorBoardLog(run_folder.run_dir / "logs" / phase.name, probe, profile=recipe.profile)
    is_judged = probe is not None and recipe.on_collapse != "ignore"
    judge = [OverfittingMonitor(recipe.on_collapse, run_folder.checkpoints, epoch, phase.score)] if is_judged else []
    return [tensorboard_log, progress, *judge]
