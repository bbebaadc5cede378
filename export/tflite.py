"""Write an encoder for LiteRT, with what each conversion costs: `python -m export.tflite --run-dir R --out DIR`."""

import dataclasses
import sys
import typing
from pathlib import Path
from typing import Any

import numpy as np
import rich.table
import tyro

from export.encoder.source import EncoderSource
from export.litert.conversion import LiteRTEncoder, Variant, convert
from export.litert.parity import encode_all, milliseconds, parity
from saat_tf.attacks import mainstay_attack
from saat_tf.command_line import ExitCode
from saat_tf.data import RetrievalData
from saat_tf.data.list_format import find_list
from saat_tf.evaluation import encode_data, knowledge, machine
from saat_tf.evaluation.evaluate import attack_split
from saat_tf.files import atomic, write_json
from saat_tf.metrics import chance_map
from saat_tf.models import HashingModel
from saat_tf.threat_model import ThreatModel
from trainers.console.output import CONSOLE, quiet_libraries, track
from trainers.recipes.data_sets import DATA_SETS, load_data_of
from trainers.recipes.recipe import Recipe
from trainers.run_folder.finished_run import read_card
from trainers.runs.training import EVALUATION_BATCH

ORIGINAL = "keras"


@dataclasses.dataclass(frozen=True, kw_only=True)
class TFLiteExport(EncoderSource):
    """Convert an encoder to LiteRT, and measure on images what that changes.

    The encoder is that of a run (--run-dir), measured on the run's data; or of a preset (--preset) or a file
    (--keras-file), measured on those in --data-dir.

    Writes OUT/<variant>.tflite (images, float32 (batch, S, S, 3) in [0, 1] -> packed_codes, uint8 (batch, bits / 8)),
    OUT/parity.json and OUT/model_card.json.

    The adversarial images are made against the Keras model, in float32, and sent to every variant. For a variant that
    is an attack by transfer: an attacker who has the variant itself can only do better.
    """

    out: Path
    """Folder to write."""
    variants: tuple[Variant, ...] = typing.get_args(Variant)
    """Conversions to make."""
    num_images: int = 256
    """Training images, evenly spaced over their list, from which int8 takes its ranges."""
    num_queries: int = 500
    """Measure on the first so many queries."""
    data_dir: Path | None = None
    """Of a run, where the images are now, if not where the run found them. Otherwise the images to measure on: a folder
    of class folders, or in the list format."""


def main(options: TFLiteExport) -> int:
    """Convert and measure as `options` say; return the exit code: 0, or 2 where they or the run are refused."""
    quiet_libraries()
    with ExitCode() as outcome:
        check_options(options)
        encoder, card = options.load()
        recipe, data = load_data(options, encoder)
        labels = data.test.labels[: options.num_queries]
        data = dataclasses.replace(data, test=dataclasses.replace(data.test, labels=labels))
        options.out.parent.mkdir(parents=True, exist_ok=True)
        with atomic(options.out) as whole:
            whole.mkdir()
            rows = write_variants(options, recipe, encoder, data, whole)
            write_json(whole / "model_card.json", card)
            about = {
                "attack": "mainstay",
                "attack_steps": recipe.attack_steps,
                "surrogate": "the Keras model in float32; for the variants an attack by transfer",
                "num_queries": len(labels),
                "dataset": data.name,
                "epsilon_255": recipe.epsilon_255,
                "chance_map": card.get("chance_map", chance_map(labels, data.database.labels)),
                **{name: card[name] for name in ("backbone", "code_length")},
                "defense": card.get("defense"),
                "top_k": recipe.top_k,
                "versions": card["exported_with"],
                "machine": machine(),
            }
            write_json(whole / "parity.json", {**about, "variants": rows})
    if outcome.code:
        return outcome.code
    CONSOLE.print(table_of(rows, about))
    return 0


def check_options(options: TFLiteExport) -> None:
    """Check the options before anything is loaded.

    Raises:
        FileExistsError: the folder exists.
        ValueError: an option is out of its range.
    """
    if options.out.exists():
        raise FileExistsError(f"{options.out} exists, and an export is never overwritten. Choose another --out.")
    if min(options.num_images, options.num_queries) < 1 or not options.variants:
        raise ValueError(
            "--num-images and --num-queries must be at least 1, and one of --variants given. Received: "
            f"{options.num_images}, {options.num_queries} and {options.variants}."
        )


