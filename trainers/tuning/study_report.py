"""Report of a sweep: table, picture of clean against robust MAP, command that trains the best in full."""

import dataclasses
import shlex
from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import rich.box
import rich.table

from saat_tf.files import write_whole
from trainers.recipes.defense_options import named_recipe
from trainers.recipes.recipe import Recipe
from trainers.tuning.study import COMPLETED, FAILED, Result, best_of

# So that a table fits into 80 columns; README and --help have lambda and mu too.
SHORT = {
    "epsilon_255": "eps",
    "step_255": "step",
    "num_steps": "steps",
    "adversarial_weight": "lambda",
    "quantization_weight": "mu",
    "learning_rate": "rate",
}
TRIAL, FRONT, START, CHANCE = "#adb5bd", "#2a6f97", "#c1121f", "#495057"


def study_table(content: dict, results: Sequence[Result]) -> rich.table.Table:
    """Return the table of all trials, the Pareto-optimal ones marked; undefended model and chance come last."""
    names = list(dict.fromkeys(name for result in results for name in result.values))
    # Without hyperband all trials have the same.
    epochs = ["epochs"] if len({result.epochs for result in results} - {None}) > 1 else []
    best = best_of(results)
    table = rich.table.Table(
        title=f"MAP of {content['queries']}, {content['dataset']}, {content['code_length']} bits, attack of "
        f"{content['epsilon_255']:g}/255",
        caption="* Pareto-optimal: no trial is better in one MAP and as good in the other. ± is half of the 95% "
        "interval of the robust MAP. study.csv has all digits.",
        box=rich.box.SIMPLE_HEAD,
        padding=0,
        show_edge=False,
    )
    table.add_column("trial", no_wrap=True)
    for column in (*(SHORT.get(name, name) for name in names), *epochs, "clean", "robust", "±", "s"):
        table.add_column(column, justify="right", overflow="fold")
    table.add_column("status", overflow="fold")
    for result in results:
        status = "best" if result is best else "done" if result.status == COMPLETED else result.status
        table.add_row(
            f"{result.trial}{' *' if result.pareto else ''}",
            *(f"{result.values[name]:.2g}" for name in names),
            *("-" if result.epochs is None else str(result.epochs) for _ in epochs),
            *_maps(result.clean, result.robust, result.robust_interval),
            "-" if result.seconds is None else f"{result.seconds:.0f}",
            status,
            style="bold" if result.pareto else None,
        )
    start, gaps = content["undefended"], [""] * (len(names) + len(epochs))
    table.add_section()
    table.add_row("undefended", *gaps, *_maps(start["clean"], start["robust"], start["robust_interval"]))
    table.add_row("chance", *gaps, *[f"{content['chance_map']:.3f}"] * 2)
    return table


def plot_pareto(content: dict, results: Sequence[Result], path: Path) -> None:
    """Draw clean against robust MAP of the trials, with the Pareto front, the undefended model and chance."""
    figure, axes = plt.subplots(figsize=(6.8, 4.8), layout="constrained")
    completed = [result for result in results if result.status == COMPLETED]
    front = sorted((result for result in completed if result.pareto), key=lambda result: result.maps[0])
    rest = [result for result in completed if not result.pareto]
    chance, start = content["chance_map"], content["undefended"]
    axes.axvline(chance, color=CHANCE, linestyle=":", linewidth=1)
    axes.axhline(chance, color=CHANCE, linestyle=":", linewidth=1, label=f"chance {chance:.3f}")
    axes.scatter(*_places(rest), color=TRIAL, s=28, label="trial", zorder=2)
    if front:
        axes.step(*_places(front), where="pre", color=FRONT, linewidth=1, zorder=1)
        spread = [[getattr(x, of) - getattr(x, f"{of}_interval")[0] for x in front] for of in ("clean", "robust")]
        above = [[getattr(x, f"{of}_interval")[1] - getattr(x, of) for x in front] for of in ("clean", "robust")]
        axes.errorbar(
            *_places(front), xerr=[spread[0], above[0]], yerr=[spread[1], above[1]], fmt="o", color=FRONT, ecolor=FRONT,
            elinewidth=0.6, alpha=0.9, label="Pareto-optimal, 95% intervals", zorder=3,
        )  # fmt: skip
    axes.scatter(start["clean"], start["robust"], marker="X", color=START, s=70, label="undefended", zorder=3)
    for result in completed:
        axes.annotate(
            str(int(result.trial)), (result.clean, result.robust), xytext=(5, 5), textcoords="offset points",
            fontsize=8, color=FRONT if result.pareto else CHANCE,
        )  # fmt: skip
    failed = sum(result.status == FAILED for result in results)
    axes.set(xlabel="clean MAP", ylabel=f"robust MAP, attack of {content['epsilon_255']:g}/255")
    trials = f"{len(completed)} trials{f', {failed} failed' if failed else ''}"
    axes.set_title(f"{content['dataset']}, {content['code_length']} bits: {trials}", fontsize=10)
    figure.legend(fontsize=8, ncols=4, loc="outside lower center")
    write_whole(path, lambda temporary: figure.savefig(temporary, dpi=110))
    plt.close(figure)


def command_of(recipe: Recipe, data_set: str, result: Result) -> str:
    """Return the command that trains by the options of a trial on all training images, and attacks the test."""
    default = named_recipe(type(recipe), recipe.recipe)
    chosen = dataclasses.replace(recipe, **result.values)
    words = ["python", "-m", f"trainers.{data_set}"]
    if recipe.recipe != "paper":
        words += ["--recipe", recipe.recipe]
    for field in dataclasses.fields(chosen):
        value = getattr(chosen, field.name)
        if field.name == "recipe" or value == getattr(default, field.name):
            continue
        option = field.name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{option}" if value else f"--no-{option}")
        else:
            words += [f"--{option}", *(map(str, value) if isinstance(value, tuple) else [str(value)])]
    return shlex.join(words)


def _maps(clean: float | None, robust: float | None, interval: Sequence[float] | None) -> tuple[str, str, str]:
    if clean is None or robust is None or interval is None:
        return "-", "-", "-"
    return f"{clean:.3f}", f"{robust:.3f}", f"{(interval[1] - interval[0]) / 2:.3f}"


def _places(results: Sequence[Result]) -> tuple[list[float], list[float]]:
    return [result.maps[0] for result in results], [result.maps[1] for result in results]
