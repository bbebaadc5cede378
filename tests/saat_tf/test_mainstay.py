"""The mainstay code: Theorem 1 by a search over all codes, exactness, ties, and the layer in a graph."""

import itertools
from decimal import Decimal, localcontext

import numpy as np
import pytest
import tensorflow as tf

from saat_tf.layers import DMFL, CodeBank
from saat_tf.mainstay import CodeSums, mainstay_codes, mainstay_codes_from_sums

NUM_CLASSES, NUM_ITEMS = 6, 25


def cosine_weights(labels, bank_labels):
    """w (B, N) and n (B, N) one pair at a time, as the paper writes them."""
    w, n = np.zeros((2, len(labels), len(bank_labels)))
    for i, y in enumerate(labels):
        for j, other in enumerate(bank_labels):
            common = float(sum(a * b for a, b in zip(y, other, strict=True)))
            n[i, j] = common == 0
            if common:
                w[i, j] = common / (np.sqrt(y.sum()) * np.sqrt(other.sum()))
    return w, n


def normalized(weights):
    total = weights.sum(axis=1, keepdims=True)
    return np.divide(weights, total, out=np.zeros_like(weights), where=total > 0)


def direct_formula(labels, bank_labels, bank_codes):
    """The closed form item by item in float64; a score of rounding size is a tie and a tie is +1."""
    w, n = cosine_weights(np.float64(labels), np.float64(bank_labels))
    scores = normalized(w) @ np.float64(bank_codes) - normalized(n) @ np.float64(bank_codes)
    return np.where(scores >= -1e-12, 1.0, -1.0)


def all_codes(code_length):
    return np.array(list(itertools.product([-1.0, 1.0], repeat=code_length)))


def objective(codes, labels, bank_labels, bank_codes):
    """psi (P, B) of each code for each label row, from distances counted bit by bit."""
    distances = (codes[:, None, :] != bank_codes[None, :, :]).sum(axis=2)  # (P, K), (N, K) -> (P, N)
    w, n = cosine_weights(labels, bank_labels)
    return distances @ normalized(w).T - distances @ normalized(n).T


def multi_hot(rng, rows, density):
    return (rng.random((rows, NUM_CLASSES)) < density).astype(np.float64)


def one_hot(rng, rows):
    return np.eye(NUM_CLASSES)[rng.integers(0, NUM_CLASSES, rows)]


def multi_label(rng):
    return multi_hot(rng, 6, 0.3), multi_hot(rng, NUM_ITEMS, 0.3)


def single_label(rng):
    return one_hot(rng, 6), one_hot(rng, NUM_ITEMS)


def queries_without_labels(rng):
    labels = multi_hot(rng, 6, 0.3)
    labels[::2] = 0
    return labels, multi_hot(rng, NUM_ITEMS, 0.3)


def items_without_labels(rng):
    labels, bank_labels = multi_label(rng)
    bank_labels[::2] = 0
    return labels, bank_labels


