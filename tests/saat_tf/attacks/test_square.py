"""The black-box attack: what it sends, what it keeps, and that it reads codes alone."""

import numpy as np
import pytest
import tensorflow as tf

from saat_tf.attacks import SquareAttack, code_goal, square_attack
from saat_tf.attacks.square import HALVED_AFTER
from saat_tf.threat_model import ThreatModel

SIDE, BITS, EPSILON = 12, 24, 16 / 255
SEED = tf.constant([5, 6])
CODES = np.random.default_rng(3).choice(np.float32([-1, 1]), (4, BITS))


class Box:
    """A network that nobody can differentiate: it keeps what is sent, and answers with hash codes."""

    def __init__(self):
        self.weights = np.random.default_rng(0).normal(size=(SIDE * SIDE * 3, BITS)).astype(np.float32)
        self.sent, self.answers = [], []

    def __call__(self, images, alpha, training):
        assert not training
        images = images.numpy()
        logits = (images.reshape(len(images), -1) - 0.5) @ self.weights
        self.sent.append(images)
        self.answers.append(np.where(logits >= 0, 1, -1))
        return tf.constant(self.answers[-1], tf.float32)


def images_of(rows=3):
    images = np.random.default_rng(1).random((rows, SIDE, SIDE, 3), np.float32)
    images[0, :4], images[0, 4:8] = 0.0, 1.0
    return images


def run(targeted=False, num_queries=60):
    box, images = Box(), images_of()
    attack = square_attack(
        EPSILON,
        lambda labels: tf.gather(CODES, tf.argmax(labels, axis=1)),
        targeted=targeted,
        num_queries=num_queries,
    )
    labels = np.eye(4, dtype=np.float32)[[0, 1, 2]]
    return box, images, attack(box, images, labels, SEED).numpy()


def distances_to(codes, answers):
    return np.array([(answer != codes).sum(axis=1) for answer in answers])  # (queries, B)


@pytest.mark.parametrize("num_queries", [2, 3, 50])
def test_so_many_queries_are_sent_for_each_image_and_the_first_is_the_image(num_queries):
    box, images, _ = run(num_queries=num_queries)
    assert len(box.sent) == num_queries
    np.testing.assert_array_equal(box.sent[0], images)


@pytest.mark.parametrize("targeted", [False, True])
def test_what_is_returned_was_sent_and_is_the_best_of_all_that_was(targeted):
    box, images, result = run(targeted)
    wanted = CODES[:3] if targeted else -CODES[:3]
    distances = distances_to(wanted, box.answers)
    for row in range(3):
        best = distances[:, row].min()
        sent = [place for place in range(60) if np.array_equal(box.sent[place][row], result[row])]
        assert [distances[place, row] for place in sent] == [best] * len(sent) and sent
    assert distances.min(axis=0).sum() < distances[0].sum()
    ThreatModel(EPSILON).verify(result, images)


def allowed(images):
    return np.clip(images - EPSILON, 0, 1), np.clip(images + EPSILON, 0, 1)


def test_the_second_query_is_vertical_stripes():
    box, images, _ = run(num_queries=2)
    low, high = allowed(images)
    up = np.isclose(box.sent[1], high, atol=1e-6)
    assert (up | np.isclose(box.sent[1], low, atol=1e-6)).all()
    inner = (images > EPSILON) & (images < 1 - EPSILON)
    for b, column, channel in np.ndindex(3, SIDE, 3):
        assert len(set(up[b, :, column, channel][inner[b, :, column, channel]])) <= 1
    assert 0.3 < up[inner].mean() < 0.7


def side_by_hand(query, num_queries):
    done = query / num_queries
    share = 0.8 * 0.5 ** sum(done > edge for edge in (0.001, 0.005, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8))
    return max(1, int(np.rint(np.sqrt(share) * SIDE)))


def test_each_further_query_sets_one_square_of_the_best_image_to_the_edge_of_the_ball():
    box, images, _ = run(num_queries=100)
    distances = distances_to(-CODES[:3], box.answers)
    low, high = allowed(images)
    places = set()
    for row in range(3):
        best, best_distance = box.sent[0][row], distances[0, row]
        if distances[1, row] <= best_distance:
            best, best_distance = box.sent[1][row], distances[1, row]
        for query in range(2, 100):
            sent, side = box.sent[query][row], side_by_hand(query, 100)
            rows, columns = np.nonzero((np.abs(sent - best) > 1e-6).any(axis=2))
            if len(rows):  # a square that sets what is set already changes nothing
                assert np.ptp(rows) < side and np.ptp(columns) < side
                window = np.s_[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
                for channel in range(3):
                    patch, edges = sent[window][..., channel], (high[row][window], low[row][window])
                    changed = np.abs(patch - best[window][..., channel]) > 1e-6
                    fits = [np.allclose(patch[changed], edge[..., channel][changed], atol=1e-6) for edge in edges]
                    assert any(fits)
                places.add((row, rows.min(), columns.min()))
            if distances[query, row] <= best_distance:
                best, best_distance = sent, distances[query, row]
    assert len(places) > 30


@pytest.mark.parametrize("query", [2, 30, 100, 199])
def test_squares_are_whole_inside_the_image_and_everywhere(query):
    attack = SquareAttack(
        name="square", targeted=False, goal=lambda *_: None, threat_model=ThreatModel(EPSILON), num_queries=200
    )
    inside = attack._squares(tf.zeros((400, SIDE, SIDE, 3)), tf.constant(query), SEED).numpy()[..., 0]
    side = side_by_hand(query, 200)
    corners = set()
    for square in inside:
        rows, columns = np.nonzero(square)
        assert square.sum() == side**2
        assert (np.ptp(rows), np.ptp(columns)) == (side - 1, side - 1)
        corners.add((int(rows.min()), int(columns.min())))
    room = range(SIDE - side + 1)
    assert {top for top, _ in corners} == set(room) == {left for _, left in corners}


def test_the_shares_are_halved_where_the_authors_halve_them():
    # Of 10,000 queries: 10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000.
    assert [round(10_000 * share) for share in HALVED_AFTER] == [10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000]


@pytest.mark.parametrize(("option", "value"), [("num_queries", 1), ("first_share", 0.0), ("first_share", 1.5)])
def test_an_option_out_of_range_is_refused(option, value):
    goal = code_goal(lambda labels, seed: labels, targeted=False)
    with pytest.raises(ValueError, match=rf"`{option}`.*Received"):
        SquareAttack(name="s", targeted=False, goal=goal, threat_model=ThreatModel(0.1), **{option: value})
