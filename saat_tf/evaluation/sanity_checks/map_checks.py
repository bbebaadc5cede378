"""Checks that compare MAPs: of stronger and weaker attacks, of noise, and of chance."""

from collections.abc import Sequence

import numpy as np

from saat_tf.evaluation.sanity_checks.checks import Finding

# Well above the difference between two seeds of one attack: 0.001 on 150 queries of drawn scenes.
MAP_MARGIN = 0.01


def more_attacks_less(points: Sequence[tuple[float, float]], of: str, *, targeted: bool = False) -> Finding:
    """Warn where an attack with more steps, or in a larger ball, does less than one with fewer or a smaller one.

    Args:
        points: (steps or epsilon, MAP), at least two; of a targeted attack the t-MAP.
        of: "steps" or "epsilon": what grows.
        targeted: whether a stronger attack has a larger value.

    Returns:
        A finding, raised where a point is weaker by more than 0.01 than one with a smaller first number.

    Raises:
        ValueError: fewer than two points, a MAP outside [0, 1], or an unknown `of`.

    Example:
        >>> more_attacks_less([(10, 0.5), (100, 0.3)], "steps").raised
        False
        >>> more_attacks_less([(4, 0.5), (8, 0.3), (16, 0.4)], "epsilon").raised
        True
    """
    if of not in ("steps", "epsilon"):
        raise ValueError(f"`of` must be one of steps, epsilon. Received: {of!r}.")
    if len(points) < 2:
        raise ValueError(f"At least two points are needed to compare. Received: {len(points)}.")
    points = sorted(points)
    values = np.array([_checked_map(value) for _, value in points])
    weakness = -values if targeted else values
    strongest_before = np.minimum.accumulate(weakness)
    worst = int(np.argmax(weakness - strongest_before))
    best = int(np.argmin(weakness[: worst + 1]))
    loss = float(weakness[worst] - strongest_before[worst])
    measured = f"{'t-MAP' if targeted else 'MAP'} is {values[best]:.3f} at {points[best][0]:g}"
    if worst == best:
        last = len(points) - 1
        message = f"With more {of} the attack never weakens: {measured}, {values[last]:.3f} at {points[last][0]:g}."
    else:
        message = f"With more {of} the attack weakens: {measured} and {values[worst]:.3f} at {points[worst][0]:g}."
    return Finding(
        f"more-{of}-attack-less",
        loss > MAP_MARGIN,
        message,
        "Take smaller steps, more restarts, another step rule; report the worst case per query over all of them.",
    )


def noise_wins(white_box_map: float, noise_map: float, *, targeted: bool = False) -> Finding:
    """Warn where a random point of the ball does more than the attack.

    Args:
        white_box_map: MAP under the attack that sees gradients; t-MAP where `targeted`.
        noise_map: the same for images with random noise of the same radius.
        targeted: whether a stronger attack has a larger value.

    Returns:
        A finding, raised where noise is the stronger by more than 0.01.

    Raises:
        ValueError: a MAP outside [0, 1].

    Example:
        >>> noise_wins(0.2, 0.6).raised, noise_wins(0.6, 0.2).raised
        (False, True)
    """
    return _weaker_wins("noise", white_box_map, noise_map, targeted)


def black_box_wins(white_box_map: float, black_box_map: float, *, targeted: bool = False) -> Finding:
    """Warn where an attack that sees codes alone does more than one that sees gradients.

    Args:
        white_box_map: the strongest MAP under attacks that see gradients; t-MAP where `targeted`.
        black_box_map: the same under one that does not.
        targeted: whether a stronger attack has a larger value.

    Returns:
        A finding, raised where the black box is the stronger by more than 0.01.

    Raises:
        ValueError: a MAP outside [0, 1].

    Example:
        >>> black_box_wins(0.2, 0.205).raised, black_box_wins(0.2, 0.1).raised
        (False, True)
    """
    return _weaker_wins("black-box", white_box_map, black_box_map, targeted)


def _weaker_wins(weaker: str, white_box_map: float, weaker_map: float, targeted: bool) -> Finding:
    lead = _checked_map(white_box_map) - _checked_map(weaker_map)
    return Finding(
        f"{weaker}-wins",
        (-lead if targeted else lead) > MAP_MARGIN,
        f"{'t-MAP' if targeted else 'MAP'} is {weaker_map:.3f} under {weaker}, {white_box_map:.3f} under the attack "
        "with gradients.",
        "The gradients do not lead to adversarial images: look for masked gradients, try other objectives and step "
        "rules, and report the smaller figure.",
    )


def above_clean(clean_map: float, attacked_map: float, *, targeted: bool = False) -> Finding:
    """Warn where the attack helps the search.

    Args:
        clean_map: MAP of the queries as they are; where `targeted`, their t-MAP.
        attacked_map: the same of their adversarial images.
        targeted: whether a stronger attack has a larger value.

    Returns:
        A finding, raised where the attack moves the value the wrong way.

    Raises:
        ValueError: a MAP outside [0, 1].

    Example:
        >>> above_clean(0.8, 0.4).raised, above_clean(0.8, 0.81).raised
        (False, True)
    """
    rise = _checked_map(attacked_map) - _checked_map(clean_map)
    name = "t-MAP" if targeted else "MAP"
    return Finding(
        "above-clean",
        (-rise if targeted else rise) > 0,
        f"{name} is {clean_map:.3f} without the attack and {attacked_map:.3f} under it.",
        "The attack moves the wrong way or not at all: check the sign of its goal, its labels and its step.",
    )


def below_chance(attacked_map: float, chance: float) -> Finding:
    """Warn where a defended model under attack is worse than guessing.

    Args:
        attacked_map: MAP of the defended model under attack.
        chance: the relevance prior, `saat_tf.metrics.chance_map`.

    Returns:
        A finding, raised where the MAP is below chance.

    Raises:
        ValueError: a MAP outside [0, 1].

    Example:
        >>> below_chance(0.5, 0.34).raised, below_chance(0.2, 0.34).raised
        (False, True)
    """
    return Finding(
        "below-chance",
        _checked_map(attacked_map) < _checked_map(chance),
        f"MAP under attack is {attacked_map:.3f}, that of guessing {chance:.3f}.",
        "Do not call the model partly robust: the attacker decides what it finds. Train it longer or against a "
        "stronger attack.",
    )


def _checked_map(value: float) -> float:
    if not 0 <= value <= 1:
        raise ValueError(f"A MAP lies in [0, 1]. Received: {value}.")
    return value
