"""Confidence of smoothing by simulation on linear encoders, whose probabilities are known."""

import math

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from saat_tf.certify import sampling, smoothing
from saat_tf.certify.sampling import count_votes
from saat_tf.certify.smoothing import Votes, certified_bits, certified_radii, least_draws, smoothed_distances
from tests.saat_tf.certify.mutants import mutant

SIGMA, RADIUS, BITS, ALPHA, TRIALS = 0.5, 0.3, 6, 0.05, 4000
TAU = stats.norm.cdf(RADIUS / SIGMA)


def drawn_votes(module, probabilities, draws=400, selection=50, seed=0):
    """Votes of TRIALS queries with these probabilities of +1, each bit on its own."""
    random = np.random.default_rng(seed)
    shape = (TRIALS, len(probabilities))
    ones = random.binomial(draws, probabilities, shape)
    return module.Votes(ones, draws, random.binomial(selection, probabilities, shape), selection, SIGMA)


def standard_error(rate):
    return math.sqrt(rate * (1 - rate) / TRIALS)


def check_fixed_radius(module):
    """Bits whose probability is just not enough are certified in at most alpha of the trials, and sure ones always."""
    weak, sure = 3, BITS - 3
    for side in (1, -1):
        probabilities = np.array([TAU] * weak + [1 - 1e-9] * sure)
        votes = drawn_votes(module, probabilities if side == 1 else 1 - probabilities)
        certified = module.certified_bits(votes, RADIUS, ALPHA)
        assert certified[:, weak:].all()
        wrong = certified[:, :weak].any(axis=1).mean()
        assert wrong <= ALPHA + 3 * standard_error(ALPHA)
        assert wrong > ALPHA / 10  # it is a test, and no refusal of everything
    # A bit of no side is never far from 1/2, though its draws' majority always looks like one.
    split = module.certified_bits(drawn_votes(module, np.array([0.5] * BITS), draws=20, selection=5), 0.01, ALPHA)
    assert split.any(axis=1).mean() <= ALPHA + 3 * standard_error(ALPHA)


def check_radii(module):
    """The radius of each bit is below the true one, sigma |Phi^-1(p)|, in all bits of 1 - alpha of the trials."""
    probabilities = np.array([0.9, 0.1, 0.7, 0.55, 0.999, 0.4])
    for draws in (50, 1000):
        votes = drawn_votes(module, probabilities, draws)
        right = (probabilities >= 0.5) == votes.majority
        true = np.where(right, SIGMA * np.abs(stats.norm.ppf(probabilities)), 0)
        wrong = (module.certified_radii(votes, ALPHA) > true).any(axis=1).mean()
        assert wrong <= ALPHA + 3 * standard_error(ALPHA)
        assert draws == 50 or wrong > ALPHA / 10


def check_distances(module):
    """Expected distances of a moved query under a linear encoder lie in their intervals."""
    random = np.random.default_rng(0)
    weights = np.linalg.qr(random.normal(size=(BITS, BITS)))[0]
    point, database = random.normal(size=BITS) * 0.4, random.choice([-1, 1], (5, BITS))
    expected = lambda x: module.smoothed_distances((2 * stats.norm.cdf(weights @ x / SIGMA) - 1)[None], database)[0]  # noqa: E731
    draws = 3000
    ones = random.binomial(draws, stats.norm.cdf(weights @ point / SIGMA))
    counted = module.smoothed_distances((2 * ones / draws - 1)[None], database)
    nearest, farthest = module.smoothed_distance_intervals(counted, draws, RADIUS, SIGMA, 1e-3)
    for code in database:  # straight towards the code and away from it, and anywhere
        toward = code @ weights / np.linalg.norm(code @ weights)
        for direction in (toward, -toward, *(random.normal(size=(20, BITS)))):
            moved = expected(point + RADIUS * direction / np.linalg.norm(direction))
            assert (nearest[0] <= moved).all() and (moved <= farthest[0]).all()
    assert (farthest - nearest).max() < 1
    # The bound itself is that of a half-space: one bit is one, and its distance moves all the way.
    one = module.smoothed_distances(np.array([[2 * stats.norm.cdf(0.2) - 1]]), np.array([[-1]]))
    many = 10**9
    nearest, farthest = module.smoothed_distance_intervals(one, many, RADIUS, SIGMA, 1e-3)
    for end, shift in ((nearest, -RADIUS), (farthest, RADIUS)):
        assert end[0, 0] == pytest.approx(stats.norm.cdf(0.2 + shift / SIGMA), abs=1e-4)
        assert (end[0, 0] - stats.norm.cdf(0.2 + shift / SIGMA)) * shift >= 0


CHECKS = (check_fixed_radius, check_radii, check_distances)


@pytest.mark.parametrize("check", CHECKS)
def test_smoothing_is_right_with_its_confidence(check):
    check(smoothing)


