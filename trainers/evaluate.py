"""Attack the models of a finished run again, by any attack: `python -m trainers.evaluate --run-dir R`."""

import dataclasses
import itertools
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import rich.table
import tyro

from saat_tf.attacks import ATTACKS, SUITES, attack_names, build_attack, can_stop_early, published_steps
from saat_tf.command_line import ExitCode
from saat_tf.data import RetrievalData, Split
from saat_tf.evaluation.attacked import AttackedQueries, attack_queries
from saat_tf.evaluation.card import attack_rows, merge_rows, result_row
from saat_tf.evaluation.robust_radius import robust_radius
from saat_tf.evaluation.robustness import attack_labels
from saat_tf.evaluation.scores import score_defense
from saat_tf.files import write_json
from saat_tf.metrics import chance_map
from saat_tf.threat_model import from_255
from trainers.console.output import CONSOLE, DEFENSES, quiet_libraries, say, say_devices, track
from trainers.recipes.data_sets import load_data_of
from trainers.run_folder.finished_run import read_card
from trainers.runs.fitted_attacks import with_gan, with_prototypes
from trainers.runs.models import Evaluated, defenses_of_run, load_evaluated
from trainers.runs.radii import radius_table, with_radius
from trainers.runs.report import report_run
from trainers.runs.training import EVALUATION_BATCH

SHOWN_QUERIES = 6
ModelName = Literal["none", "saat", "cgat", "atrdh", "ibp", "comdefend"]


