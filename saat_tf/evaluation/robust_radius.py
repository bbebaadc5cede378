"""The radius up to which an encoder retrieves better than by chance, whatever of the attacks it meets."""

from collections.abc import Callable

LARGEST = 64


def robust_radius(
    worst_case: Callable[[int], float], chance: float, *, largest: int = LARGEST
) -> tuple[int, int | None]:
    """Find the radius at which the worst case falls to chance, to one unit of 1/255.

    The radius doubles from 1 until the score is at chance or below; then the interval is halved. It is assumed that a
    larger ball leaves no higher score; where attacks fail to show that, the radius found is one of several.

    Args:
        worst_case: radius in units of 1/255 -> score of the encoder in the worst case over the attacks, such as MAP.
        chance: the score of a random order.
        largest: the largest radius to try, at least 1.

    Returns:
        low and high: the score is above chance at low/255, and at chance or below at high/255, high = low + 1. low is 0
        where one unit is enough; high is None where the score is above chance at `largest`.

    Raises:
        ValueError: `largest` is below 1.

    Example:
        >>> robust_radius(lambda radius: 0.5 - 0.02 * radius, chance=0.27)
        (11, 12)
    """
    if largest < 1:
        raise ValueError(f"`largest` must be at least 1. Received: {largest}.")
    low, high = 0, 1
    while worst_case(high) > chance:
        if high == largest:
            return largest, None
        low, high = high, min(2 * high, largest)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if worst_case(middle) > chance else (low, middle)
    return low, high