def nothing_shared(rng):
    labels, bank_labels = multi_label(rng)
    labels[:, : NUM_CLASSES // 2] = 0
    bank_labels[:, NUM_CLASSES // 2 :] = 0
    return labels, bank_labels


def everything_shared(rng):
    labels, bank_labels = multi_label(rng)
    labels[:, 0] = bank_labels[:, 0] = 1
    return labels, bank_labels


def duplicates(rng):
    return multi_hot(rng, 6, 0.4), np.tile(multi_hot(rng, 3, 0.4), (8, 1))


def one_item(rng):
    return multi_hot(rng, 6, 0.4), multi_hot(rng, 1, 0.5)


DATA = [
    multi_label,
    single_label,
    queries_without_labels,
    items_without_labels,
    nothing_shared,
    everything_shared,
    duplicates,
    one_item,
]


def random_case(kind, code_length, seed):
    rng = np.random.default_rng([seed, code_length, DATA.index(kind)])
    labels, bank_labels = kind(rng)
    bank_codes = rng.choice([-1.0, 1.0], (len(bank_labels), code_length))
    if kind is duplicates:
        bank_codes[len(bank_codes) // 2 :] = bank_codes[: len(bank_codes) // 2]
    return labels, bank_labels, bank_codes


def of_items(labels, bank_labels, bank_codes):
    return mainstay_codes(labels, bank_labels, bank_codes, np.ones(len(bank_labels))).numpy()


def of_label_sets(labels, bank_labels, bank_codes):
    """Use on distinct label sets, whose sums are made by a dictionary."""
    sums, counts = {}, {}
    for row, code in zip(bank_labels, bank_codes, strict=True):
        key = tuple(row)
        sums[key] = sums.get(key, 0) + code
        counts[key] = counts.get(key, 0) + 1
    keys = list(sums)
    arrays = (np.array(keys), np.array([sums[k] for k in keys]), np.array([counts[k] for k in keys]))
    return mainstay_codes(labels, *arrays).numpy()


def test_a_worked_example_has_the_code_found_by_hand():
    # y = {0, 1}.            labels     code            weight
    items = [
        ([1, 0, 0], [+1, +1, +1, -1]),  # w = 1 / (sqrt 2 * 1) = 0.7071
        ([1, 1, 0], [+1, -1, +1, -1]),  # w = 2 / (sqrt 2 * sqrt 2) = 1
        ([0, 1, 1], [-1, -1, +1, +1]),  # w = 1 / (sqrt 2 * sqrt 2) = 0.5
        ([0, 0, 1], [+1, +1, -1, +1]),  # n = 1
        ([0, 0, 0], [-1, +1, +1, +1]),  # n = 1
    ]
    # related, over 2.2071:  1.2071, -0.7929, 2.2071, -1.2071  ->  0.547, -0.359, 1, -0.547
    # unrelated, over 2:     0, 2, 0, 2                        ->  0, 1, 0, 1
    # difference:            0.547, -1.359, 1, -1.547
    labels, codes = (np.float32(column) for column in zip(*items, strict=True))
    assert of_items(np.float32([[1, 1, 0]]), labels, codes).tolist() == [[1, -1, 1, -1]]


def test_the_cosine_weight_outvotes_a_majority_of_weaker_relatives():
    # The weight of the item with y's own labels is 1, of the two with all five 1 / sqrt 5 = 0.447: 1 > 2 * 0.447.
    labels = np.float32([[1, 0, 0, 0, 0], [1, 1, 1, 1, 1], [1, 1, 1, 1, 1]])
    assert of_items(labels[:1], labels, np.float32([[1, -1], [-1, 1], [-1, 1]])).tolist() == [[1, -1]]


@pytest.mark.parametrize("kind", DATA, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("code_length", range(1, 11))
def test_no_code_at_all_has_a_lower_objective_than_the_mainstay_code(code_length, kind):
    labels, bank_labels, bank_codes = random_case(kind, code_length, seed=0)
    candidates = objective(all_codes(code_length), labels, bank_labels, bank_codes)  # (2^K, B)
    chosen = of_items(labels, bank_labels, bank_codes)
    at_chosen = np.diagonal(objective(chosen, labels, bank_labels, bank_codes))
    np.testing.assert_allclose(at_chosen, candidates.min(axis=0), rtol=0, atol=1e-9)


@pytest.mark.parametrize("kind", DATA, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("code_length", [1, 7, 33])
def test_label_sets_with_sums_give_exactly_the_code_of_the_items(code_length, kind):
    for seed in range(5):
        case = random_case(kind, code_length, seed)
        np.testing.assert_array_equal(of_label_sets(*case), of_items(*case))
        np.testing.assert_array_equal(of_items(*case), direct_formula(*case))


@pytest.mark.parametrize("kind", DATA, ids=lambda kind: kind.__name__)
def test_the_order_of_the_items_does_not_matter(kind):
    labels, bank_labels, bank_codes = random_case(kind, 64, seed=9)
    expected = of_items(labels, bank_labels, bank_codes)
    for seed in range(10):
        order = np.random.default_rng(seed).permutation(len(bank_labels))
        for use in (of_items, of_label_sets):
            np.testing.assert_array_equal(use(labels, bank_labels[order], bank_codes[order]), expected)


@pytest.mark.parametrize(
    ("labels", "bank_labels", "bank_codes"),
    [
        pytest.param([[1, 0]], [[1, 0], [1, 0]], [[1], [-1]], id="related items cancel, none unrelated"),
        pytest.param([[0, 0]], [[1, 0], [0, 1]], [[1], [-1]], id="unrelated items cancel, none related"),
        pytest.param([[1, 0]], [[1, 0], [0, 1]], [[-1], [-1]], id="both sides -1"),
        pytest.param(
            [[1, 0]], [[1, 0]] * 3 + [[0, 1]] * 6, [[1], [1], [-1]] + [[1]] * 4 + [[-1]] * 2, id="both sides 1/3"
        ),
        pytest.param(
            [[1, 0]], [[1, 0]] * 7 + [[0, 1]] * 14, [[-1]] * 5 + [[1]] * 2 + [[-1]] * 10 + [[1]] * 4, id="both -3/7"
        ),
    ],
)
def test_a_tie_is_plus_one(labels, bank_labels, bank_codes):
    case = np.float64(labels), np.float64(bank_labels), np.float64(bank_codes)
    assert of_items(*case).tolist() == of_label_sets(*case).tolist() == [[1.0]]


@pytest.mark.parametrize(("pluses", "minuses"), [(1, 1), (2, 1), (1, 2), (3, 2), (2, 5), (1, 6), (9, 2)])
@pytest.mark.parametrize("seed", range(6))
def test_a_tie_through_irrational_weights_is_plus_one(pluses, minuses, seed):
    # Every label set, related or not, has the same share of +1, so both sides have one mean whatever the weights.
    rng = np.random.default_rng(seed)
    label_sets = multi_hot(rng, 12, 0.4)
    label_sets[0], label_sets[1] = [1, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 1]
    labels = np.float64([[1, 1, 0, 0, 0, 0], [1, 1, 1, 0, 0, 0], [0, 0, 1, 0, 1, 1]])
    w, n = cosine_weights(labels, label_sets)
    assert (w.sum(axis=1) > 0).all()
    assert (n.sum(axis=1) > 0).all()
    bank_labels = np.repeat(label_sets, pluses + minuses, axis=0)
    bank_codes = np.tile([1.0] * pluses + [-1.0] * minuses, len(label_sets))[:, None] * np.ones((1, 3))
    order = rng.permutation(len(bank_labels))
    for use in (of_items, of_label_sets):
        np.testing.assert_array_equal(use(labels, bank_labels[order], bank_codes[order]), np.ones((3, 3)))


@pytest.mark.parametrize(("related", "unrelated", "expected"), [(100_001, 99_999, -1.0), (99_999, 100_001, 1.0)])
def test_a_majority_of_one_item_among_a_hundred_thousand_is_no_tie(related, unrelated, expected):
    # 1 / 100001 - 1 / 99999 = -2e-10
    result = mainstay_codes([[1, 0]], [[1, 0], [0, 1]], [[1.0], [1.0]], [related, unrelated])
    assert result.numpy().tolist() == [[expected]]


def test_a_row_without_labels_gets_the_opposite_of_the_majority():
    codes = np.float32([[1, 1, -1], [1, -1, -1], [1, 1, 1]])
    assert of_items(np.zeros((1, 3)), np.eye(3), codes).tolist() == [[-1, -1, 1]]


@pytest.mark.slow
@pytest.mark.parametrize("kind", DATA, ids=lambda kind: kind.__name__)
def test_the_layer_on_a_bank_gives_the_direct_formula_eagerly_and_in_a_graph(kind):
    labels, bank_labels, _ = random_case(kind, 8, seed=4)
    labels, bank_labels = np.float32(labels), np.float32(bank_labels)
    relaxed_codes = np.random.default_rng(5).uniform(-1, 1, (len(bank_labels), 32)).astype(np.float32)
    relaxed_codes[:, :4] = 0.0
    bank = CodeBank.from_labels(bank_labels, code_length=32)
    bank.update(tf.range(len(bank_labels)), tf.constant(relaxed_codes))
    dmfl = DMFL(bank)
    traced = tf.function(dmfl, input_signature=[tf.TensorSpec([None, NUM_CLASSES])])
    expected = direct_formula(labels, bank_labels, np.where(relaxed_codes >= 0, 1.0, -1.0))
    for function in (dmfl, traced):
        result = function(tf.constant(labels))
        assert result.dtype == tf.float32
        np.testing.assert_array_equal(result.numpy(), expected)


def test_a_traced_layer_reads_the_bank_as_it_is_now():
    bank = CodeBank.from_labels(np.eye(2, dtype=np.float32), code_length=8)
    traced = tf.function(DMFL(bank))
    labels = tf.constant([[1.0, 0.0]])
    for value in (1.0, -1.0, 1.0):
        bank.update(tf.constant([0, 1]), tf.constant([[value] * 8, [-value] * 8]))
        np.testing.assert_array_equal(traced(labels).numpy(), [[value] * 8])


def of_sums(labels, label_sets, set_sums, set_counts):
    """Use on running sums, which are added up here item set by item set."""
    label_sets = np.float32(label_sets)
    num_classes, max_labels = label_sets.shape[1], max(1, int(label_sets.sum(axis=1).max()))
    label_sums = np.zeros((num_classes, max_labels, np.shape(set_sums)[1]))
    label_counts = np.zeros((num_classes, max_labels))
    for row, total, count in zip(label_sets, set_sums, set_counts, strict=True):
        for c in np.flatnonzero(row):
            label_sums[c, int(row.sum()) - 1] += total
            label_counts[c, int(row.sum()) - 1] += count
    rows = label_sums.reshape(num_classes * max_labels, -1)
    tables = label_sets, set_sums, set_counts, rows, label_counts.reshape(-1)
    return mainstay_codes_from_sums(np.float32(labels), CodeSums(*map(np.float32, tables))).numpy()


def in_sixty_digits(labels, label_sets, set_sums, set_counts):
    """The closed form in decimals of 60 digits, where a score that is not 1e-40 from zero is a tie."""
    codes = np.ones((len(labels), np.shape(set_sums)[1]))
    with localcontext() as context:
        context.prec = 60
        roots = [Decimal(max(int(sum(row)), 1)).sqrt() for row in label_sets]
        for (i, y), k in itertools.product(enumerate(labels), range(codes.shape[1])):
            related_sum = related = unrelated_sum = unrelated = Decimal(0)
            for row, root, total, count in zip(label_sets, roots, set_sums, set_counts, strict=True):
                common = int(np.dot(y, row))
                related_sum += common * int(total[k]) / root
                related += common * int(count) / root
                unrelated_sum += 0 if common else int(total[k])
                unrelated += 0 if common else int(count)
            score = (related_sum / related if related else 0) - (unrelated_sum / unrelated if unrelated else 0)
            codes[i, k] = -1 if score < Decimal("-1e-40") else 1
    return codes


@pytest.mark.parametrize("kind", DATA, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("code_length", [1, 33])
def test_running_sums_give_the_code_of_the_items(code_length, kind):
    for seed in range(5):
        labels, bank_labels, bank_codes = random_case(kind, code_length, seed)
        found = of_sums(labels, bank_labels, bank_codes, np.ones(len(bank_labels)))
        np.testing.assert_array_equal(found, direct_formula(labels, bank_labels, bank_codes))


@pytest.mark.parametrize("largest", [3, 1000, 1_300_000])
@pytest.mark.parametrize("seed", range(4))
def test_running_sums_are_exact_up_to_sixteen_million_items(seed, largest):
    rng = np.random.default_rng([seed, largest])
    label_sets = np.unique(multi_hot(rng, 12, 0.5), axis=0)
    set_counts = rng.integers(1, largest + 1, len(label_sets))
    shares = np.concatenate([rng.random((len(label_sets), 3)), np.full((len(label_sets), 2), 0.5)], axis=1)
    set_sums = set_counts[:, None] - 2 * np.round(shares * set_counts[:, None])
    case = multi_hot(rng, 4, 0.4), label_sets, set_sums, set_counts
    np.testing.assert_array_equal(of_sums(*case), in_sixty_digits(*case))


@pytest.mark.parametrize(
    ("label_sets", "sums", "counts"),
    [
        pytest.param([[1, 0, 0, 0, 0], [1, 1, 1, 1, 0]], [1, -2], [3, 8], id="1 and 4 labels cancel: 1 - 2 / sqrt 4"),
        pytest.param([[1, 1, 0, 0, 0], [1] * 5, [1, 0, 1, 0, 0]], [5, 0, -5], [5, 4, 7], id="2 labels cancel"),
        pytest.param([[1, 1, 0, 0, 0], [0, 0, 0, 0, 1]], [1, 3], [3, 9], id="1/3 on both sides"),
        pytest.param([[0, 0, 0, 0, 1]], [0], [4], id="none related, the others cancel"),
    ],
)
def test_a_tie_of_running_sums_is_plus_one(label_sets, sums, counts):
    case = [[1, 0, 0, 0, 0]], label_sets, np.array(sums)[:, None], counts
    assert in_sixty_digits(*case).tolist() == [[1.0]]
    assert of_sums(*case).tolist() == [[1.0]]


@pytest.mark.parametrize(("related", "unrelated", "expected"), [(1, -1, -1.0), (-1, 1, 1.0)])
def test_a_majority_of_one_among_ten_million_items_is_no_tie(related, unrelated, expected):
    # 1 / 5000001 - 1 / 4999999 = -8e-14
    counts = [5_000_000 + related, 5_000_000 + unrelated]
    assert of_sums([[1, 0]], [[1, 0], [0, 1]], [[1.0], [1.0]], counts).tolist() == [[expected]]