@pytest.mark.parametrize(
    ("check", "old", "new"),
    [
        (check_fixed_radius, "alpha / (bits - np.arange(bits))", "alpha * np.ones(bits)"),
        (check_fixed_radius, "votes.agreeing - 1, votes.draws, tau", "votes.agreeing - 1, votes.draws, 0.5"),
        (check_fixed_radius, "tau = stats.norm.cdf(radius / votes.sigma)", "tau = stats.norm.cdf(radius)"),
        (check_fixed_radius, "self.draws - self.ones)", "self.ones)"),
        (check_radii, "alpha / bits, np.maximum", "alpha, np.maximum"),
        (check_radii, "votes.sigma * stats", "2 * votes.sigma * stats"),
        (check_radii, "votes.draws - agreeing + 1)", "votes.draws - agreeing + 0.1)"),
        (check_distances, "(1 - products", "(1 + products"),
        (check_distances, "(low) - shift)", "(low))"),
        (check_distances, "(high) + shift)", "(high))"),
        (check_distances, "np.clip(distances - width, 0, 1)", "np.clip(distances + width, 0, 1)"),
    ],
)
def test_a_planted_bug_is_found(check, old, new):
    with pytest.raises(AssertionError):
        check(mutant(smoothing, old, new))


def test_published_largest_radii():
    # sigma Phi^-1((alpha / K)^(1 / n)): 2.31 and 3.08 sigma at 1,000 and 10,000 draws, alpha 1e-3 and 32 bits.
    for draws, expected in ((1000, 2.31), (10_000, 3.08)):
        votes = Votes(np.full((1, 32), draws), draws, np.full((1, 32), 9), 9, sigma=1.0)
        assert certified_radii(votes, 1e-3) == pytest.approx(expected, abs=0.005)


def test_holm_certifies_more_than_bonferroni_and_no_less():
    votes = drawn_votes(smoothing, np.array([TAU + 0.07] * 3 + [0.999] * 3))
    holm = certified_bits(votes, RADIUS, ALPHA)
    bonferroni = certified_radii(votes, ALPHA) > RADIUS
    assert (holm | ~bonferroni).all()
    assert holm.sum() > bonferroni.sum()


def test_noise_is_normal_and_draws_are_independent_of_batches():
    image, sigma = np.full((2, 2, 2, 3), 0.5, np.float32), 0.2
    offsets = tf.constant([0.5, 0.55, 0.4, 0.5 - 3 * sigma])
    encode = lambda x: tf.reduce_mean(x, axis=[1, 2, 3])[:, None] * 12**0.5 - offsets * 12**0.5  # noqa: E731
    votes = count_votes(encode, image, sigma=sigma, draws=20_000, selection_draws=100, seed=1)
    # The mean of 12 values has the standard deviation sigma / sqrt(12).
    expected = stats.norm.cdf((0.5 - offsets.numpy()) * 12**0.5 / sigma)
    assert votes.ones / votes.draws == pytest.approx(np.tile(expected, (2, 1)), abs=4 * 0.5 / 20_000**0.5)
    assert (votes.ones[0] != votes.ones[1]).any()
    other = count_votes(encode, image[1:], sigma=sigma, draws=20_000, selection_draws=100, seed=1, first=1)
    assert (other.ones[0] == votes.ones[1]).all()


def test_selection_draws_are_their_own(monkeypatch):
    monkeypatch.setattr(sampling, "BATCH_VALUES", 3 * 7)  # seven draws at a time
    image = np.full((1, 1, 1, 3), 0.5, np.float32)
    votes = count_votes(lambda x: x[:, 0, 0] - 0.5, image, sigma=1.0, draws=500, selection_draws=500, seed=0)
    assert (votes.ones != votes.selection_ones).any()
    assert np.abs(votes.ones - 250).max() < 4 * 500**0.5 / 2


GOOD = Votes(np.array([[90]]), 100, np.array([[9]]), 10, sigma=0.5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Votes(np.array([[1]]), 10, np.array([[1]]), 10, sigma=0.0), "`sigma` must be above 0"),
        (lambda: Votes(np.array([[11]]), 10, np.array([[1]]), 10, sigma=1.0), r"Counts must lie in \[0, draws\]"),
        (lambda: certified_bits(GOOD, 0.0, 0.1), "`radius` must be above 0"),
        (lambda: certified_bits(GOOD, 0.5, 1.0), "`alpha`"),
        (lambda: certified_bits(GOOD, 1.5, 1e-3), "Draw at least 5114, or raise sigma"),
        (lambda: least_draws(50.0, 0.5, 1e-3, 32), "no number of draws"),
        (lambda: smoothing.smoothed_distance_intervals(np.zeros((1, 4)), 3, 0.1, 0.5, 0.1), "Draw at least 9"),
        (lambda: count_votes(lambda x: x[:, 0, 0], np.zeros((1, 1, 1, 3), np.float32), sigma=1.0, draws=0,
                             selection_draws=1, seed=0), "at least 1. Received: 0"),
    ],
)  # fmt: skip
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_the_number_of_draws_asked_for_is_enough_and_one_less_is_not():
    needed = least_draws(0.6, 0.5, 1e-3, 1)
    for draws, enough in ((needed, True), (needed - 1, False)):
        votes = Votes(np.array([[draws]]), draws, np.array([[1]]), 1, sigma=0.5)
        if enough:
            assert certified_bits(votes, 0.6, 1e-3).all()
        else:
            with pytest.raises(ValueError, match=f"Draw at least {needed}"):
                certified_bits(votes, 0.6, 1e-3)


def test_smoothed_distance_is_the_mean_of_drawn_distances():
    random = np.random.default_rng(0)
    codes, database = random.choice([-1, 1], (500, 8)), random.choice([-1, 1], (4, 8))
    means = (codes[:, None] != database[None]).mean(axis=(0, 2))
    assert smoothed_distances(codes.mean(axis=0)[None], database)[0] == pytest.approx(means)
