"""Console output of a trainer: progress with the time left, and a last table."""

import logging
import sys
import time
from collections.abc import Iterable, Iterator

import keras
import rich.console
import rich.progress
import rich.table

from saat_tf.devices import device_names, unseen_cards
from saat_tf.evaluation import DEFENSES, defenses_of, result_value
from saat_tf.training.checkpointing import LOOK_EVERY

CONSOLE = rich.console.Console()
ATTACK_COLUMNS = {"none": "clean", "mainstay": "under attack", "ideal": "ideal attack"}


def say(text: str) -> None:
    """Print one line."""
    CONSOLE.print(text, highlight=False, soft_wrap=True)


def warn(text: str) -> None:
    """Print one line of warning to the error stream."""
    print(f"warning: {text}", file=sys.stderr, flush=True)


def progress() -> rich.progress.Progress:
    """Make a progress display with the time that has passed and the time left."""
    return rich.progress.Progress(
        rich.progress.TextColumn("{task.description:<24}"),
        rich.progress.BarColumn(),
        rich.progress.MofNCompleteColumn(),
        rich.progress.TimeElapsedColumn(),
        rich.progress.TextColumn("left"),
        rich.progress.TimeRemainingColumn(),
        rich.progress.TextColumn("{task.fields[note]}"),
        console=CONSOLE,
    )


def say_devices() -> None:
    """Say what this process computes on, and warn loudly where it is not the GPU that the machine has."""
    names = device_names()
    say(f"Computing on {', '.join(f'{names.count(name)} x {name}' for name in dict.fromkeys(names))}.")
    if unseen := unseen_cards():
        warn(unseen)


def track(items: Iterable, total: int, description: str) -> Iterator:
    """Yield `items`, showing how many of `total` are done; a `saat_tf.progress.Track`."""
    with progress() as display:
        task = display.add_task(description, total=total, note="")
        for item in items:
            yield item
            display.advance(task)


class FitProgress(keras.callbacks.Callback):
    """One bar over all epochs of a training; where there is no terminal, one line an epoch. A context around `fit`.

    Args:
        description: what is being trained.
        steps: training steps over all epochs.
        done: steps that are done already.
    """

    def __init__(self, description: str, steps: int, done: int = 0) -> None:
        super().__init__()
        self.description = description
        self.steps = steps
        self.done = self.begun = done
        self.display = progress()

    def __enter__(self) -> "FitProgress":
        self.started = time.perf_counter()
        if CONSOLE.is_terminal:
            self.display.start()
        self.task = self.display.add_task(self.description, total=self.steps, completed=self.done, note="")
        return self

    def __exit__(self, *error: object) -> None:
        self.display.stop()

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Advance by one step."""
        self.done += 1
        if CONSOLE.is_terminal and self.done % LOOK_EVERY == 0:
            self.display.update(self.task, note=_losses(logs))
        self.display.update(self.task, completed=self.done)

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Print the epoch's losses and the time left where no bar shows them."""
        if not CONSOLE.is_terminal:
            passed = time.perf_counter() - self.started
            left = passed * (self.steps - self.done) / max(1, self.done - self.begun)
            say(f"{self.description}: epoch {epoch + 1}, {_losses(logs)}, {passed:.0f} s passed, {left:.0f} s left")


def _losses(logs: dict | None) -> str:
    return "  ".join(f"{name.removesuffix('_loss')} {float(value):.3f}" for name, value in (logs or {}).items())


def result_table(card: dict) -> rich.table.Table:
    """Return the last table: MAP of each model, clean and attacked, with chance beside it."""
    epsilon = f"{card['epsilon_255']:g}/255"
    table = rich.table.Table(
        title=f"MAP@{card['results'][0]['top_k']} on {card['dataset']}, {card['code_length']} bits, "
        f"attack of {epsilon} (chance {card['chance_map']:.3f})",
        caption="ideal attack: the codes that the attack aims for, a bound. Below chance is worse than a random order.",
    )
    table.add_column("model")
    for attack in ATTACK_COLUMNS.values():
        table.add_column(attack, justify="right")
    table.add_column("chance", justify="right")
    for defense in defenses_of(card):
        values = [result_value(card, defense=defense, attack=attack) for attack in ATTACK_COLUMNS]
        table.add_row(DEFENSES[defense], *(f"{value:.3f}" for value in values), f"{card['chance_map']:.3f}")
    return table


def quiet_libraries() -> None:
    """Silence notes of libraries that a user of a trainer can do nothing about."""
    logging.getLogger("absl").setLevel(logging.ERROR)
