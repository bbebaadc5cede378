"""Stored attacks: codes of the perturbed queries, from which every metric is recomputed."""

import dataclasses
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from saat_tf.attacks import Attack
from saat_tf.data import Split
from saat_tf.evaluation.attack_runner import attack_runner
from saat_tf.evaluation.evaluate import attack_split
from saat_tf.files import atomic
from saat_tf.models.encoders import CodeEncoder
from saat_tf.progress import Track, silent


@dataclasses.dataclass(frozen=True)
class AttackedQueries:
    """The codes of adversarial images, and the size of their perturbations.

    Args:
        attack: name of the attack.
        targeted: whether `labels` are those of targets.
        epsilon_255: radius of the ball in units of 1/255.
        num_steps: steps, or queries of a black box, for each image.
        seeds: one for each restart.
        labels: uint8 (Q, C) of 0/1: of the queries or, where `targeted`, of their targets.
        codes: uint8 (R, Q, K / 8), packed, one layer a restart.
        perceptibility: float32 (4, R, Q), in the order of `saat_tf.metrics.Perceptibility`.
        images: float32 (E, S, S, 3), the adversarial images of the first E queries at the first seed.
        mean_steps: steps that an image took on average where the attack stopped early, else None.
    """

    attack: str
    targeted: bool
    epsilon_255: float
    num_steps: int
    seeds: tuple[int, ...]
    labels: np.ndarray
    codes: np.ndarray
    perceptibility: np.ndarray
    images: np.ndarray = dataclasses.field(default_factory=lambda: np.empty((0, 0, 0, 3), np.float32))
    mean_steps: float | None = None

    def save(self, path: Path) -> None:
        """Write everything into one .npz file, whole."""
        fields: dict[str, Any] = {
            field.name: np.asarray(getattr(self, field.name))
            for field in dataclasses.fields(self)
            if getattr(self, field.name) is not None
        }

        with atomic(path) as temporary, open(temporary, "wb") as file:
            np.savez_compressed(file, **fields)

    @classmethod
    def load(cls, path: Path) -> "AttackedQueries":
        """Read what `save` wrote.

        Raises:
            ValueError: the file is damaged or of another kind.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                fields: dict[str, Any] = {
                    field.name: file[field.name]
                    for field in dataclasses.fields(cls)
                    if field.name != "mean_steps" or field.name in file
                }
        except (OSError, KeyError, ValueError, zipfile.BadZipFile, EOFError) as error:
            raise ValueError(
                f"{path}: not a file of attacked queries ({error}). Delete it, and the attack will be run again."
            ) from error
        return cls(
            attack=str(fields["attack"]),
            targeted=bool(fields["targeted"]),
            epsilon_255=float(fields["epsilon_255"]),
            num_steps=int(fields["num_steps"]),
            seeds=tuple(int(seed) for seed in fields["seeds"]),
            labels=fields["labels"],
            codes=fields["codes"],
            perceptibility=fields["perceptibility"],
            images=fields["images"],
            mean_steps=float(fields["mean_steps"]) if "mean_steps" in fields else None,
        )


def attack_queries(
    encoder: CodeEncoder,
    split: Split,
    attack: Attack,
    labels: np.ndarray,
    *,
    num_steps: int,
    seeds: Sequence[int] = (0,),
    batch_size: int = 128,
    keep_images: int = 0,
    surrogate_model: CodeEncoder | None = None,
    surrogate: str | None = None,
    early_stop: bool = False,
    jit_compile: bool = False,
    track: Track = silent,
) -> AttackedQueries:
    """Attack every query once for each seed.

    Args:
        encoder: the model that encodes what the attack returns.
        split: the queries.
        attack: the attack; its threat model is checked on every image that it returns.
        labels: (Q, C) of 0/1: of the queries or, for a targeted attack, of their targets.
        num_steps: steps of the attack, to be kept beside its codes.
        seeds: one for each restart.
        batch_size: queries at a time.
        keep_images: how many adversarial images to keep.
        surrogate_model: the surrogate that the attack sees; `encoder` itself by default.
        surrogate: its name, for reports.
        early_stop: see `attack_runner`; an attack on a surrogate always takes all its steps.
        jit_compile: see `attack_runner`.
        track: shows progress.

    Raises:
        ValueError: the attack left its threat model, or there is no seed.
    """
    if not len(seeds):
        raise ValueError("`seeds` must contain at least one seed. Received none.")
    run_attack = attack_runner(
        attack,
        surrogate_model or encoder,
        early_stop=early_stop and surrogate_model in (None, encoder),
        jit_compile=jit_compile,
    )
    parts = [
        attack_split(
            encoder,
            split,
            attack,
            labels,
            batch_size=batch_size,
            seed=seed,
            keep_images=keep_images if i == 0 else 0,
            run_attack=run_attack,
            track=track,
        )
        for i, seed in enumerate(seeds)
    ]
    return AttackedQueries(
        attack=attack.name if surrogate is None else f"{attack.name}, transferred from {surrogate}",
        targeted=attack.targeted,
        epsilon_255=round(255 * attack.threat_model.epsilon, 6),
        num_steps=num_steps,
        seeds=tuple(seeds),
        labels=np.asarray(labels, np.uint8),
        codes=np.stack([part.codes for part in parts]),
        perceptibility=np.stack([np.stack(part.perceptibility) for part in parts], axis=1).astype(np.float32),
        images=parts[0].images,
        mean_steps=None if parts[0].steps is None else float(np.mean([part.steps for part in parts])),
    )
