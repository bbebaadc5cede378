"""Schedules of alpha, the sharpness of the tanh, over the steps of an attack."""

ALPHAS = (0.1, 0.1, 0.1, 0.1, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0)


def rising_alphas(num_steps: int) -> list[float]:
    """Return alpha for each step: ten equal segments from 0.1 up to 1.

    A flat tanh keeps gradients alive at the beginning, a sharp one counts bits at the end.

    Args:
        num_steps: number of steps of the attack.

    Example:
        >>> rising_alphas(5)
        [0.1, 0.1, 0.1, 0.3, 0.7]

    References:
        The authors' attack settings for arXiv 2310.14637.
    """
    return [ALPHAS[len(ALPHAS) * step // num_steps] for step in range(num_steps)]


def constant_alphas(num_steps: int) -> list[float]:
    """Return alpha = 1 for each step, as the inner loop of SAAT's training has it."""
    return [1.0] * num_steps
