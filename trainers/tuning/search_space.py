"""Search space of a sweep: options of the adversarial phase, each with values or a range."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import keras_tuner as kt

from trainers.recipes.inner_options import STEP_OPTIONS
from trainers.recipes.option_checks import check_recipe
from trainers.recipes.recipe import Recipe

INTEGERS = ("num_steps",)
# Options that change nothing of the undefended model, from which every trial starts.
SWEPT = (
    "epsilon_255", "step_255", "num_steps", "adversarial_weight", "quantization_weight", "learning_rate",
    "weight_decay", "ema_momentum", "adversarial_hashing_weight", "consistency_weight", "weight_perturbation",
)  # fmt: skip
DIGITS = 6


@dataclasses.dataclass(frozen=True)
class Dimension:
    """One option of the recipe and what a sweep may set it to.

    Args:
        name: of the recipe's field.
        values: what to choose from; of a range its lowest and its highest value.
        scale: "list", or of a range "linear" or "log": uniform in the value or in its logarithm.
    """

    name: str
    values: tuple[float, ...]
    scale: str

    def grid(self) -> tuple[float, ...]:
        """Return the values that a grid search tries: all of a list; of a range both ends and the middle of its scale.

        Example:
            >>> read_dimension("step-255=0.5..8:log").grid()
            (0.5, 2.0, 8.0)
        """
        if self.scale == "list":
            return self.values
        low, high = self.values
        between = math.sqrt(low * high) if self.scale == "log" else (low + high) / 2
        middle = round(between) if self.name in INTEGERS else rounded(between)
        return tuple(dict.fromkeys((low, middle, high)))

    def __str__(self) -> str:
        name, values = self.name.replace("_", "-"), [f"{value:g}" for value in self.values]
        if self.scale == "list":
            return f"{name}={','.join(values)}"
        return f"{name}={'..'.join(values)}{':log' if self.scale == 'log' else ''}"


def default_space(recipe: Recipe) -> tuple[str, ...]:
    """Return the search space of a sweep that names none: around the settings of the recipe and its defense."""
    rate = recipe.learning_rate
    space = (
        "epsilon-255=4..16", "step-255=0.5..4:log", "num-steps=3..10", "adversarial-weight=0.3..5:log",
        "quantization-weight=1e-5..1e-2:log", f"learning-rate={rate / 10:g}..{rate * 3:g}:log",
    )  # fmt: skip
    unread = ["quantization-weight"] if recipe.defense == "atrdh" else []
    unread += [name.replace("_", "-") for name in STEP_OPTIONS] if recipe.inner != "pgd" else []
    return tuple(text for text in space if text.partition("=")[0] not in unread)


def read_space(texts: Sequence[str], recipe: Recipe) -> tuple[Dimension, ...]:
    """Read a search space and check that the recipe can have every value of it.

    Args:
        texts: NAME=A,B,C or NAME=LOW..HIGH or NAME=LOW..HIGH:log each.
        recipe: whose options the names are.

    Raises:
        ValueError: an option that cannot be swept or is there twice, or values that are none or out of range.
    """
    space = tuple(read_dimension(text) for text in texts)
    names = [dimension.name for dimension in space]
    if len(set(names)) < len(names):
        raise ValueError(f"--space must name each option once. Received: {' '.join(texts)}.")
    if recipe.defense == "atrdh" and "quantization_weight" in names:
        raise ValueError("--space quantization-weight: --defense atrdh has no such term. Leave it out.")
    for dimension in space:
        for value in dimension.values:
            try:
                check_recipe(dataclasses.replace(recipe, **dict[str, Any]({dimension.name: value})))
            except ValueError as error:
                raise ValueError(f"--space {dimension}: {error}") from error
    return space


def read_dimension(text: str) -> Dimension:
    """Read one part of a search space.

    Raises:
        ValueError: it is not of the form NAME=A,B,C or NAME=LOW..HIGH or NAME=LOW..HIGH:log.

    Example:
        >>> read_dimension("num-steps=3..10")
        Dimension(name='num_steps', values=(3, 10), scale='linear')
        >>> read_dimension("learning-rate=1e-4,1e-3").values
        (0.0001, 0.001)
    """
    option, _, right = text.partition("=")
    name = option.replace("-", "_")
    if name not in SWEPT:
        allowed = ", ".join(option.replace("_", "-") for option in SWEPT)
        raise ValueError(
            f"--space must sweep options of adversarial training: {allowed}. Received: {option}. What shapes the "
            "undefended model stays fixed, since every trial starts from it."
        )
    body, _, scale = right.partition(":")
    low, is_range, high = body.partition("..")
    try:
        values = [_number(name, value) for value in ([low, high] if is_range else body.split(","))]
    except ValueError as error:
        raise ValueError(
            f"--space {option} must be values as {option}=1,2,4, or a range as {option}=1..4 or {option}=1..4:log; "
            f"whole numbers for {', '.join(INTEGERS).replace('_', '-')}. Received: {text}."
        ) from error
    if scale not in ("", "log") or (scale and not is_range):
        raise ValueError(f"--space {option}: a range may end with :log, a list may not. Received: {text}.")
    if is_range and not values[0] < values[1]:
        raise ValueError(f"--space {option} must go from low to high. Received: {text}.")
    if scale and values[0] <= 0:
        raise ValueError(f"--space {option}: a range on a log scale begins above 0. Received: {text}.")
    if len(set(values)) < len(values):
        raise ValueError(f"--space {option} must list each value once. Received: {text}.")
    return Dimension(name, tuple(values), (scale or "linear") if is_range else "list")


def hyperparameters(space: Sequence[Dimension], *, grid: bool = False) -> kt.HyperParameters:
    """Return the space as KerasTuner knows it; for a grid search as lists, since it draws from a range in any order."""
    parameters = kt.HyperParameters()
    for dimension in space:
        if grid or dimension.scale == "list":
            parameters.Choice(dimension.name, list(dimension.grid()))
        else:
            add = parameters.Int if dimension.name in INTEGERS else parameters.Float
            add(dimension.name, *dimension.values, sampling=dimension.scale)
    return parameters


def rounded(value: float) -> float:
    """Round a number to six digits, as it is shown, so that what is shown repeats the trial; integers stay."""
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


def _number(name: str, text: str) -> float:
    value = int(text) if name in INTEGERS else float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return rounded(value)
