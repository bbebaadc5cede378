"""Each check on a case that it must report and on one that it must not."""

import re
from pathlib import Path

import numpy as np
import pytest

from saat_tf.evaluation.sanity_checks import checks, map_checks

DOCS = Path(__file__).parents[4] / "docs" / "evaluation.md"
SLOPE = np.ones((1, 4, 4, 3))


def gradients(zero_images, zero_pixels_of_others):
    """Return the gradients of 100 images of 10 values."""
    values = np.ones((100, 1, 10, 1))
    values[:, :, :zero_pixels_of_others] = 0
    values[:zero_images] = 0
    return values


def trajectory(*values):
    return np.array(values, float)


CASES = [
    ("zero-gradients", lambda: checks.zero_gradients(gradients(0, 0)), False),
    ("zero-gradients", lambda: checks.zero_gradients(gradients(1, 3)), False),
    ("zero-gradients", lambda: checks.zero_gradients(gradients(2, 0)), True),
    ("zero-gradients", lambda: checks.zero_gradients(gradients(0, 5)), False),
    ("zero-gradients", lambda: checks.zero_gradients(gradients(0, 6)), True),
    ("zero-gradients", lambda: checks.zero_gradients(SLOPE * np.nan), True),
    ("saturated-bits", lambda: checks.saturated_bits(np.array([[0.9991] + [0.5] * 9]), 1.0), False),
    ("saturated-bits", lambda: checks.saturated_bits(np.array([[-0.9991] * 2 + [0.5] * 8]), 1.0), True),
    ("saturated-bits", lambda: checks.saturated_bits(np.full((2, 8), 0.998), 0.1), False),
    ("more-steps-attack-less", lambda: map_checks.more_attacks_less([(100, 0.2), (10, 0.4)], "steps"), False),
    ("more-steps-attack-less", lambda: map_checks.more_attacks_less([(100, 0.4), (10, 0.2)], "steps"), True),
    ("more-steps-attack-less", lambda: map_checks.more_attacks_less([(10, 0.2), (100, 0.205)], "steps"), False),
    (
        "more-epsilon-attack-less",
        lambda: map_checks.more_attacks_less([(4, 0.5), (8, 0.1), (16, 0.3)], "epsilon"),
        True,
    ),
    ("more-epsilon-attack-less", lambda: map_checks.more_attacks_less([(4, 0.5), (8, 0.1)], "epsilon"), False),
    # It rises from point to point by less than the margin, and never comes back.
    (
        "more-epsilon-attack-less",
        lambda: map_checks.more_attacks_less([(1, 0.30), (2, 0.306), (4, 0.312), (8, 0.318)], "epsilon"),
        True,
    ),
    (
        "more-steps-attack-less",
        lambda: map_checks.more_attacks_less([(1, 0.2), (2, 0.5)], "steps", targeted=True),
        False,
    ),
    (
        "more-steps-attack-less",
        lambda: map_checks.more_attacks_less([(1, 0.5), (2, 0.2)], "steps", targeted=True),
        True,
    ),
    ("noise-wins", lambda: map_checks.noise_wins(0.3, 0.7), False),
    ("noise-wins", lambda: map_checks.noise_wins(0.3, 0.295), False),
    ("noise-wins", lambda: map_checks.noise_wins(0.3, 0.28), True),
    ("noise-wins", lambda: map_checks.noise_wins(0.3, 0.4, targeted=True), True),
    ("noise-wins", lambda: map_checks.noise_wins(0.4, 0.3, targeted=True), False),
    ("black-box-wins", lambda: map_checks.black_box_wins(0.3, 0.28), True),
    ("black-box-wins", lambda: map_checks.black_box_wins(0.28, 0.3), False),
    ("still-rising", lambda: checks.still_rising(np.linspace(-1, 1, 21)), True),
    ("still-rising", lambda: checks.still_rising(trajectory(-1, 0, 0.5, 0.9, 1, 1, 1, 1, 1, 1, 1)), False),
    ("still-rising", lambda: checks.still_rising(trajectory(0, 0, 0, 0)), False),
    ("still-rising", lambda: checks.still_rising(trajectory(1, 0.5, 0, 0)), False),
    # One image rises as much as the other falls.
    ("still-rising", lambda: checks.still_rising(np.stack([np.arange(9.0), -np.arange(9.0)], axis=1)), False),
    ("stochastic-model", lambda: checks.stochastic_model(np.full((1, 8), 0.5), np.full((1, 8), 0.50001)), False),
    ("stochastic-model", lambda: checks.stochastic_model(np.full((1, 8), 0.5), np.full((1, 8), 0.51)), True),
    ("stochastic-model", lambda: checks.stochastic_model(np.full((1, 8), 0.5), np.full((1, 8), np.nan)), True),
    ("left-ball", lambda: checks.left_ball(np.array([0.0, 8 / 255]), 8), False),
    ("left-ball", lambda: checks.left_ball(np.array([0.0, 8.01 / 255]), 8), True),
    ("left-ball", lambda: checks.left_ball(np.array([0.0, np.nan]), 8), True),
    ("above-clean", lambda: map_checks.above_clean(0.8, 0.8), False),
    ("above-clean", lambda: map_checks.above_clean(0.8, 0.8001), True),
    ("above-clean", lambda: map_checks.above_clean(0.2, 0.8, targeted=True), False),
    ("above-clean", lambda: map_checks.above_clean(0.2, 0.1, targeted=True), True),
    ("below-chance", lambda: map_checks.below_chance(0.35, 0.34), False),
    ("below-chance", lambda: map_checks.below_chance(0.33, 0.34), True),
]


