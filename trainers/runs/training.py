"""The two phases of the training of a hashing model."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from saat_tf.backbones import load_weights_file
from saat_tf.data import RetrievalData
from saat_tf.layers import CodeBank
from saat_tf.losses import CSQ, DCH, DPH, DPN, DPSH, DSDH, HSWD, GreedyHash, HashingLoss, HashNet, OrthoHash
from saat_tf.models import ATRDH, SAAT, BoundTraining, CgAT, HashingModel, HashingTraining, Refinements
from saat_tf.models.adversarial_training import AdversarialTraining
from saat_tf.threat_model import ThreatModel, from_255
from trainers.callbacks.model_selection import RobustCheckpoint
from trainers.callbacks.robustness_probe import RobustnessProbe
from trainers.console.output import DEFENSES
from trainers.recipes.inner_options import build_inner, passes_over_data, replays_of
from trainers.recipes.option_checks import robust_file
from trainers.recipes.recipe import Recipe
from trainers.run_folder.models import HASHING, ROBUST
from trainers.run_folder.state import RunFolder
from trainers.runs.fitting import EVALUATION_BATCH as EVALUATION_BATCH
from trainers.runs.fitting import Phase, fit, load_initial_weights
from trainers.runs.optimizers import OwnRate, build_optimizer, steps_of

HASHING_PHASE = Phase("hashing", "Hashing training", "pretrain")
# The authors cut the learning rate to a tenth after each third of pre-training, and after half and three quarters of
# adversarial training; weight decay and momentum of pre-training are theirs too.
PRETRAIN_CUTS, ADVERSARIAL_CUTS = (1 / 3, 2 / 3), (1 / 2, 3 / 4)
PRETRAIN_WEIGHT_DECAY, PRETRAIN_MOMENTUM = 5e-4, 0.9
DEFENSE_MODELS = {"saat": SAAT, "cgat": CgAT, "atrdh": ATRDH, "ibp": BoundTraining}


def build_encoder(recipe: Recipe) -> HashingModel:
    """Build the encoder, with the backbone's weights where the recipe asks for them."""
    encoder = HashingModel(
        recipe.backbone,
        recipe.bits,
        recipe.image_size,
        precision=recipe.precision,
        orthogonal_head=recipe.orthogonal_head,
        pooling=recipe.front_pooling,
        noise=recipe.noise,
    )
    if (file := robust_file(recipe)) is not None:  # a wrong one is refused here, before the hashing phase
        drawn = encoder.backbone.get_weights()
        load_weights_file(encoder.backbone, recipe.backbone, file)
        encoder.backbone.set_weights(drawn)
    load_initial_weights(recipe, encoder)
    return encoder


def begin_from_robust_weights(recipe: Recipe, encoder: HashingModel) -> None:
    """Give the backbone the robust weights of the recipe, and draw the head's anew, since its features are others."""
    if (file := robust_file(recipe)) is not None:
        load_weights_file(encoder.backbone, recipe.backbone, file)
        kernel, bias = encoder.hash_head.projection.kernel, encoder.hash_head.projection.bias
        kernel.assign(keras.initializers.GlorotUniform(seed=recipe.seed)(kernel.shape))
        bias.assign(tf.zeros(bias.shape))


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
        optimizer = build_optimizer(
            recipe, data.train, recipe.pretrain_learning_rate, recipe.pretrain_epochs,
            name=recipe.optimizer, cuts=PRETRAIN_CUTS, weight_decay=PRETRAIN_WEIGHT_DECAY, momentum=PRETRAIN_MOMENTUM,
        )  # fmt: skip
    fit(recipe, data.train, training, optimizer, recipe.pretrain_epochs, run_folder, HASHING_PHASE)


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
    """Train the encoder on by the recipe's defense; the hashing loss continues from what it learned in pre-training.

    Where there is data `held_out`, the encoder ends with the weights of the epoch that was most robust on it. `until`
    ends the training after that many of the recipe's epochs, from where it can resume as if it had never ended.
    `callbacks` are called before those of the run.
    """
    replays, passes = replays_of(recipe), passes_over_data(recipe)
    with encoder.distribute_strategy.scope():
        training = build_defense(recipe, encoder, CodeBank.from_labels(data.train.labels, recipe.bits), hashing_loss)
        optimizer = build_optimizer(
            recipe, data.train, recipe.learning_rate, passes * replays,
            name=recipe.adversarial_optimizer or recipe.optimizer, cuts=ADVERSARIAL_CUTS,
            weight_decay=recipe.weight_decay, momentum=recipe.momentum, ema=recipe.ema_momentum,
            own_rate=backbone_rate(recipe, data, encoder, replays),
        )  # fmt: skip
    select = [*callbacks]
    if run_folder is not None and held_out is not None:
        select += [RobustCheckpoint(held_out, recipe.epsilon_255, run_folder.checkpoints, seed=recipe.seed)]
    phase = Phase(recipe.defense, DEFENSES[recipe.defense], "adversarial")
    fit(
        recipe, data.train, training, optimizer, passes_over_data(recipe, until), run_folder, phase, first=select,
        probe=build_probe(recipe, data, held_out), replays=replays,
        begin=lambda: begin_from_robust_weights(recipe, encoder),
    )  # fmt: skip


def backbone_rate(recipe: Recipe, data: RetrievalData, encoder: HashingModel, replays: int) -> OwnRate | None:
    """Return how the backbone learns in the adversarial phase; None where as the head does."""
    if recipe.backbone_rate == 1 and not recipe.head_epochs:
        return None
    frozen = steps_of(recipe, data.train, recipe.head_epochs) * replays
    return OwnRate(encoder.backbone.trainable_variables, recipe.backbone_rate, frozen)


def build_probe(recipe: Recipe, data: RetrievalData, held_out: RetrievalData | None) -> RobustnessProbe | None:
    """Build what is attacked after each epoch: the first held-out images, else the last training images."""
    if not recipe.probe_images:
        return None
    split = data.train if held_out is None else held_out.test
    first = max(0, len(split) - recipe.probe_images) if held_out is None else 0
    chosen = range(first, min(len(split), first + recipe.probe_images))
    ball = ThreatModel.from_255(recipe.epsilon_255)
    return RobustnessProbe(split, chosen, data.train.labels, ball, seed=recipe.seed)


def build_defense(
    recipe: Recipe, encoder: HashingModel, code_bank: CodeBank, hashing_loss: HashingLoss
) -> AdversarialTraining:
    """Build the training model of the recipe's defense."""
    weights: dict[str, Any] = {"adversarial_weight": recipe.adversarial_weight}
    if recipe.defense != "atrdh":
        weights["quantization_weight"] = recipe.quantization_weight
    bounds: dict[str, Any] = {}
    if recipe.defense == "ibp":
        steps = -(-code_bank.num_items // recipe.batch_size) * recipe.epochs
        bounds = {
            "bound_share": recipe.bound_share,
            "ramp_steps": round(recipe.bound_ramp * steps),
            "from_scratch": recipe.bound_from_scratch,
        }
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
        **bounds,
        **{name: weight for name, weight in weights.items() if weight is not None},
    )
