"""One cell, from its model to its card; what is on disk already is not done again."""

import dataclasses
import functools
import time
from collections.abc import Mapping
from pathlib import Path

import keras
import numpy as np

from benchmarks.cards import REMEDY
from benchmarks.tables.cells import EPSILON_255, SETTINGS, Cell, Scale, attacks_of, recipe_of
from saat_tf.data import DataError, RetrievalData, file_split, spread_indices
from saat_tf.evaluation import encode_data, knowledge, machine, peak_rss_mb, score_defense, versions
from saat_tf.evaluation.card import result_row
from saat_tf.evaluation.scores import DefenseScores
from saat_tf.files import write_json, write_whole
from saat_tf.metrics import chance_map
from saat_tf.models import HashingModel
from saat_tf.strict_json import read_object
from trainers.console.output import quiet_libraries, say, track
from trainers.evaluate import EvaluationOptions, cached_attack
from trainers.recipes import corel5k
from trainers.recipes.file_data import FileData
from trainers.recipes.identity import identity, options
from trainers.recipes.recipe import Recipe
from trainers.run_folder.state import RunFolder
from trainers.runs.fitted_attacks import with_gan, with_prototypes
from trainers.runs.models import Evaluated
from trainers.runs.training import EVALUATION_BATCH, build_encoder, build_hashing_loss, pretrain, train_adversarially

EVALUATION_FIELDS = ("num_queries", "square_steps", "fit_epochs", "attack_steps")
PARTS = {
    "cell": str, "setting": dict, "chance_map": int | float, "results": list, "seconds": dict, "config": dict,
    "versions": dict,
}  # fmt: skip


def setting_of(cell: Cell, scale: Scale) -> dict:
    """Return what decides a cell's figures, as its card keeps it."""
    return {**dataclasses.asdict(cell), **dataclasses.asdict(scale), "recipe": SETTINGS[cell.defense]}


def training_setting_of(cell: Cell, scale: Scale) -> dict:
    """Return what decides a cell's model."""
    return {name: value for name, value in setting_of(cell, scale).items() if name not in EVALUATION_FIELDS}


def read_card(file: Path, setting: Mapping) -> dict | None:
    """Return a cell's card, or None where there is none that is whole.

    Raises:
        DataError: the card was made with other settings, which must not be mixed with these.
    """
    if not file.is_file():
        return None
    try:
        card = read_object(file, PARTS, remedy="It is made again.")
    except DataError as error:
        say(f"not a whole card: {error}")
        return None
    if missing := [part for part in PARTS if not card[part]]:
        say(f"{file}: not a whole card (nothing in {', '.join(missing)}). It is made again.")
        return None
    if card["setting"] != setting:
        other = [name for name in {**setting, **card["setting"]} if card["setting"].get(name) != setting.get(name)]
        raise DataError(f"{file}: made with other settings ({', '.join(other)}). Choose another --out, or move it.")
    return card


def make_card(cell: Cell, scale: Scale, data_dir: Path, runs_dir: Path, file: Path) -> None:
    """Train, attack and write the card of one cell."""
    quiet_libraries()
    data = spread_data(data_dir, scale)
    started = time.perf_counter()
    encoder = trained(cell, scale, data, data_dir, runs_dir)
    seconds = {"train": time.perf_counter() - started}
    started = time.perf_counter()
    scores = attacked_scores(cell, scale, encoder, data, runs_dir / cell.name)
    seconds["attack"] = time.perf_counter() - started
    recipe = dataclasses.replace(recipe_of(cell, scale, data_dir), run_dir=None)
    write_json(
        file,
        {
            "cell": cell.name,
            "setting": setting_of(cell, scale),
            "dataset": data.name,
            "backbone": recipe.backbone,
            "code_length": recipe.bits,
            "epsilon_255": EPSILON_255,
            "sizes": {"train": len(data.train), "database": len(data.database), "queries": len(data.test)},
            "chance_map": chance_map(data.test.labels, data.database.labels),
            "config": options(recipe),
            "versions": versions(),
            "machine": machine(),
            "seconds": {phase: round(spent, 1) for phase, spent in seconds.items()},
            "peak_rss_mb": round(peak_rss_mb()),
            "results": rows_of(scores, cell, recipe.top_k),
        },
    )