@pytest.mark.parametrize(("name", "make", "raised"), CASES, ids=[f"{i}-{case[0]}" for i, case in enumerate(CASES)])
def test_a_check_is_raised_when_it_must_be(name, make, raised):
    finding = make()
    assert (finding.check, finding.raised) == (name, raised)
    assert finding.message.endswith(".") and finding.remedy.endswith(".")


def test_every_check_has_a_case_of_both_kinds():
    names = {name for name, _, _ in CASES}
    raised = {name for name, _, raised in CASES if raised}
    passed = {name for name, _, raised in CASES if not raised}
    assert names == raised == passed


def test_the_docs_explain_exactly_the_checks_that_there_are():
    _, _, section = DOCS.read_text(encoding="utf-8").partition("\n## Checks\n")
    section, _, _ = section.partition("\n## ")
    explained = {name for line in re.findall(r"^### (.+)$", section, re.M) for name in line.split(", ")}
    assert explained == {name for name, _, _ in CASES}
    headings = section.count("\n### ")
    assert section.count("Raised when") == section.count("Why:") == section.count("What to do:") == headings


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: checks.zero_gradients(np.empty((0, 4, 4, 3))), "`gradients` must contain"),
        (lambda: checks.left_ball(np.array([]), 8), "`linf` must contain"),
        (lambda: checks.left_ball(np.array([0.1]), 256), "1/255"),
        (lambda: checks.still_rising(np.array([1.0])), "at least two"),
        (lambda: checks.still_rising(np.array([1.0, np.nan])), "finite"),
        (lambda: checks.stochastic_model(np.ones((2, 8)), np.ones((3, 8))), "one shape"),
        (lambda: map_checks.more_attacks_less([(1, 0.5)], "steps"), "At least two"),
        (lambda: map_checks.more_attacks_less([(1, 0.5), (2, 0.5)], "bits"), "steps, epsilon"),
        (lambda: map_checks.noise_wins(float("nan"), 0.5), "lies in"),
        (lambda: map_checks.above_clean(0.5, 53.0), "lies in"),
    ],
)
def test_bad_input_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_the_message_names_the_points_that_disagree():
    finding = map_checks.more_attacks_less([(4, 0.5), (8, 0.1), (16, 0.3)], "epsilon")
    assert "0.100 at 8 and 0.300 at 16" in finding.message
