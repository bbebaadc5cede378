"""Sums over the items that carry a set of labels, and from them those over the items that share none."""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

# An item counts in the sums of all subsets of its labels: 2^6 = 64 at most.
MAX_LABELS = 6
# Below so many label sets for each of those, a product with all sets costs less than looking subsets up.
SETS_PER_SUBSET = 64
# A key is a sum of up to `MAX_LABELS` such numbers, in int64.
KEY_BITS = 60


class SubsetSums(NamedTuple):
    """For each of P sets T of labels that some item carries, sums over the items whose labels include T.

    Args:
        keys: int64 (P,), ascending: what each T is found by (`subset_keys`).
        sums: (P + 1, K), of the items' +-1 codes; the last row is zero, for sets that no item carries.
        counts: (P + 1,), how many items those are.
    """

    keys: tf.Tensor | tf.Variable
    sums: tf.Tensor | tf.Variable
    counts: tf.Tensor | tf.Variable


def worthwhile_subsets(label_sets: np.ndarray, code_length: int) -> np.ndarray:
    """Return the keys of all subsets of the rows of 0/1 `label_sets` (M, C), ascending; none where they do not pay.

    They pay where sets are many and small, and a table of P codes is no larger than the M sets and their sums.
    """
    most = max(1, int(label_sets.sum(axis=1).max()))
    if most > MAX_LABELS or len(label_sets) < SETS_PER_SUBSET * 2**most:
        return np.zeros(0, np.int64)
    keys, carried = subset_keys(tf.constant(label_sets, tf.float32), most)
    keys = np.unique(tf.boolean_mask(keys, carried).numpy())
    pays = len(keys) * code_length <= label_sets.size + len(label_sets) * code_length
    return keys if pays else np.zeros(0, np.int64)


def subset_keys(labels: tf.Tensor, max_labels: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the key of each subset of each label row.

    A label has a random number of 60 bits, a set the sum of those of its labels. Of a million sets, some two have one
    key with a probability of 4e-7.

    Args:
        labels: (B, C) of 0/1.
        max_labels: L, at most 6; of a row with more labels only the first L are seen.

    Returns:
        int64 (B, 2^L), and bool (B, 2^L): which of them are subsets of the row; rows with fewer labels have fewer.

    Example:
        >>> keys, carried = subset_keys(tf.constant([[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]]), max_labels=2)
        >>> tf.reduce_sum(tf.cast(carried, tf.int32), axis=1).numpy().tolist()  # {} {0} {2} {0, 2}; {} {2}
        [4, 2]
        >>> bool(keys[0, 2] == keys[1, 1])
        True
    """
    num_classes = labels.shape[1]
    numbers = (np.random.PCG64(0).random_raw(num_classes) >> (64 - KEY_BITS)).astype(np.int64)
    present, first = tf.math.top_k(tf.cast(labels, tf.float32), min(max_labels, num_classes))  # (B, C) -> (B, L)
    members = _members(present.shape[1])
    keys = tf.reduce_sum(tf.gather(tf.constant(numbers), first)[:, None] * members, axis=-1)  # (B, 2^L, L) -> (B, 2^L)
    return keys, tf.reduce_all((present[:, None] > 0) | (members == 0), axis=-1)


def subset_rows(labels: tf.Tensor, keys: tf.Tensor | tf.Variable, max_labels: int) -> tf.Tensor:
    """Return the row in `SubsetSums` of each subset of each label row: (B, C) -> int64 (B, 2^L); P for none."""
    wanted, carried = subset_keys(labels, max_labels)
    keys = tf.convert_to_tensor(keys)
    places = tf.reshape(tf.searchsorted(keys, tf.reshape(wanted, [-1]), out_type=tf.int64), tf.shape(wanted))
    found = tf.gather(keys, tf.minimum(places, tf.size(keys, tf.int64) - 1)) == wanted
    return tf.where(found & carried, places, tf.size(keys, tf.int64))


def apart_from_subsets(labels: tf.Tensor, subsets: SubsetSums, max_labels: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Sum over the items that share no label with a row, by inclusion and exclusion.

        sum of b_i with y.y_i = 0   =   sum over T inside y of (-1)^|T| S_T,   S_T = sum of b_i with T inside y_i

    It takes 2^|y| rows a query, whatever the number of items and of their label sets. All are integers, hence exact.

    Args:
        labels: (B, C) of 0/1, at most L in a row.
        subsets: the sums, with S of the empty set that over all items.
        max_labels: L.

    Returns:
        float64 (B, K), the sums of the codes, and (B,), how many items there are.
    """
    rows = subset_rows(labels, subsets.keys, max_labels)
    signs = tf.cast(1 - 2 * (tf.reduce_sum(_members(min(max_labels, labels.shape[1])), axis=1) % 2), tf.float64)
    sums, counts = (tf.cast(tf.gather(x, rows), tf.float64) for x in (subsets.sums, subsets.counts))
    return tf.einsum("t,btk->bk", signs, sums), tf.linalg.matvec(counts, signs)


def _members(size: int) -> tf.Tensor:
    """Return all subsets of `size` things, the empty one first: int64 (2^size, size) of 0/1."""
    return tf.constant((np.arange(2**size)[:, None] >> np.arange(size)) & 1, tf.int64)
