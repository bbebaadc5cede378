"""Draws of noisy codes: noise and encoder in one graph, in batches."""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from saat_tf.certify.smoothing import Votes, check_sigma
from saat_tf.progress import Track, silent
from saat_tf.random_numbers import fold_in, normal

Logits = Callable[[tf.Tensor], tf.Tensor]
# Draws that are encoded at a time, times pixels: about what small processors' caches like.
BATCH_VALUES = 1 << 20


def count_votes(
    logits: Logits,
    images: np.ndarray,
    *,
    sigma: float,
    draws: int,
    selection_draws: int,
    seed: int,
    first: int = 0,
    track: Track = silent,
) -> Votes:
    """Count, for each query and bit, the noisy copies whose bit is +1.

    The noise of query i depends on the seed and `first` + i alone. Noisy pixels are not clipped to [0, 1].

    Args:
        logits: float32 (B, S, S, 3) of any range -> float (B, K); the bit is +1 where it is at least 0.
        images: float32 (Q, S, S, 3) in [0, 1].
        sigma: standard deviation of the noise in pixel units of [0, 1].
        draws: n, which certify.
        selection_draws: n0, draws of their own that choose the majority bit.
        seed: of all noise.
        first: number of the first query among all that the seed is for.
        track: shows progress.

    Returns:
        `Votes` of Q queries.

    Raises:
        ValueError: sigma is not positive, or a number of draws is below 1.

    Example:
        >>> votes = count_votes(
        ...     lambda x: x[:, 0, 0, :2] - [0.0, 0.5], np.full((1, 1, 1, 3), 0.5, np.float32),
        ...     sigma=0.1, draws=1000, selection_draws=10, seed=0,
        ... )
        >>> votes.ones[0].tolist()[0], 400 < votes.ones[0, 1] < 600
        (1000, np.True_)
    """
    check_sigma(sigma)
    if min(draws, selection_draws) < 1:
        raise ValueError(f"Draws must be at least 1. Received: {draws} and {selection_draws} for the selection.")
    batch = max(1, min(draws + selection_draws, BATCH_VALUES // max(1, int(np.prod(images.shape[1:])))))

    @tf.function(reduce_retracing=True)
    def count(image: tf.Tensor, seed: tf.Tensor, draws: tf.Tensor) -> tf.Tensor:
        """Count over so many draws: float32 (S, S, 3), int (2,), int scalar -> int32 (K,)."""

        def add(done: tf.Tensor, ones: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            size = tf.minimum(batch, draws - done)
            noise = normal(tf.concat([[size], tf.shape(image)], axis=0), fold_in(seed, done), sigma)
            bits = logits(image[None] + noise) >= 0  # (b, K)
            return done + size, ones + tf.reduce_sum(tf.cast(bits, tf.int32), axis=0)

        bits = logits(image[None]).shape[-1]
        shapes = (tf.TensorShape([]), tf.TensorShape([bits]))
        start = (0, tf.zeros(bits, tf.int32))
        return tf.while_loop(lambda done, _: done < draws, add, start, shape_invariants=shapes, parallel_iterations=1)[
            1
        ]

    counts = np.zeros((2, len(images), int(logits(tf.zeros((1, *images.shape[1:]))).shape[-1])), np.int64)
    for i, image in enumerate(track(images, len(images), "Drawing noisy copies")):
        own = fold_in((seed, 0), first + i)
        for part, number in enumerate((selection_draws, draws)):
            counts[part, i] = count(tf.constant(image), fold_in(own, part), tf.constant(number)).numpy()
    return Votes(counts[1], draws, counts[0], selection_draws, sigma)
