"""The radius at which a score falls to chance, against a search of every radius."""

import numpy as np
import pytest

from saat_tf.evaluation.robust_radius import robust_radius


@pytest.mark.parametrize("largest", [1, 2, 5, 64])
def test_it_is_the_first_radius_at_which_the_score_is_not_above_chance(largest):
    for falls_at in range(1, largest + 2):
        tried = []
        scores = np.where(np.arange(largest + 1) < falls_at, 0.5, 0.2)  # at chance itself, it is not above

        def worst_case(radius, scores=scores, tried=tried):
            tried.append(radius)
            return scores[radius]

        high = falls_at if falls_at <= largest else None
        assert robust_radius(worst_case, 0.2, largest=largest) == (falls_at - 1, high)
        assert len(set(tried)) == len(tried) <= 2 * np.log2(largest) + 2


def test_no_radius_is_refused():
    with pytest.raises(ValueError, match=r"`largest` must be at least 1\. Received: 0\."):
        robust_radius(lambda radius: 0.0, 0.2, largest=0)
