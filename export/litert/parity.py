"""Cost of a conversion: bits, MAP with and without an attack, bytes and milliseconds."""

import dataclasses
import time

import numpy as np
import tensorflow as tf

from saat_tf.codes import BITS_PER_BYTE
from saat_tf.data import RetrievalData, Split, array_split
from saat_tf.evaluation.evaluate import PackedEncoder, encode_split
from saat_tf.metrics import mean_average_precision
from saat_tf.progress import Track, silent

BATCH, TIMED_CALLS = 32, 200


@dataclasses.dataclass(frozen=True)
class Codes:
    """The packed codes that one encoder gives: uint8 (items, K / 8) each."""

    database: np.ndarray
    queries: np.ndarray
    adversarial: np.ndarray


def encode_all(encoder: PackedEncoder, data: RetrievalData, adversarial: np.ndarray, track: Track = silent) -> Codes:
    """Encode the database, the queries and their adversarial images, float32 (Q, S, S, 3)."""
    attacked = array_split(adversarial, data.test.labels)

    def encode(split: Split, what: str) -> np.ndarray:
        return encode_split(encoder, split, BATCH, track, f"Encoding {what}")

    return Codes(
        encode(data.database, "database"), encode(data.test, "queries"), encode(attacked, "adversarial images")
    )


def parity(codes: Codes, original: Codes, data: RetrievalData, *, top_k: int | None) -> dict[str, float]:
    """Compare the codes of a converted encoder with those of the original.

    Args:
        codes: of the converted encoder.
        original: of the encoder that it was made from.
        data: gives the labels.
        top_k: k of MAP@k.

    Returns:
        `equal_bits`, the share of bits of database and queries that are the same; `clean_map` and `robust_map`, of the
        queries and of their adversarial images, each ranked against this encoder's own database.
    """
    pairs = ((codes.database, original.database), (codes.queries, original.queries))
    different = sum(int(np.bitwise_count(ours ^ theirs).sum()) for ours, theirs in pairs)
    total = BITS_PER_BYTE * sum(ours.size for ours, _ in pairs)

    def score(queries: np.ndarray) -> float:
        return mean_average_precision(queries, codes.database, data.test.labels, data.database.labels, top_k=top_k)

    return {
        "equal_bits": 1 - different / total,
        "clean_map": score(codes.queries),
        "robust_map": score(codes.adversarial),
    }


def milliseconds(encoder: PackedEncoder, images: np.ndarray, calls: int = TIMED_CALLS) -> np.ndarray:
    """Time calls on a batch float32 (B, S, S, 3), after a warm-up: float64 (calls,) ms a call."""
    batch = tf.constant(images)
    taken = []
    for _ in range(calls // 10 + calls):
        started = time.perf_counter()
        encoder.encode(batch)
        taken.append(time.perf_counter() - started)
    return 1e3 * np.array(taken[calls // 10 :])
