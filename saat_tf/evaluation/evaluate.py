"""Score a hashing model: clean, under attack, and against the bound that the attack aims for."""

import dataclasses

import numpy as np
import tensorflow as tf

from saat_tf.attacks import PGD
from saat_tf.codes import pack_codes, unpack_codes
from saat_tf.data import RetrievalData, Split, evaluation_batches
from saat_tf.layers import DMFL, CodeBank
from saat_tf.metrics import chance_map, mean_average_precision
from saat_tf.models import HashingModel
from saat_tf.progress import Track, silent


@dataclasses.dataclass(frozen=True)
class RetrievalReport:
    """What `evaluate` found.

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
    encoder: HashingModel,
    data: RetrievalData,
    attack: PGD,
    *,
    top_k: int | None = None,
    batch_size: int = 128,
    seed: int = 0,
    keep_images: int = 0,
    track: Track = silent,
) -> RetrievalReport:
    """Rank the database for the queries, for their adversarial images, and for the attack's ideal codes.

    The attack is non-targeted: it drives each query away from the mainstay code of its labels, taken against the
    training set's codes under this very encoder. Its random start depends on `seed` and on the batch, so a figure
    is repeated exactly with the same `batch_size`.

    Args:
        encoder: the model to score; nothing of it changes.
        data: training set (for the mainstay codes), database and queries.
        attack: the attack; its threat model is checked on every image it returns.
        top_k: k of MAP@k; the whole database by default.
        batch_size: images at a time.
        seed: seed of the attack's random start.
        keep_images: how many adversarial images to keep in the report.
        track: shows progress.

    Returns:
        `RetrievalReport`.

    Raises:
        ValueError: the attack left its threat model, or the code length is not a multiple of 8.
    """
    database_codes = encode_split(encoder, data.database, batch_size, track, "Encoding database")
    query_codes = encode_split(encoder, data.test, batch_size, track, "Encoding queries")
    train_codes = encode_split(encoder, data.train, batch_size, track, "Encoding training set")
    mainstay = query_mainstay_codes(train_codes, data.train.labels, data.test.labels)
    adversarial_codes, adversarial_images = attack_split(
        encoder, data.test, attack, -mainstay, batch_size=batch_size, seed=seed, keep_images=keep_images, track=track
    )

    def score(codes: np.ndarray) -> float:
        return mean_average_precision(codes, database_codes, data.test.labels, data.database.labels, top_k=top_k)

    return RetrievalReport(
        clean_map=score(query_codes),
        attacked_map=score(adversarial_codes),
        ideal_attack_map=score(pack_codes(-mainstay).numpy()),
        chance_map=chance_map(data.test.labels, data.database.labels),
        database_codes=database_codes,
        query_codes=query_codes,
        adversarial_codes=adversarial_codes,
        adversarial_images=adversarial_images,
    )


def encode_split(
    encoder: HashingModel, split: Split, batch_size: int, track: Track = silent, description: str = "Encoding"
) -> np.ndarray:
    """Return the packed codes of a split: uint8 (N, K / 8)."""
    batches = track(evaluation_batches(split, batch_size), -(-len(split) // batch_size), description)
    return np.concatenate([encoder.encode(images).numpy() for images, _, _ in batches])


def query_mainstay_codes(train_codes: np.ndarray, train_labels: np.ndarray, query_labels: np.ndarray) -> tf.Tensor:
    """Return the mainstay codes of `query_labels` (Q, C) against packed `train_codes` (N, K / 8): float32 (Q, K)."""
    codes = unpack_codes(train_codes)
    bank = CodeBank.from_labels(train_labels, codes.shape[1])
    bank.update(tf.range(len(codes)), codes)
    return DMFL(bank)(tf.convert_to_tensor(query_labels))


def attack_split(
    encoder: HashingModel,
    split: Split,
    attack: PGD,
    wanted_codes: tf.Tensor,
    *,
    batch_size: int = 128,
    seed: int = 0,
    keep_images: int = 0,
    track: Track = silent,
) -> tuple[np.ndarray, np.ndarray]:
    """Attack every image of a split in inference mode, check what comes back, and encode that.

    Args:
        encoder: the model under attack.
        split: the images.
        attack: the attack.
        wanted_codes: float32 (N, K) of -1/+1, the codes to drive the images towards.
        batch_size: images at a time.
        seed: seed of the random start.
        keep_images: how many adversarial images to return.
        track: shows progress.

    Returns:
        packed codes of the adversarial images, uint8 (N, K / 8), and the first adversarial images themselves.

    Raises:
        ValueError: the attack left its threat model.
    """

    @tf.function(reduce_retracing=True)
    def craft(images: tf.Tensor, wanted: tf.Tensor, batch_seed: tf.Tensor) -> tf.Tensor:
        return attack(lambda x, alpha: encoder(x, alpha=alpha, training=False), images, wanted, batch_seed)

    codes, kept = [], [np.empty((0, encoder.image_size, encoder.image_size, 3), np.float32)]
    batches = track(evaluation_batches(split, batch_size), -(-len(split) // batch_size), "Attacking queries")
    for number, (images, _, index) in enumerate(batches):
        returned = craft(images, tf.gather(wanted_codes, index), tf.constant([seed, number], tf.int32))
        attack.threat_model.verify(returned.numpy(), images.numpy())
        codes.append(encoder.encode(returned).numpy())
        if number * batch_size < keep_images:
            kept.append(returned.numpy())
    return np.concatenate(codes), np.concatenate(kept)[:keep_images]
