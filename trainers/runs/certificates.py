"""Certificates of the models of a finished run: computed a few queries at a time, kept in the run folder, scored."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from saat_tf.attacks import build_attack
from saat_tf.certify.certificate import Certificate, certify, smoothed_votes, smoothing_certificate
from saat_tf.certify.smoothing import Votes
from saat_tf.data import RetrievalData
from saat_tf.evaluation.attacked import attack_queries
from saat_tf.evaluation.card import certified_row
from saat_tf.files import write_whole
from saat_tf.metrics import average_precisions
from saat_tf.text_lists import DataError
from saat_tf.threat_model import from_255
from trainers.console.output import track
from trainers.recipes.certify_options import CertifyOptions
from trainers.runs.models import Evaluated
from trainers.runs.training import EVALUATION_BATCH

# Queries that are drawn or bounded before what is known of them is written.
KEPT_EVERY = 8
ATTACK = "mainstay"


def certify_model(
    options: CertifyOptions, model: Evaluated, data: RetrievalData, top_k: int, noise: float
) -> list[dict]:
    """Certify one model at each radius, from disk where that is known, and return the rows of the card."""
    folder = options.run_dir / "certificates" / model.defense
    folder.mkdir(parents=True, exist_ok=True)
    images = np.stack([data.test.load(i).numpy() for i in range(len(data.test))])
    sigma = options.sigma or noise
    if options.method == "smoothing" and not sigma:
        raise ValueError("--sigma must be given, since the run was trained without --noise. Received neither.")
    labels = data.test.labels, data.database.labels
    database = model.encoded.database
    rows = []
    for epsilon_255 in options.epsilon_255:
        epsilon = from_255(epsilon_255)
        certificate = _certificate(options, model, images, epsilon, sigma, folder)
        bound = certificate.scores(database, *labels, top_k=top_k, seconds=options.seconds)

        def score(codes: np.ndarray) -> float:
            found = average_precisions(
                codes, database, *labels, top_k=top_k, tie_rule="pessimistic", denominator="relevant"
            )
            return float(found.mean())

        attacked = {}
        if options.attack_steps:
            attacked["attacked_map"] = score(_attacked_codes(options, model, data, epsilon, sigma))
        smoothing = {"sigma": sigma, "draws": options.draws, "selection_draws": options.selection_draws}
        rows.append(
            certified_row(
                certificate, bound, defense=model.defense, top_k=top_k, clean_map=score(certificate.codes),
                **attacked, **(smoothing if options.method == "smoothing" else {}),
            )
        )  # fmt: skip
    return rows


def _certificate(
    options: CertifyOptions, model: Evaluated, images: np.ndarray, epsilon: float, sigma: float, folder: Path
) -> Certificate:
    if options.method == "smoothing":
        name = f"smoothing-sigma{sigma:g}-draws{options.draws}-selection{options.selection_draws}-seed{options.seed}"

        def draw(first: int, part: np.ndarray) -> tuple[np.ndarray, ...]:
            votes = smoothed_votes(
                model.encoder, part, sigma=sigma, draws=options.draws, selection_draws=options.selection_draws,
                seed=options.seed, first=first,
            )  # fmt: skip
            return votes.ones, votes.selection_ones

        ones, selection_ones = _kept(folder / f"{name}.npz", images, draw, model)
        votes = Votes(ones, options.draws, selection_ones, options.selection_draws, sigma)
        return smoothing_certificate(votes, model.encoder, images.shape[1:], epsilon, options.alpha)

    def bound(first: int, part: np.ndarray) -> tuple[np.ndarray, ...]:
        found = certify(model.encoder, part, epsilon, method=options.method)
        return found.flip_costs, found.budgets

    name = f"{options.method}-eps{255 * epsilon:g}"
    costs, budgets = _kept(folder / f"{name}.npz", images, bound, model)
    return Certificate(options.method, epsilon, model.encoded.test, costs, budgets)


def _kept(
    file: Path, images: np.ndarray, compute: Callable[[int, np.ndarray], tuple[np.ndarray, ...]], model: Evaluated
) -> tuple[np.ndarray, ...]:
    """Return what is computed of each query, of which a file has the first ones; add the others to it, part by part.

    Args:
        file: an .npz file, or the place for one; it also has the codes of its queries, which tell the model.
        images: float32 (Q, S, S, 3).
        compute: (number of the first, images) -> arrays, one row a query.
        model: whose codes they are.

    Raises:
        DataError: the file is of another model or other queries.
    """
    parts: list[tuple[np.ndarray, ...]] = []
    done = 0
    if file.is_file():
        with np.load(file, allow_pickle=False) as stored:
            codes = stored["codes"]
            parts = [tuple(stored[f"part{i}"] for i in range(len(stored.files) - 1))]
        shared = min(len(codes), len(images))
        if not np.array_equal(codes[:shared], model.encoded.test[:shared]):
            raise DataError(f"{file}: its queries have other codes under this model. Remove it to certify anew.")
        done = len(codes)
    starts = range(done, len(images), KEPT_EVERY)
    for start in track(starts, len(starts), f"Certifying {model.defense}") if len(starts) else ():
        end = min(start + KEPT_EVERY, len(images))
        parts.append(compute(start, images[start:end]))
        found = {f"part{i}": np.concatenate(rows) for i, rows in enumerate(zip(*parts, strict=True))}

        _write(file, {**found, "codes": model.encoded.test[:end]})
    return tuple(np.concatenate(rows)[: len(images)] for rows in zip(*parts, strict=True))


def _write(file: Path, arrays: dict[str, Any]) -> None:
    def write(path: Path) -> None:
        with open(path, "wb") as stream:
            np.savez_compressed(stream, **arrays)

    write_whole(file, write)


def _attacked_codes(
    options: CertifyOptions, model: Evaluated, data: RetrievalData, epsilon: float, sigma: float
) -> np.ndarray:
    """Attack every query and return the codes: uint8 (Q, K / 8); of smoothing, majority codes of the images."""
    attack = build_attack(ATTACK, epsilon, model.known, num_steps=options.attack_steps)
    attacked = attack_queries(
        model.encoder, data.test, attack, data.test.labels,
        num_steps=options.attack_steps, seeds=(options.seed,), batch_size=EVALUATION_BATCH,
        keep_images=len(data.test) if options.method == "smoothing" else 0, track=track,
    )  # fmt: skip
    if options.method != "smoothing":
        return attacked.codes[0]
    draws = options.selection_draws
    votes = smoothed_votes(
        model.encoder, attacked.images, sigma=sigma, draws=1, selection_draws=draws, seed=options.seed + 1, track=track
    )
    return np.packbits(votes.majority, axis=1)
