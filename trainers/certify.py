"""Prove how low MAP of a finished run's models can fall: `python -m trainers.certify --run-dir R --method ibp`."""

import dataclasses
import sys

import rich.table
import tyro

from saat_tf.certify.intervals import check_radius
from saat_tf.certify.smoothing import check_sigma
from saat_tf.command_line import ExitCode
from saat_tf.evaluation.card import merge_rows
from saat_tf.files import lock_folder, write_json
from saat_tf.threat_model import from_255
from trainers.console.output import CONSOLE, DEFENSES, quiet_libraries, say, say_devices
from trainers.recipes.certify_options import CertifyOptions
from trainers.recipes.data_sets import load_data_of
from trainers.run_folder.finished_run import read_card
from trainers.runs.certificates import certify_model
from trainers.runs.models import defenses_of_run, load_evaluated
from trainers.runs.report import report_run


def main(options: CertifyOptions) -> int:
    """Certify as `options` say; return the exit code: 0, or 2 where they or the run are refused."""
    quiet_libraries()
    with ExitCode() as outcome:
        check_options(options)
        say_devices()
        card = read_card(options.run_dir)
        recipe, data = load_data_of(card, options.data_dir)
        data = dataclasses.replace(
            data, test=dataclasses.replace(data.test, labels=data.test.labels[: options.num_queries])
        )
        there = defenses_of_run(options.run_dir, recipe)
        if missing := sorted({*(options.defenses or there)} - {*there}):
            raise ValueError(f"The run has the models {', '.join(there)}. Received: {', '.join(missing)}.")
        rows = []
        with lock_folder(options.run_dir):
            models = {name: load_evaluated(options.run_dir, name, data) for name in options.defenses or there}
            for model in models.values():
                rows += certify_model(options, model, data, recipe.top_k, recipe.noise)
                card = {**card, "results": merge_rows(card["results"], rows)}
                write_json(options.run_dir / "card.json", card)
            if options.report:
                report_run(options.run_dir, card, list(models.values()), data, recipe.top_k)
    if outcome.code:
        return outcome.code
    CONSOLE.print(table_of(rows, card["chance_map"]))
    say(f"Card, bits and report: {options.run_dir}")
    return 0


def check_options(options: CertifyOptions) -> None:
    """Check the options before anything is loaded.

    Raises:
        ValueError: an option is out of its range.
    """
    if not options.epsilon_255:
        raise ValueError("One --epsilon-255 at least must be given. Received none.")
    for epsilon_255 in options.epsilon_255:
        check_radius(from_255(epsilon_255))
    if options.sigma is not None:
        check_sigma(options.sigma)
    least = min(options.draws, options.selection_draws, 1 if options.num_queries is None else options.num_queries)
    if least < 1 or options.attack_steps < 0 or not 0 < options.alpha < 1 or options.seconds < 0:
        raise ValueError(
            "--draws, --selection-draws and --num-queries must be at least 1, --attack-steps and --seconds at least 0, "
            f"--alpha in (0, 1). Received: {options.draws}, {options.selection_draws}, {options.num_queries}, "
            f"{options.attack_steps}, {options.seconds}, {options.alpha}."
        )


def table_of(rows: list[dict], chance_map: float) -> rich.table.Table:
    """Return the last table: each certified MAP between chance and what an attack leaves."""
    table = rich.table.Table(
        title=f"MAP@{rows[0]['top_k']}, denominator relevant, worst ties (chance {chance_map:.3f})",
        caption="certified: no attack within epsilon brings MAP below it. attacked: one attack that was tried.",
    )
    for column in ("model", "method", "epsilon"):
        table.add_column(column, no_wrap=True)
    for column in ("certified", "attacked", "clean", "bits"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        attacked = f"{row['attacked_map']:.3f}" if "attacked_map" in row else ""
        table.add_row(
            DEFENSES[row["defense"]], row["attack"].removeprefix("certified by "), f"{row['epsilon_255']:g}/255",
            f"{row['value']:.3f}", attacked, f"{row['clean_map']:.3f}", f"{row['certified_bits']:.1f}",
        )  # fmt: skip
    return table


if __name__ == "__main__":
    sys.exit(main(tyro.cli(CertifyOptions)))
