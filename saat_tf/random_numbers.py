"""Random numbers that are the same with and without XLA, and on every device.

TensorFlow draws the same integers everywhere; how it makes floats of them differs under XLA. So floats are made here.
Seeds are two integers that stay where they are: TensorFlow's own functions bring a seed to the host, and where it
depends on a count of steps, which lies on the GPU, the host waits for all that the GPU still has to do.
"""

import tensorflow as tf

# A float32 represents every integer up to here.
STEPS = 1 << 24
PHILOX = 1  # as tf.random.Algorithm numbers it


def seed_of(seed: int | tf.Tensor) -> tf.Tensor:
    """Return a seed as the functions here take it: an integer s is (s, 0), two integers are themselves.

    Args:
        seed: a Python integer, or an integer array or tensor (2,).

    Raises:
        ValueError: it is neither.

    Example:
        >>> seed_of(7).numpy().tolist(), seed_of((7, 1)).numpy().tolist()
        ([7, 0], [7, 1])
    """
    if isinstance(seed, int):
        return tf.constant([seed, 0], tf.int64)
    seed = tf.convert_to_tensor(seed)
    if not seed.dtype.is_integer or not seed.shape.is_compatible_with((2,)):
        raise ValueError(
            f"`seed` must be an integer or two of them, such as 0. Received: {seed.dtype.name} of shape "
            f"{tuple(seed.shape)}."
        )
    return seed


def uniform(shape: tf.Tensor, seed: tf.Tensor, low: float = 0.0, high: float = 1.0) -> tf.Tensor:
    """Draw low + (high - low) i / 2^24, i uniform in {0, ..., 2^24 - 1}.

    Rows are drawn one after the other: fewer of them are the first ones of more.

    Args:
        shape: int (D,).
        seed: int (2,).
        low: lower bound.
        high: upper bound, which is not reached in [0, 1).

    Returns:
        float32 of `shape`.

    Example:
        >>> drawn = uniform((1000,), (0, 1))
        >>> bool(tf.reduce_all((drawn >= 0) & (drawn < 1))), abs(float(tf.reduce_mean(drawn)) - 0.5) < 0.03
        (True, True)
    """
    drawn = tf.cast(_integers(shape, seed, STEPS), tf.float32)
    return low + drawn * ((high - low) / STEPS)


def normal(shape: tf.Tensor, seed: tf.Tensor, stddev: float = 1.0) -> tf.Tensor:
    """Draw +-stddev Phi^-1(u), u uniform on a grid of 2^-25 in (0, 1/2]: values of at most 5.5 `stddev`.

    Args:
        shape: int (D,).
        seed: int (2,).
        stddev: above 0.

    Returns:
        float32 of `shape`.

    Example:
        >>> 0.9 < float(tf.math.reduce_std(normal((1000,), (0, 1)))) < 1.1
        True
    """
    # Below the middle, where u has all its digits.
    half = (tf.cast(_integers(shape, seed, STEPS), tf.float32) + 0.5) / (2 * STEPS)
    return stddev * signs(shape, fold_in(seed, 1)) * tf.math.ndtri(half)


def signs(shape: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Draw -1 and +1 with even chances: float32 of `shape`.

    Args:
        shape: int (D,).
        seed: int (2,).

    Example:
        >>> sorted({*signs((100,), (0, 1)).numpy().tolist()})
        [-1.0, 1.0]
    """
    # In floats: on a GPU TensorFlow does the arithmetic of int32 on the host.
    return 2.0 * tf.cast(_integers(shape, seed, 2), tf.float32) - 1.0


def choices(count: tf.Tensor, options: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Draw `count` integers below `options` with even chances, up to options / 2^24: int64 (count,).

    `options` may be the result of a computation: TensorFlow's own draw would bring it to the host and wait for that.

    Args:
        count: int scalar.
        options: int scalar, at least 1 and below 2^24.
        seed: int (2,).

    Example:
        >>> sorted({*choices(100, 3, (0, 1)).numpy().tolist()})
        [0, 1, 2]
    """
    options = tf.cast(options, tf.float32)
    place = tf.cast(tf.floor(uniform((count,), seed) * options), tf.int64)
    return tf.minimum(place, tf.cast(options, tf.int64) - 1)


def fold_in(seed: tf.Tensor, number: int | tf.Tensor) -> tf.Tensor:
    """Return a seed of its own for each `number`: int (2,), int scalar -> int64 (2,).

    Example:
        >>> bool(tf.reduce_all(fold_in((0, 1), 2) == fold_in((0, 1), 2)))
        True
        >>> bool(tf.reduce_all(fold_in((0, 1), 2) == fold_in((0, 1), 3)))
        False
    """
    key, counter = _key_and_counter(seed)
    mixed = tf.raw_ops.StatelessRandomUniformFullIntV2(
        shape=[1], key=key, counter=counter, alg=PHILOX, dtype=tf.int64
    )  # fmt: skip
    return tf.concat([mixed, tf.cast(number, tf.int64)[None]], axis=0)


def _integers(shape: tf.Tensor, seed: tf.Tensor, options: int) -> tf.Tensor:
    key, counter = _key_and_counter(seed)
    return tf.raw_ops.StatelessRandomUniformIntV2(
        shape=shape, key=key, counter=counter, alg=PHILOX, minval=0, maxval=options
    )


def _key_and_counter(seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the key and the counter of Philox: the low word of the counter numbers the blocks of one draw."""
    seed = tf.cast(seed, tf.int64)
    counter = tf.concat([tf.zeros_like(seed[1:]), seed[1:]], axis=0)
    return tf.bitcast(seed[:1], tf.uint64), tf.bitcast(counter, tf.uint64)
