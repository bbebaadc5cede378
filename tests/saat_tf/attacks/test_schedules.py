"""How sharp the tanh is at each step."""

import pytest

from saat_tf.attacks.schedules import constant_alphas, rising_alphas

PAPER = [0.1, 0.1, 0.1, 0.1, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0]


@pytest.mark.parametrize("repeat", [1, 2, 10])
def test_multiples_of_ten_steps_have_ten_equal_segments(repeat):
    assert rising_alphas(10 * repeat) == [alpha for alpha in PAPER for _ in range(repeat)]


@pytest.mark.parametrize(
    ("num_steps", "expected"),
    [
        (1, [0.1]),
        (2, [0.1, 0.2]),  # step 1 of 2 begins at half of the way
        (5, [0.1, 0.1, 0.1, 0.3, 0.7]),
        (20, [0.1] * 10 + [0.2] * 2 + [0.3] * 2 + [0.5] * 2 + [0.7] * 2 + [1.0] * 2),
    ],
)
def test_other_numbers_of_steps_read_the_segment_in_which_a_step_begins(num_steps, expected):
    assert rising_alphas(num_steps) == expected


@pytest.mark.parametrize("num_steps", range(1, 131))
def test_alphas_rise_and_there_is_one_for_each_step(num_steps):
    alphas = rising_alphas(num_steps)
    assert len(alphas) == num_steps
    assert alphas == sorted(alphas)
    assert alphas[0] == 0.1
    assert num_steps < 10 or alphas[-1] == 1.0


@pytest.mark.parametrize("num_steps", [1, 7, 100])
def test_the_constant_schedule_is_one_throughout(num_steps):
    assert constant_alphas(num_steps) == [1.0] * num_steps
