"""Certificates of queries: which bits of their codes cannot flip, by any of the methods, and the MAP that follows."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from saat_tf.certify.average_precision import CertifiedScores, certified_average_precisions
from saat_tf.certify.network import margin_costs, network_bits
from saat_tf.certify.sampling import Logits, count_votes
from saat_tf.certify.smoothing import Votes, certified_bits
from saat_tf.certify.steps import UNIT_ROUNDOFF
from saat_tf.codes import pack_codes
from saat_tf.metrics import average_precisions
from saat_tf.progress import Track, silent
from saat_tf.threat_model import ROUNDING

METHODS = ("smoothing", "ibp", "crown", "margin")


@dataclasses.dataclass(frozen=True)
class Certificate:
    """What an attack within a radius can do to the codes of queries at most.

    Args:
        method: one of `METHODS`.
        epsilon: radius in L-infinity and pixel units of [0, 1].
        codes: uint8 (Q, K / 8), packed: the codes of the queries as they are; of "smoothing", the majority codes.
        flip_costs: float64 (Q, K): 0 for a bit that may flip, infinite for one that cannot; of "margin", z^2.
        budgets: float64 (Q,): what the flipped bits may cost together.
        confidence: of the certificate of all queries together: 1, or 1 - alpha of "smoothing".
    """

    method: str
    epsilon: float
    codes: np.ndarray
    flip_costs: np.ndarray
    budgets: np.ndarray
    confidence: float = 1.0

    @property
    def certified(self) -> np.ndarray:
        """Bits that cannot flip, whatever the others do: bool (Q, K)."""
        return self.flip_costs > self.budgets[:, None]

    def scores(
        self,
        database_codes: np.ndarray,
        query_labels: np.ndarray,
        database_labels: np.ndarray,
        **options: Any,
    ) -> CertifiedScores:
        """Bound AP@k of each query; the options are those of `certified_average_precisions`."""
        return certified_average_precisions(
            self.codes, self.flip_costs, self.budgets, database_codes, query_labels, database_labels, **options
        )


@dataclasses.dataclass(frozen=True)
class CertifiedMap:
    """A bound of MAP and what belongs beside it.

    Args:
        value: no attack within the radius brings MAP below it, with the certificate's confidence.
        clean: MAP of the same codes without an attack.
        certificate: the bits.
        scores: bound and exactness of each query.
    """

    value: float
    clean: float
    certificate: Certificate
    scores: CertifiedScores


def certified_map(
    encoder: Any,
    images: np.ndarray,
    query_labels: np.ndarray,
    database_codes: np.ndarray,
    database_labels: np.ndarray,
    *,
    epsilon: float,
    method: str = "ibp",
    top_k: int | None = None,
    seconds: float = 0.1,
    **options: Any,
) -> CertifiedMap:
    """Bound how low MAP@k (denominator "relevant", worst ties) can fall when every query is perturbed.

    Args:
        encoder: a `HashingModel`; for "smoothing" any model from images to K numbers.
        images: float32 (Q, S, S, 3) in [0, 1].
        query_labels: (Q, C) of 0/1.
        database_codes: uint8 (N, K / 8), packed; the database is not perturbed.
        database_labels: (N, C) of 0/1.
        epsilon: radius in L-infinity and pixel units of [0, 1].
        method: "smoothing", "ibp", "crown" or "margin".
        top_k: k; the whole database by default.
        seconds: of processor time for a query of more than 20 uncertain bits.
        **options: of "smoothing", those of `smoothed_votes` and `alpha`.

    Returns:
        `CertifiedMap`.

    Raises:
        ValueError: as the method: an unknown one, a layer without a rule, too few draws, a code length that differs.

    Example:
        >>> from saat_tf.models import HashingModel
        >>> model = HashingModel("small_cnn", code_length=16, image_size=16)
        >>> images, labels = np.zeros((4, 16, 16, 3), np.float32), np.eye(2)[[0, 1, 0, 1]]
        >>> found = certified_map(model, images[:1], labels[:1], model.encode(images).numpy(), labels, epsilon=1 / 255)
        >>> 0 <= found.value <= found.clean <= 1
        True
    """
    certificate = certify(encoder, images, epsilon, method=method, **options)
    scores = certificate.scores(database_codes, query_labels, database_labels, top_k=top_k, seconds=seconds)
    clean = average_precisions(
        certificate.codes, database_codes, query_labels, database_labels,
        top_k=top_k, tie_rule="pessimistic", denominator="relevant",
    )  # fmt: skip
    return CertifiedMap(scores.map, float(clean.mean()), certificate, scores)


def certify(
    encoder: Any,
    images: np.ndarray,
    epsilon: float,
    *,
    method: str,
    alpha: float = 1e-3,
    track: Track = silent,
    **sampling: Any,
) -> Certificate:
    """Certify the bits of queries; see `certified_map`."""
    check_method(method)
    if method == "smoothing":
        votes = smoothed_votes(encoder, images, track=track, **sampling)
        return smoothing_certificate(votes, encoder, np.shape(images)[1:], epsilon, alpha)
    codes = np.concatenate([encoder.encode(tf.constant(images[i : i + 64])).numpy() for i in range(0, len(images), 64)])
    if method == "margin":
        costs, budgets, _ = margin_costs(encoder, images, epsilon)
        return Certificate(method, epsilon, codes, costs, budgets)
    return bits_certificate(method, epsilon, codes, network_bits(encoder, images, epsilon, method=method, track=track))


def check_method(method: str) -> None:
    """Raise `ValueError` unless there is such a method."""
    if method not in METHODS:
        raise ValueError(f"`method` must be one of {METHODS}. Received: {method!r}.")


def bits_certificate(
    method: str, epsilon: float, codes: np.ndarray, certified: np.ndarray, confidence: float = 1.0
) -> Certificate:
    """Make a certificate of packed codes from which bits cannot flip, bool (Q, K)."""
    costs = np.where(certified, np.inf, 0.0)
    return Certificate(method, epsilon, codes, costs, np.zeros(len(codes)), confidence)


def smoothed_votes(
    encoder: Any,
    images: np.ndarray,
    *,
    sigma: float,
    draws: int = 10_000,
    selection_draws: int = 100,
    seed: int = 0,
    first: int = 0,
    track: Track = silent,
) -> Votes:
    """Count the votes of noisy copies of queries, behind the encoder's pooling front end where it has one.

    Args:
        encoder: a `HashingModel`, or any model from images (B, S, S, 3) to (B, K) whose signs are the bits.
        images: float32 (Q, S, S, 3) in [0, 1].
        sigma: standard deviation of the noise on (pooled) pixels, in pixel units of [0, 1].
        draws: n, which certify.
        selection_draws: n0, which choose the majority bit.
        seed: of all noise.
        first: number of the first query among all that the seed is for.
        track: shows progress.
    """
    reduce, logits, _ = _front_end(encoder)
    pixels = np.asarray(reduce(tf.constant(images)))
    return count_votes(
        logits, pixels, sigma=sigma, draws=draws, selection_draws=selection_draws, seed=seed, first=first, track=track
    )


def smoothing_certificate(
    votes: Votes, encoder: Any, image_shape: tuple[int, ...], epsilon: float, alpha: float
) -> Certificate:
    """Certify majority bits by counted votes; all queries together are right with probability 1 - alpha.

    Each query gets alpha / Q (Bonferroni).
    """
    radius = smoothing_radius(encoder, image_shape, epsilon)
    certified = certified_bits(votes, radius, alpha / max(1, len(votes.ones)))
    codes = pack_codes(tf.constant(np.where(votes.majority, 1.0, -1.0))).numpy()
    return bits_certificate("smoothing", epsilon, codes, certified, 1 - alpha)


def smoothing_radius(encoder: Any, image_shape: tuple[int, ...], epsilon: float) -> float:
    """Return the L2 radius, behind the front end, that contains the ball: epsilon sqrt(D) / s for D values of an image.

    A mean of s x s pixels moves at most epsilon, up to the rounding of float32, which is added.

    Example:
        >>> from saat_tf.models import HashingModel
        >>> model = HashingModel("small_cnn", code_length=16, image_size=64, pooling=4)
        >>> [round(smoothing_radius(x, (64, 64, 3), 1 / 255), 3) for x in (model, None)]
        [0.109, 0.435]
    """
    side = _front_end(encoder)[2]
    rounding = ROUNDING + 2 * (side**2 + 2) * UNIT_ROUNDOFF
    return (epsilon + rounding) * math.sqrt(math.prod(image_shape)) / side * (1 + 1e-12)


def _front_end(encoder: Any) -> tuple[Callable, Logits, int]:
    """Return what comes in front of the noise, what comes behind it, and the side of the front end's squares."""
    if getattr(encoder, "pooling_side", 1) > 1 and encoder.stages()[0] is encoder.pooling:
        return encoder.reduced, encoder.reduced_logits, encoder.pooling_side
    return lambda images: images, getattr(encoder, "logits", encoder), 1