def load_data(options: TFLiteExport, encoder: HashingModel) -> tuple[Recipe, RetrievalData]:
    """Load the images to measure on, and the recipe that says how they are attacked and scored.

    Raises:
        ValueError: there are none for an encoder that is not of a run, or they are damaged.
    """
    if options.run_dir is not None:
        return load_data_of(read_card(options.run_dir), options.data_dir)
    if options.data_dir is None:
        raise ValueError("An encoder that is not of a run needs images to measure on. Received: none. Give --data-dir.")
    side = encoder.image_size
    if not isinstance(side, int):
        raise ValueError(f"Image files are cut to squares. Received: an encoder of {side[0]} x {side[1]} pixels.")
    shown: dict[str, Any] = {
        "data_dir": options.data_dir,
        "image_size": side,
        "crop_fraction": side / (options.resize_size or side),
        "bits": encoder.code_length,
    }
    kind, load = DATA_SETS["folders" if find_list(options.data_dir / "train_img.txt") is None else "corel5k"]
    recipe = kind(**shown)
    return recipe, dataclasses.replace(load(recipe), name=options.data_dir.resolve().name)


def write_variants(
    options: TFLiteExport, recipe: Recipe, encoder: HashingModel, data: RetrievalData, out: Path
) -> list[dict]:
    """Write each variant into `out`; return the rows of the parity table, the Keras model's first."""
    encoded = encode_data(encoder, data, EVALUATION_BATCH, track)
    threat_model = ThreatModel.from_255(recipe.epsilon_255)
    attack = mainstay_attack(threat_model.epsilon, knowledge(encoded, data).train, num_steps=recipe.attack_steps)
    adversarial = attack_split(
        encoder,
        data.test,
        attack,
        data.test.labels,
        batch_size=EVALUATION_BATCH,
        seed=recipe.seed,
        keep_images=len(data.test),
        track=track,
    ).images
    original = encode_all(encoder, data, adversarial, track)
    one = data.test.load(0).numpy()[np.newaxis]

    def row(name: str, converted: HashingModel | LiteRTEncoder, size: int) -> dict:
        codes = original if converted is encoder else encode_all(converted, data, adversarial, track)
        ms = float(np.median(milliseconds(converted, one)))
        found = parity(codes, original, data, top_k=recipe.top_k)
        return {"variant": name, **found, "bytes": size, "ms_per_image": round(ms, 3)}

    rows = [row(ORIGINAL, encoder, options.weights_file().stat().st_size)]
    chosen = np.linspace(0, len(data.train) - 1, min(options.num_images, len(data.train))).round().astype(int)
    images = np.stack([data.train.load(index).numpy() for index in chosen])
    for variant in options.variants:
        file = out / f"{variant}.tflite"
        file.write_bytes(convert(encoder, variant, images))
        rows.append(row(variant, LiteRTEncoder(file), file.stat().st_size))
    return rows


def table_of(rows: list[dict], about: dict) -> rich.table.Table:
    """Return the parity table, with the original first and chance beside the MAPs."""
    table = rich.table.Table(
        title=f"{about['backbone']}, {about['code_length']} bits, on {about['dataset']} "
        f"(chance {about['chance_map']:.3f}, attack of {about['epsilon_255']:g}/255)",
        caption="robust MAP: images made against the Keras model and sent to each variant, an attack by transfer. "
        "ms: one image a call, median.",
    )
    table.add_column("variant")
    for column in ("equal bits", "clean MAP", "robust MAP", "MB", "ms"):
        table.add_column(column, justify="right")
    for found in rows:
        table.add_row(
            found["variant"], f"{found['equal_bits']:.4%}", f"{found['clean_map']:.3f}", f"{found['robust_map']:.3f}",
            f"{found['bytes'] / 1e6:.2f}", f"{found['ms_per_image']:.2f}",
        )  # fmt: skip
    return table


if __name__ == "__main__":
    sys.exit(main(tyro.cli(TFLiteExport)))