@functools.lru_cache(maxsize=1)
def spread_data(data_dir: Path, scale: Scale) -> FileData:
    """Read Corel-5K, and keep of training images and queries as many as the scale says, spread over their lists."""
    recipe = corel5k.Corel5kRecipe(data_dir=data_dir, image_size=scale.image_size)
    data = corel5k.load(recipe)
    train, test = (
        images.take(spread_indices(len(images.paths), count))
        for images, count in ((data.lists.train, scale.num_train), (data.lists.test, scale.num_queries))
    )
    return dataclasses.replace(
        data,
        train=file_split(train, scale.image_size, scale.image_size, cache=True),
        test=file_split(test, scale.image_size, scale.image_size),
        lists=dataclasses.replace(data.lists, train=train, test=test),
    )


def trained(cell: Cell, scale: Scale, data: RetrievalData, data_dir: Path, runs_dir: Path) -> HashingModel:
    """Return a cell's model, trained now if it is not on disk; a defense starts from the undefended model.

    Raises:
        DataError: the folder contains a model of other settings.
    """
    folder = runs_dir / cell.name
    file, settings = folder / "model.keras", folder / "setting.json"
    setting = training_setting_of(cell, scale)
    if settings.is_file() and read_object(settings, {}, remedy=REMEDY) != setting:
        raise DataError(f"{folder}: a model of other settings. Choose another --runs-dir, or move it.")
    if file.is_file():
        return keras.saving.load_model(file, compile=False, safe_mode=True)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(settings, setting)
    keras.utils.set_random_seed(cell.seed)
    recipe: Recipe = recipe_of(cell, scale, data_dir)
    if cell.defense == "none":
        encoder, train = build_encoder(recipe), pretrain
    else:
        encoder, train = trained(cell.undefended, scale, data, data_dir, runs_dir), train_adversarially
    run_folder = RunFolder(folder, identity(data))  # a cell that was interrupted resumes where it was
    train(recipe, data, encoder, build_hashing_loss(recipe, data.train.labels.shape[1]), run_folder)
    write_whole(file, encoder.save)
    return encoder


def attacked_scores(
    cell: Cell, scale: Scale, encoder: HashingModel, data: RetrievalData, folder: Path
) -> DefenseScores:
    """Run every attack of a cell on its model, or take its codes from disk, and score them."""
    encoded = encode_data(encoder, data, EVALUATION_BATCH, track)
    model = Evaluated(cell.defense, encoder, encoded, knowledge(encoded, data))
    attacks = attacks_of(cell, scale)
    fit = {"epochs": scale.fit_epochs, "seed": cell.seed}
    if "tha" in attacks:
        model = with_prototypes(model, data, folder / "evaluation", **fit)
    if "pros-gan" in attacks:
        model = with_gan(model, data, folder / "evaluation", epsilon_255=EPSILON_255, **fit)
    options = EvaluationOptions(run_dir=folder, seed=cell.seed)
    attacked = [cached_attack(options, model, model, name, data, EPSILON_255, steps) for name, steps in attacks.items()]
    top_k = recipe_of(cell, scale, Path()).top_k
    return score_defense(encoded, attacked, data, epsilon_255=EPSILON_255, top_k=top_k)


def rows_of(scores: DefenseScores, cell: Cell, top_k: int) -> list[dict]:
    """Return a card's rows: clean, ideal, each attack, the worst of the non-targeted ones, and t-MAP of no attack."""
    row = functools.partial(result_row, defense=cell.defense, top_k=top_k)
    rows = [row(scores.clean, attack="none"), row(scores.ideal, attack="ideal")]
    for one in scores.attacks:
        of = one.attacked
        rows.append(
            row(
                one.score, attack=of.attack, targeted=of.targeted, epsilon_255=EPSILON_255, num_steps=of.num_steps,
                seed=cell.seed,
            )
        )  # fmt: skip
        rows[-1]["largest_change_255"] = round(255 * float(np.max(of.perceptibility[0])), 3)
    if len(scores.non_targeted) > 1:
        rows.append(row(scores.worst, attack="worst", epsilon_255=EPSILON_255, seed=cell.seed))
    if scores.targeted:
        rows.append(row(scores.targeted[0].before, attack="none", targeted=True))
    return rows