ATTACKS_HELP = "Attacks by name, or an ensemble of them.\n" + "".join(
    f"{name}: {about};\n"
    for name, about in (
        *((name, f"{', '.join(names)}, the ensemble that gives the robust MAP") for name, names in SUITES.items()),
        *((name, attack.about) for name, attack in ATTACKS.items()),
    )
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluationOptions:
    """Attack the models of a finished run again, and add the scores to its card.

    Command: python -m trainers.evaluate --run-dir R --attacks standard
    Each attack's codes are kept in R/evaluation, so that a second call resumes where the first one stopped, and every
    metric can be recomputed. Every combination of attack, epsilon and number of steps is run.
    """

    run_dir: Path
    """Folder of a finished run."""
    attacks: Annotated[tuple[str, ...], tyro.conf.arg(help=ATTACKS_HELP)] = ("standard",)
    epsilon_255: tuple[float, ...] = (8.0,)
    """Radii of the ball in units of 1/255."""
    num_steps: tuple[int, ...] = ()
    """Steps of each attack; a black box sends ten queries for each. Default: as published, 20 for pta, 100 for all
    others."""
    restarts: int = 1
    """How often each attack starts again from another random point; each query counts at its worst."""
    defenses: tuple[ModelName, ...] | None = None
    """Which models: none is hashing.keras, the run's own defense robust.keras, comdefend comdefend.keras. Default: all
    that the run has."""
    surrogate: ModelName | None = None
    """Attack this model of the run instead of the one that is scored."""
    num_queries: int | None = None
    """Attack the first so many queries only."""
    data_dir: Path | None = None
    """Where the images are now, if not where the run found them."""
    fit_epochs: int = 10
    """Epochs for the attacks that are trained first, tha and pros-gan; 100 in the papers."""
    early_stop: bool = False
    """Stop attacks on a code, by sign or halving steps, image by image where nothing more is to be gained: faster;
    docs/performance.md tells what it changes. --num-steps is the most an image then takes; card
    and report tell the mean. Attacks of other kinds, and those from a surrogate, take all their steps."""
    robust_radius: bool = False
    """Find of each model the radius at which its worst case over --attacks falls to chance, to 1/255, by the same
    attacks at some ten radii up to 64/255. Not with several of --epsilon-255 or --num-steps, or --surrogate."""
    jit: bool = False
    """Compile attacks by XLA, on a GPU most often faster; the first batch takes longer. Figures agree up to rounding.
    Not together with --early-stop."""
    report: bool = True
    """Write report.html, with checks of the models."""
    seed: int = 0
    """Seed of the first start, and of the targets that are drawn for targeted attacks."""


def main(options: EvaluationOptions) -> int:
    """Evaluate as `options` say; return the exit code: 0, or 2 where they or the run are refused."""
    quiet_libraries()
    with ExitCode() as outcome:
        check_options(options)
        say_devices()
        card = read_card(options.run_dir)
        recipe, data = load_data_of(card, options.data_dir)
        data = dataclasses.replace(data, test=_first(data.test, options.num_queries))
        chosen = check_models(options, defenses_of_run(options.run_dir, recipe))
        models = {
            name: load_evaluated(options.run_dir, name, data) for name in defenses_of_run(options.run_dir, recipe)
        }
        rows = []
        for defense in chosen:
            rows += evaluate_model(options, models, defense, data, recipe.top_k)
            card = {**card, "results": merge_rows(card["results"], rows)}
            if options.robust_radius:
                card = with_radius(card, radius_of(options, models, defense, data, recipe.top_k))
            write_json(options.run_dir / "card.json", card)
        findings = []
        if options.report:
            findings = report_run(options.run_dir, card, list(models.values()), data, recipe.top_k)
    if outcome.code:
        return outcome.code
    CONSOLE.print(table_of(rows, card["chance_map"]))
    if options.robust_radius:
        CONSOLE.print(radius_table(card, chosen))
    for finding in findings:
        if finding.raised:
            say(f"warning: {finding.check}: {finding.message} {finding.remedy}")
    say(f"Card, codes and report: {options.run_dir}")
    return 0


def check_options(options: EvaluationOptions) -> None:
    """Check the options before anything is loaded.

    Raises:
        ValueError: an option is out of its range.
    """
    if not attack_names(options.attacks):
        raise ValueError("--attacks must name at least one. Received: none. Take standard.")
    for epsilon_255 in options.epsilon_255:
        from_255(epsilon_255)
    if (
        min(options.num_steps, default=1) < 1
        or min(options.restarts, options.fit_epochs) < 1
        or not options.epsilon_255
    ):
        raise ValueError(
            "--num-steps, --restarts and --fit-epochs must be at least 1, and one --epsilon-255 given. Received: "
            f"{options.num_steps}, {options.restarts}, {options.fit_epochs}, {options.epsilon_255}."
        )
    if options.robust_radius and (options.surrogate or max(len(options.epsilon_255), len(options.num_steps)) > 1):
        raise ValueError(
            "--robust-radius goes with one --epsilon-255, one --num-steps and no --surrogate. Received: "
            f"{options.epsilon_255}, {options.num_steps}, {options.surrogate}."
        )
    if options.early_stop and options.jit:
        raise ValueError("--early-stop and --jit exclude each other. Received both. Leave one out.")
    if options.num_queries is not None and options.num_queries < 1:
        raise ValueError(f"--num-queries must be at least 1. Received: {options.num_queries}.")


def check_models(options: EvaluationOptions, there: Sequence[str]) -> Sequence[str]:
    """Return the models to attack, by default all that are `there`.

    Raises:
        ValueError: the run has no such model.
    """
    chosen = there if options.defenses is None else options.defenses
    missing = {*chosen, options.surrogate or "none"} - {*there}
    if missing:
        raise ValueError(f"The run has the models {', '.join(there)}. Received: {', '.join(sorted(missing))}.")
    return chosen


def _first(split: Split, count: int | None) -> Split:
    return dataclasses.replace(split, labels=split.labels[:count])


def evaluate_model(
    options: EvaluationOptions, models: dict[str, Evaluated], defense: str, data: RetrievalData, top_k: int
) -> list[dict]:
    """Run every attack on one model, or take it from disk, and return the rows of the card."""
    victim, source_model = models[defense], models[options.surrogate or defense]
    names = attack_names(options.attacks)
    folder = options.run_dir / "evaluation" / source_model.defense
    fit = {"epochs": options.fit_epochs, "seed": options.seed}
    if "tha" in names:
        source_model = with_prototypes(source_model, data, folder, **fit)
    attacked = []
    for epsilon_255, num_steps in itertools.product(options.epsilon_255, options.num_steps or (None,)):
        if "pros-gan" in names:
            source_model = with_gan(source_model, data, folder, epsilon_255=epsilon_255, **fit)
        attacked += [cached_attack(options, victim, source_model, name, data, epsilon_255, num_steps) for name in names]
    scores = score_defense(victim.encoded, attacked, data, epsilon_255=max(options.epsilon_255), top_k=top_k)
    rows = [result_row(scores.clean, defense=defense, attack="none", top_k=top_k)]
    for first in range(0, len(attacked), len(names)):
        mix = scores.attacks[first : first + len(names)]
        rows += attack_rows(scores.clean, mix, defense=defense, top_k=top_k, seed=options.seed)
    return rows


def radius_of(
    options: EvaluationOptions, models: dict[str, Evaluated], defense: str, data: RetrievalData, top_k: int
) -> dict:
    """Return the entry of the card about the radius up to which one model's worst case is above chance."""
    chance = chance_map(data.test.labels, data.database.labels)

    def worst_case(epsilon_255: int) -> float:
        rows = evaluate_model(
            dataclasses.replace(options, epsilon_255=(float(epsilon_255),)), models, defense, data, top_k
        )
        return min(row["value"] for row in rows if row["metric"] == "MAP")

    low, high = robust_radius(worst_case, chance)
    steps = options.num_steps[0] if options.num_steps else None
    return {
        "defense": defense, "attacks": list(attack_names(options.attacks)), "num_steps": steps,
        "restarts": options.restarts, "num_queries": len(data.test), "chance_map": chance,
        "above_chance_255": low, "at_chance_255": high,
    }  # fmt: skip


def cached_attack(
    options: EvaluationOptions,
    victim: Evaluated,
    source_model: Evaluated,
    name: str,
    data: RetrievalData,
    epsilon_255: float,
    num_steps: int | None,
) -> AttackedQueries:
    """Return what this attack made of the queries, from disk where it has run before."""
    num_steps = num_steps or published_steps(name)
    attack = build_attack(name, from_255(epsilon_255), source_model.known, num_steps=num_steps)
    seeds = tuple(range(options.seed, options.seed + options.restarts))
    folder = options.run_dir / "evaluation" / victim.defense
    source = "" if source_model.defense == victim.defense else f"-from-{source_model.defense}"
    queries = len(data.test)
    setting = f"eps{epsilon_255:g}-steps{num_steps}-seeds{seeds[0]}to{seeds[-1]}-queries{queries}"
    early_stop = options.early_stop and not source and can_stop_early(attack)
    file = folder / f"{name}-{setting}{source}{'-early-stop' if early_stop else ''}.npz"
    if file.is_file():
        return AttackedQueries.load(file)
    attacked = attack_queries(
        victim.encoder,
        data.test,
        attack,
        attack_labels(attack, data, seed=options.seed),
        num_steps=num_steps,
        seeds=seeds,
        batch_size=EVALUATION_BATCH,
        keep_images=SHOWN_QUERIES,
        surrogate_model=source_model.encoder,
        surrogate=None if source_model.defense == victim.defense else source_model.defense,
        early_stop=early_stop,
        jit_compile=options.jit,
        track=track,
    )
    folder.mkdir(parents=True, exist_ok=True)
    attacked.save(file)
    return attacked


def table_of(rows: list[dict], chance_map: float) -> rich.table.Table:
    """Return the last table: each result with its interval; chance is in the title, so that 80 columns are enough."""
    table = rich.table.Table(
        title=f"MAP@{rows[0]['top_k']} with 95% intervals over queries (chance {chance_map:.3f})",
        caption="worst: each query at its worst over the attacks above it of the same epsilon, and over none.",
    )
    for column in ("model", "attack", "epsilon", "steps", "metric"):
        table.add_column(column)
    for column in ("value", "95%"):
        table.add_column(column, justify="right")
    for defense, results in itertools.groupby(rows, key=lambda row: row["defense"]):
        table.add_section()
        for i, result in enumerate(results):
            low, high = result["interval"]
            epsilon = f"{result['epsilon_255']:g}/255" if "epsilon_255" in result else ""
            attack = "clean" if result["attack"] == "none" else result["attack"]
            table.add_row(
                "" if i else DEFENSES[defense], attack, epsilon, str(result.get("num_steps", "")), result["metric"],
                f"{result['value']:.3f}", f"{low:.3f}-{high:.3f}",
            )  # fmt: skip
    return table


if __name__ == "__main__":
    sys.exit(main(tyro.cli(EvaluationOptions)))
