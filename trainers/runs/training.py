"""The two phases of training, each a `fit` with the same callbacks."""

import contextlib
import functools
from collections.abc import Callable, Sequence

import keras

from saat_tf.backbones import load_pretrained_weights, load_weights_file
from saat_tf.data import RetrievalData, evaluation_batches, replayed, training_epochs
from saat_tf.layers import CodeBank
from saat_tf.losses import CSQ, DCH, DPH, DPN, DPSH, DSDH, HSWD, GreedyHash, HashingLoss, HashNet, OrthoHash
from saat_tf.models import ATRDH, SAAT, CgAT, HashingModel, HashingTraining, Refinements
from saat_tf.models.adversarial_training import AdversarialTraining
from saat_tf.models.training_model import TrainingModel
from saat_tf.replicas import distribute, taken_here
from saat_tf.threat_model import ThreatModel, from_255
from trainers.callbacks.catastrophic_overfitting import OverfittingMonitor
from trainers.callbacks.checkpointing import Checkpointing
from trainers.callbacks.model_selection import RobustCheckpoint
from trainers.callbacks.robustness_probe import RobustnessProbe
from trainers.callbacks.tensorboard import TensorBoardLog
from trainers.console.output import DEFENSES, FitProgress
from trainers.distributed.coordination import Workers
from trainers.recipes.inner_options import build_inner, passes_over_data, replays_of
from trainers.recipes.recipe import FileRecipe, Recipe
from trainers.run_folder.models import HASHING, ROBUST
from trainers.run_folder.state import RunFolder

EVALUATION_BATCH = 128
# The authors cut the learning rate to a tenth after each third of pre-training, and after half and three quarters of
# adversarial training; weight decay and momentum of pre-training are theirs too.
PRETRAIN_CUTS, ADVERSARIAL_CUTS = (1 / 3, 2 / 3), (1 / 2, 3 / 4)
PRETRAIN_WEIGHT_DECAY, PRETRAIN_MOMENTUM = 5e-4, 0.9
DEFENSE_MODELS = {"saat": SAAT, "cgat": CgAT, "atrdh": ATRDH}


def build_encoder(recipe: Recipe) -> HashingModel:
    """Build the encoder, with the backbone's weights where the recipe asks for them."""
    encoder = HashingModel(recipe.backbone, recipe.bits, recipe.image_size, precision=recipe.precision)
    if recipe.pretrained:
        load_pretrained_weights(encoder.backbone, recipe.backbone)
    if recipe.weights is not None:
        load_weights_file(encoder.backbone, recipe.backbone, recipe.weights)
    return encoder


def build_hashing_loss(recipe: Recipe, num_classes: int) -> HashingLoss:
    """Build the hashing loss that the recipe names."""
    by_class = {"csq": CSQ, "dpn": DPN, "greedyhash": GreedyHash, "orthohash": OrthoHash}
    pairwise = {"dch": DCH, "dph": DPH, "dpsh": DPSH, "dsdh": DSDH, "hashnet": HashNet}
    if recipe.hashing_loss in by_class:
        return by_class[recipe.hashing_loss](num_classes, recipe.bits, seed=recipe.seed)
    return HSWD(seed=recipe.seed) if recipe.hashing_loss == "hswd" else pairwise[recipe.hashing_loss]()


def phases(recipe: Recipe, held_out: RetrievalData | None) -> Sequence[tuple[str, str, Callable[..., None], str]]:
    """Return defense, name, function and model file of each phase of a run, in their order."""
    adversarial = functools.partial(train_adversarially, held_out=held_out)
    return (
        ("none", "hashing", pretrain, HASHING),
        (recipe.defense, recipe.defense, adversarial, ROBUST),
    )


