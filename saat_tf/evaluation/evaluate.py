"""Score a hashing model: clean, under attack, and against the bound that the attack aims for."""

import dataclasses
from collections.abc import Callable
from typing import Protocol

import numpy as np
import tensorflow as tf

from saat_tf.attacks import Attack, Knowledge, check_target_labels
from saat_tf.codes import pack_codes, unpack_codes
from saat_tf.data import RetrievalData, Split, evaluation_batches
from saat_tf.evaluation.attack_runner import RunAttack, attack_runner
from saat_tf.images import image_shape
from saat_tf.labels import check_labels
from saat_tf.layers import DMFL, CodeBank
from saat_tf.metrics import Perceptibility, chance_map, mean_average_precision, perceptibility
from saat_tf.models.encoders import CodeEncoder, checked_encoder
from saat_tf.progress import Track, silent

# Rows of a bank that are set at a time: an update takes memory of rows times labels times the most labels of an item.
BANK_BLOCK = 4096


@dataclasses.dataclass(frozen=True)
class EncodedData:
    """The codes of a data set under one encoder, packed: uint8 (items, K / 8) each."""

    train: np.ndarray
    database: np.ndarray
    test: np.ndarray


@dataclasses.dataclass(frozen=True)
class AttackedSplit:
    """Result of one run of an attack over a split.

    Args:
        codes: uint8 (N, K / 8), packed, of the adversarial images as returned.
        perceptibility: how far these are from the images, float64 (N,) each.
        images: float32 (E, S, S, 3), the first E adversarial images.
        steps: int64 (N,), the steps that each image took where the attack stopped early, else None.
    """

    codes: np.ndarray
    perceptibility: Perceptibility
    images: np.ndarray
    steps: np.ndarray | None = None


@dataclasses.dataclass(frozen=True)
class RetrievalReport:
    """Result of `evaluate`.

    Args:
        clean_map: MAP of the queries as they are.
        attacked_map: MAP of their adversarial images.
        ideal_attack_map: MAP of the codes opposite to the queries' mainstay codes, which the attack aims for.
        chance_map: the relevance prior.
        database_codes: uint8 (N, K / 8), packed.
        query_codes: uint8 (Q, K / 8), packed.
        adversarial_codes: uint8 (Q, K / 8), packed, of the adversarial images as returned.
        adversarial_images: float32 (E, S, S, 3), those of the first E queries.
    """

    clean_map: float
    attacked_map: float
    ideal_attack_map: float
    chance_map: float
    database_codes: np.ndarray
    query_codes: np.ndarray
    adversarial_codes: np.ndarray
    adversarial_images: np.ndarray


def evaluate(
    encoder: CodeEncoder,
    data: RetrievalData,
    build_attack: Callable[[Knowledge], Attack],
    *,
    top_k: int | None = None,
    batch_size: int = 128,
    seed: int = 0,
    keep_images: int = 0,
    jit_compile: bool = False,
    track: Track = silent,
) -> RetrievalReport:
    """Rank the database for the queries, for their adversarial images, and for the attack's ideal codes.

    The attack's random start depends on `seed` and on the batch, so a figure is repeated exactly with the same
    `batch_size`.

    Args:
        encoder: the model to score; nothing of it changes.
        data: training set (for the mainstay codes), database and queries.
        build_attack: makes the non-targeted attack from what the attacker knows of this very encoder.
        top_k: k of MAP@k; the whole database by default.
        batch_size: images at a time.
        seed: seed of the attack.
        keep_images: how many adversarial images to keep in the report.
        jit_compile: whether XLA compiles the attack; see `attack_runner`.
        track: shows progress.

    Returns:
        `RetrievalReport`.

    Raises:
        ValueError: the attack left its threat model, or the code length is not a multiple of 8.
    """
    encoded = encode_data(encoder, data, batch_size, track)
    known = knowledge(encoded, data)
    attack = build_attack(known)
    attacked = attack_split(
        encoder,
        data.test,
        attack,
        data.test.labels,
        batch_size=batch_size,
        seed=seed,
        keep_images=keep_images,
        run_attack=attack_runner(attack, encoder, jit_compile=jit_compile),
        track=track,
    )
    mainstay = DMFL(known.train)(tf.convert_to_tensor(data.test.labels))

    def score(codes: np.ndarray) -> float:
        return mean_average_precision(codes, encoded.database, data.test.labels, data.database.labels, top_k=top_k)

    return RetrievalReport(
        clean_map=score(encoded.test),
        attacked_map=score(attacked.codes),
        ideal_attack_map=score(pack_codes(-mainstay).numpy()),
        chance_map=chance_map(data.test.labels, data.database.labels),
        database_codes=encoded.database,
        query_codes=encoded.test,
        adversarial_codes=attacked.codes,
        adversarial_images=attacked.images,
    )


