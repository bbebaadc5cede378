"""Bootstrap intervals against the exact distribution of a resampled mean of zeros and ones, which is binomial."""

import math

import numpy as np
import pytest

from saat_tf.metrics import bootstrap, bootstrap_interval


def binomial_quantile(number, share, level):
    below = 0.0
    for hits in range(number + 1):
        below += math.comb(number, hits) * share**hits * (1 - share) ** (number - hits)
        if below >= level:
            return hits / number
    return 1.0


@pytest.mark.parametrize(("number", "hits"), [(100, 50), (60, 6), (40, 39)])
@pytest.mark.parametrize("level", [0.95, 0.5])
def test_the_interval_of_zeros_and_ones_is_that_of_the_binomial(number, hits, level):
    values = np.arange(number) < hits
    found = bootstrap_interval(values, level=level, num_resamples=20_000)
    tails = (1 - level) / 2, (1 + level) / 2
    exact = [binomial_quantile(number, hits / number, tail) for tail in tails]
    np.testing.assert_allclose(found, exact, atol=1.01 / number)  # the mean moves in steps of 1 / number


def test_a_seed_gives_one_interval_and_another_seed_another(monkeypatch):
    values = np.random.default_rng(0).random(50)
    first = bootstrap_interval(values, seed=1)
    assert bootstrap_interval(values, seed=1) == first
    assert bootstrap_interval(values, seed=2) != first
    assert first[0] < values.mean() < first[1]
    monkeypatch.setattr(bootstrap, "BLOCK_DRAWS", 333)  # blocks of six resamples
    assert bootstrap_interval(values, seed=1) == pytest.approx(first, abs=0.02)


def test_one_value_is_its_own_interval():
    assert bootstrap_interval(np.array([0.25])) == (0.25, 0.25)


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [
        ([], {}, "`values`"),
        ([[0.5]], {}, "`values`"),
        ([0.5, float("nan")], {}, "finite"),
        ([0.5], {"level": 1.0}, "`level`"),
        ([0.5], {"level": 95}, "Received: 95"),
        ([0.5], {"num_resamples": 0}, "`num_resamples`"),
    ],
)
def test_what_has_no_interval_is_refused(values, options, message):
    with pytest.raises(ValueError, match=message):
        bootstrap_interval(np.array(values), **options)
