"""The rule that halves its step, against Auto-PGD as a loop in NumPy."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from saat_tf.attacks import PGD, HalvingStep, SignStep
from saat_tf.attacks.halving import check_points
from saat_tf.threat_model import ThreatModel

EPSILON = 0.1
SEED = tf.constant([0, 1])


def test_check_points_are_the_published_ones_for_100_steps():
    assert check_points(100) == [22, 41, 57, 70, 80, 87, 93, 99]


@pytest.mark.parametrize("num_steps", [1, 2, 5, 10, 20, 37, 1000])
def test_check_points_rise_within_the_steps_and_come_closer(num_steps):
    points = check_points(num_steps)
    assert points == sorted(set(points))
    assert 1 <= points[0] and points[-1] <= num_steps
    if num_steps >= 100:
        stretches = np.diff([0, *points])
        assert (np.diff(stretches) <= 0).all()


def relax(images, alpha):
    return tf.reshape(images, (tf.shape(images)[0], -1))


def minus_squared_distance(pixels, goal):
    return -tf.reduce_sum(goal["weights"] * tf.square(pixels - goal["places"]), axis=1)


def case(seed, rows=4):
    """Images, and places that the pixels should reach: some outside of the ball, some inside."""
    rng = np.random.default_rng(seed)
    images = rng.uniform(0.2, 0.8, (rows, 2, 2, 3)).astype(np.float32)
    places = images.reshape(rows, -1) + rng.uniform(-1.5, 1.5, (rows, 12)) * EPSILON
    return images, {"places": places.astype(np.float32), "weights": rng.uniform(0.2, 1, (rows, 12)).astype(np.float32)}


def attack_of(num_steps, rule=None, random_start=False):
    return PGD(
        threat_model=ThreatModel(EPSILON),
        objective=minus_squared_distance,
        rule=rule or HalvingStep(),
        num_steps=num_steps,
        random_start=random_start,
    )


def auto_pgd(image, place, weight, num_steps):
    """Algorithm 1 for one image, with no inertia from before a return to the best place."""
    value = lambda x: -(weight * (x - place) ** 2).sum()  # noqa: E731
    slope = lambda x: -2 * weight * (x - place)  # noqa: E731
    project = lambda x: np.clip(x, image - EPSILON, image + EPSILON).clip(0, 1)  # noqa: E731
    step, x, before, values, best, sizes = 2 * EPSILON, image, None, [value(image)], image, []
    last_check, best_then, halved_then = 0, None, True
    for k in range(num_steps - 1):
        halve = False
        if k in check_points(num_steps):
            rises = sum(values[i + 1] > values[i] for i in range(last_check, k))
            stuck = not halved_then and value(best) == best_then
            halve = rises < 0.75 * (k - last_check) or stuck
            last_check, best_then, halved_then = k, value(best), halve
        if halve:
            step, x, before = step / 2, best, best
        moved = project(x + step * np.sign(slope(x)))
        following = moved if k == 0 else project(x + 0.75 * (moved - x) + 0.25 * (x - before))
        before, x = x, following
        values.append(value(x))
        best = x if value(x) > value(best) else best
        sizes.append(step)
    return best, sizes


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("num_steps", [1, 10, 40])
def test_the_images_returned_are_those_of_auto_pgd(seed, num_steps):
    images, goal = case(seed)
    result = tf.function(attack_of(num_steps))(relax, images, goal, SEED).numpy().reshape(4, -1)
    for row in range(4):
        arguments = (x[row].astype(np.float64).ravel() for x in (images, goal["places"], goal["weights"]))
        expected, sizes = auto_pgd(*arguments, num_steps)
        np.testing.assert_allclose(result[row], expected, rtol=0, atol=2e-6)
        assert num_steps < 40 or sizes[-1] <= EPSILON / 2  # it had to halve twice at least


def test_the_best_images_of_all_that_were_seen_are_returned_and_each_step_looks_once():
    images, goal = case(9)
    seen = []

    def counted(x, alpha):
        seen.append(x.numpy())
        return relax(x, alpha)

    result = attack_of(30, random_start=True)(counted, images, goal, SEED).numpy()
    values = np.array([minus_squared_distance(relax(x, 1.0), goal) for x in seen])  # (30, B)
    assert len(seen) == 30
    for row in range(4):
        np.testing.assert_array_equal(result[row], seen[values[:, row].argmax()][row])


def test_an_objective_that_stalls_shortens_the_steps_of_its_image_alone():
    images, goal = case(2, rows=2)
    goal["places"][0] = images[0].ravel() + 0.31 * EPSILON  # inside: steps of 2 epsilon jump over it
    goal["places"][1] = images[1].ravel() + 5 * EPSILON  # outside: every pixel goes to the edge, and stays
    seen = []

    def counted(x, alpha):
        seen.append(x.numpy())
        return relax(x, alpha)

    attack_of(100)(counted, images, goal, SEED)
    lengths = [np.abs(after - before).max(axis=(1, 2, 3)) for before, after in itertools.pairwise(seen)]
    longest = lambda row, first, last: max(length[row] for length in lengths[first:last])  # noqa: E731
    assert longest(0, 0, 22) > EPSILON
    assert longest(0, 88, 99) < EPSILON / 8
    np.testing.assert_allclose(seen[-1][1], images[1] + EPSILON, atol=1e-6)


def test_where_sign_steps_of_one_size_cannot_settle_it_comes_nearer():
    images, goal = case(5)
    ends = [
        minus_squared_distance(relax(tf.function(attack_of(100, rule))(relax, images, goal, SEED), 1.0), goal).numpy()
        for rule in (SignStep(2 * EPSILON), HalvingStep())
    ]
    assert (ends[1] > ends[0]).all()