def encode_data(encoder: CodeEncoder, data: RetrievalData, batch_size: int = 128, track: Track = silent) -> EncodedData:
    """Encode the three splits of a data set."""
    checked_encoder(encoder)
    return EncodedData(
        train=encode_split(encoder, data.train, batch_size, track, "Encoding training set"),
        database=encode_split(encoder, data.database, batch_size, track, "Encoding database"),
        test=encode_split(encoder, data.test, batch_size, track, "Encoding queries"),
    )


class PackedEncoder(Protocol):
    """Source of packed codes: images float32 (B, S, S, 3) in [0, 1] -> uint8 (B, K / 8)."""

    def encode(self, images: tf.Tensor) -> tf.Tensor:
        """Return the packed codes."""


def encode_split(
    encoder: PackedEncoder, split: Split, batch_size: int, track: Track = silent, description: str = "Encoding"
) -> np.ndarray:
    """Return the packed codes of a split: uint8 (N, K / 8)."""
    batches = track(evaluation_batches(split, batch_size), -(-len(split) // batch_size), description)
    return np.concatenate([encoder.encode(images).numpy() for images, _, _ in batches])


def knowledge(encoded: EncodedData, data: RetrievalData) -> Knowledge:
    """Return what an attacker knows: the codes of training set and database, with their labels."""
    return Knowledge(
        train=filled_bank(encoded.train, data.train.labels),
        database=filled_bank(encoded.database, data.database.labels),
    )


def filled_bank(packed_codes: np.ndarray, labels: np.ndarray) -> CodeBank:
    """Return a bank that contains packed codes uint8 (N, K / 8) and their 0/1 labels (N, C)."""
    bank = CodeBank.from_labels(labels, 8 * packed_codes.shape[1])
    for first in range(0, len(packed_codes), BANK_BLOCK):
        codes = unpack_codes(packed_codes[first : first + BANK_BLOCK])
        bank.update(tf.range(first, first + len(codes)), codes)
    return bank


def attack_split(
    encoder: CodeEncoder,
    split: Split,
    attack: Attack,
    labels: np.ndarray,
    *,
    batch_size: int = 128,
    seed: int = 0,
    keep_images: int = 0,
    run_attack: RunAttack | None = None,
    track: Track = silent,
) -> AttackedSplit:
    """Attack every image of a split, check what comes back, and encode that.

    Args:
        encoder: the model that encodes what the attack returns.
        split: the images.
        attack: the attack.
        labels: (N, C) of 0/1, the images' own labels or, for a targeted attack, those of their targets.
        batch_size: images at a time.
        seed: seed of the attack.
        keep_images: how many adversarial images to return.
        run_attack: what runs the attack, `attack_runner(attack, encoder)` by default; another attacks a surrogate.
        track: shows progress.

    Raises:
        ValueError: labels are not 0/1, the attack left its threat model, or a target shares a label with its image.
    """
    check_labels(labels)
    if attack.targeted:
        check_target_labels(split.labels, labels)

    run_attack = run_attack or attack_runner(attack, encoder)
    codes, seen, taken, kept = [], [], [], [np.empty((0, *image_shape(encoder.image_size)), np.float32)]
    batches = track(evaluation_batches(split, batch_size), -(-len(split) // batch_size), f"Attacking by {attack.name}")
    for number, (images, _, index) in enumerate(batches):
        returned, used = run_attack(images, tf.gather(labels, index), tf.constant([seed, number], tf.int32))
        attack.threat_model.verify(returned.numpy(), images.numpy())
        codes.append(encoder.encode(returned).numpy())
        seen.append(perceptibility(images.numpy(), returned.numpy()))
        taken.append(used)
        if number * batch_size < keep_images:
            kept.append(returned.numpy())
    steps = [of_batch for of_batch in taken if of_batch is not None]
    return AttackedSplit(
        codes=np.concatenate(codes),
        perceptibility=Perceptibility(*map(np.concatenate, zip(*seen, strict=True))),
        images=np.concatenate(kept)[:keep_images],
        steps=np.concatenate(steps) if steps else None,
    )