def pretrain(
    recipe: Recipe, data: RetrievalData, encoder: HashingModel, hashing_loss: HashingLoss, run_folder: RunFolder | None
) -> None:
    """Train the encoder on the hashing loss alone."""
    with encoder.distribute_strategy.scope():
        training = HashingTraining(encoder, CodeBank.from_labels(data.train.labels, recipe.bits), hashing_loss)
        optimizer = _optimizer(
            recipe, data, recipe.pretrain_learning_rate, recipe.pretrain_epochs,
            name=recipe.optimizer, cuts=PRETRAIN_CUTS, weight_decay=PRETRAIN_WEIGHT_DECAY, momentum=PRETRAIN_MOMENTUM,
        )  # fmt: skip
    _fit(recipe, data, training, optimizer, recipe.pretrain_epochs, run_folder, "hashing")


def train_adversarially(
    recipe: Recipe,
    data: RetrievalData,
    encoder: HashingModel,
    hashing_loss: HashingLoss,
    run_folder: RunFolder | None,
    *,
    held_out: RetrievalData | None = None,
    until: int | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> None:
    """Train the encoder on by the recipe's defense; the hashing loss continues from what it learnt in pre-training.

    Where there is data `held_out`, the encoder ends with the weights of the epoch that was most robust on it. `until`
    ends the training after that many of the recipe's epochs, from where it can resume as if it had never ended.
    `callbacks` are called before those of the run.
    """
    replays, passes = replays_of(recipe), passes_over_data(recipe)
    with encoder.distribute_strategy.scope():
        training = build_defense(recipe, encoder, CodeBank.from_labels(data.train.labels, recipe.bits), hashing_loss)
        optimizer = _optimizer(
            recipe, data, recipe.learning_rate, passes * replays, name=recipe.adversarial_optimizer or recipe.optimizer,
            cuts=ADVERSARIAL_CUTS, weight_decay=recipe.weight_decay, momentum=recipe.momentum, ema=recipe.ema_momentum,
        )  # fmt: skip
    select = [*callbacks]
    if run_folder is not None and held_out is not None:
        select += [RobustCheckpoint(held_out, recipe.epsilon_255, run_folder.checkpoints, seed=recipe.seed)]
    _fit(
        recipe, data, training, optimizer, passes_over_data(recipe, until), run_folder, recipe.defense, first=select,
        probe=build_probe(recipe, data, held_out), replays=replays,
    )  # fmt: skip


def build_probe(recipe: Recipe, data: RetrievalData, held_out: RetrievalData | None) -> RobustnessProbe | None:
    """Build what is attacked after each epoch: the first held-out images, else the last training images."""
    if not recipe.watch_queries:
        return None
    split = data.train if held_out is None else held_out.test
    first = max(0, len(split) - recipe.watch_queries) if held_out is None else 0
    chosen = range(first, min(len(split), first + recipe.watch_queries))
    ball = ThreatModel.from_255(recipe.epsilon_255)
    return RobustnessProbe(split, chosen, data.train.labels, ball, seed=recipe.seed)


def build_defense(
    recipe: Recipe, encoder: HashingModel, code_bank: CodeBank, hashing_loss: HashingLoss
) -> AdversarialTraining:
    """Build the training model of the recipe's defense."""
    weights = {"adversarial_weight": recipe.adversarial_weight}
    if recipe.defense != "atrdh":
        weights["quantization_weight"] = recipe.quantization_weight
    return DEFENSE_MODELS[recipe.defense](
        encoder,
        code_bank,
        hashing_loss,
        epsilon=from_255(recipe.epsilon_255),
        inner=build_inner(recipe, num_items=code_bank.num_items),
        inner_training=recipe.inner_training,
        refinements=Refinements(
            adversarial_hashing_weight=recipe.adversarial_hashing_weight,
            consistency_weight=recipe.consistency_weight,
            weight_perturbation=recipe.weight_perturbation,
        ),
        seed=recipe.seed,
        **{name: weight for name, weight in weights.items() if weight is not None},
    )


def _steps(recipe: Recipe, data: RetrievalData, epochs: int) -> int:
    return -(-len(data.train) // recipe.batch_size) * epochs


def _optimizer(
    recipe: Recipe,
    data: RetrievalData,
    learning_rate: float,
    epochs: int,
    *,
    name: str,
    cuts: tuple[float, float],
    weight_decay: float,
    momentum: float,
    ema: float = 0.0,
) -> keras.optimizers.Optimizer:
    steps = _steps(recipe, data, epochs)
    # The mean of the weights takes their place when `fit` ends.
    average = {"use_ema": True, "ema_momentum": ema} if ema else {}
    if name == "adam":
        schedule = keras.optimizers.schedules.CosineDecay(learning_rate, steps)
        return keras.optimizers.Adam(schedule, weight_decay=weight_decay or None, **average)
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay(
        [round(cut * steps) for cut in cuts], [learning_rate * 0.1**i for i in range(3)]
    )
    # Keras decays apart from the gradient, PyTorch adds the decay to it; without momentum the step is the same.
    return keras.optimizers.SGD(schedule, momentum=momentum, weight_decay=weight_decay, **average)


def _fit(
    recipe: Recipe,
    data: RetrievalData,
    training: TrainingModel,
    optimizer: keras.optimizers.Optimizer,
    epochs: int,
    run_folder: RunFolder | None,
    phase: str,
    *,
    first: Sequence[keras.callbacks.Callback] = (),
    probe: RobustnessProbe | None = None,
    replays: int = 1,
) -> None:
    """Train from where the run_folder says on; of several workers the chief alone has one.

    Keras' `fit` begins and ends with whole epochs, and averages the weights whenever it ends; hence this loop.
    """
    strategy = training.distribute_strategy
    with strategy.scope():
        training.compile(optimizer=optimizer, jit_compile=recipe.jit)
        training.optimizer.build(training.trainable_variables)
    batches = training_epochs(
        data.train,
        recipe.batch_size,
        seed=recipe.seed,
        flip=recipe.flip,
        random_crop=isinstance(recipe, FileRecipe) and recipe.random_crop,
        needed=taken_here(strategy),
    )
    batches = replayed(batches, replays)
    title, seconds_of = ("Hashing training", "pretrain") if phase == "hashing" else (DEFENSES[phase], "adversarial")
    epoch_steps, every, workers = _steps(recipe, data, replays), recipe.checkpoint_every, Workers(strategy)
    with (
        contextlib.nullcontext() if run_folder is None else run_folder.timed(seconds_of) as clock,
        Checkpointing(
            run_folder, training, phase, clock, epoch_steps=epoch_steps, every=every, workers=workers
        ) as checkpointing,
    ):
        if not checkpointing.restore():
            training.fill_bank(evaluation_batches(data.train, EVALUATION_BATCH))
        with FitProgress(title, epoch_steps * epochs, checkpointing.steps) as progress:
            shown = (
                [progress]
                if run_folder is None
                else _watched(recipe, run_folder, phase, progress, probe, checkpointing.epoch)
            )
            callbacks = keras.callbacks.CallbackList([*first, *shown, checkpointing], model=training)
            training.make_train_function()
            callbacks.on_train_begin()
            for epoch in range(checkpointing.epoch, epochs):
                training.reset_metrics()
                callbacks.on_epoch_begin(epoch)
                iterator = iter(distribute(batches(epoch, checkpointing.step), strategy))
                for step in range(checkpointing.step, epoch_steps):
                    callbacks.on_train_batch_end(step, training.train_function(iterator))
                callbacks.on_epoch_end(epoch, {name: float(v) for name, v in training.get_metrics_result().items()})
            training.optimizer.finalize_variable_values(training.trainable_weights)
            callbacks.on_train_end()


def _watched(
    recipe: Recipe, run_folder: RunFolder, phase: str, progress: FitProgress, probe: RobustnessProbe | None, epoch: int
) -> list[keras.callbacks.Callback]:
    """Return what logs the training, what shows it, and what judges it, in the order in which they need each other."""
    tensorboard_log = TensorBoardLog(run_folder.run_dir / "logs" / phase, probe, profile=recipe.profile)
    is_judged = probe is not None and recipe.on_collapse != "ignore"
    judge = [OverfittingMonitor(recipe.on_collapse, run_folder.checkpoints, epoch)] if is_judged else []
    return [tensorboard_log, progress, *judge]
