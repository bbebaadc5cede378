"""Attack as an evaluation runs it: compiled once, on a model made for inference, stopping early where asked to."""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from saat_tf.attacks import Attack, EarlyStop, can_stop_early
from saat_tf.attacks.any_batch import AnyBatch
from saat_tf.images import checked_images
from saat_tf.jit import compiled_for_whole_batches
from saat_tf.labels import checked_labels
from saat_tf.models.encoders import CodeEncoder, checked_encoder

# (images, labels, seed) -> adversarial images, and the steps that each took where the attack could stop early.
RunAttack = Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tuple[tf.Tensor, np.ndarray | None]]


def attack_runner(
    attack: Attack, encoder: CodeEncoder, *, early_stop: bool = False, jit_compile: bool = False
) -> RunAttack:
    """Make the function that attacks a model as it is now, for batches of any size and any number of seeds.

    Args:
        attack: the attack.
        encoder: the model that the attack sees; what is attacked is `encoder.for_inference()`.
        early_stop: whether `EarlyStop` runs an attack that can stop early. It is for images that `encoder` itself will
            encode, not for a transfer.
        jit_compile: whether XLA compiles the attack, for batches of the size of the first one. What it returns is the
            same up to rounding, which the sign of a slope near zero may make a step.

    Raises:
        ValueError: an attack is to stop early and to be compiled: its batches then have many sizes.
    """
    if early_stop and jit_compile:
        raise ValueError("An attack either stops early or is compiled by XLA. Received both. Leave one out.")
    model = checked_encoder(encoder).for_inference()
    if early_stop and can_stop_early(attack):
        return EarlyStop(attack, model)
    return every_step(attack, model, jit_compile=jit_compile)


def every_step(attack: Attack, encoder: CodeEncoder, *, jit_compile: bool = False) -> RunAttack:
    """Make the function that runs an attack on the very encoder given, with all its steps."""

    def call(rows: tuple[tf.Tensor, tf.Tensor], seed: tf.Tensor) -> tf.Tensor:
        return attack(encoder, *rows, seed)

    run = compiled_for_whole_batches(call) if jit_compile else AnyBatch(call)

    def run_attack(images: tf.Tensor, labels: tf.Tensor, seed: tf.Tensor) -> tuple[tf.Tensor, None]:
        # The attack checks its images and labels itself, but XLA drops that.
        images = checked_images(images, encoder.image_size)
        labels = checked_labels(labels) if jit_compile else labels
        return (run((images, labels), seed) if len(images) else images), None

    return run_attack
