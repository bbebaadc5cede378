"""What an attack made of the queries, kept so that every metric can be recomputed without attacking again."""

import dataclasses
import zipfile
from pathlib import Path

import numpy as np

from saat_tf.files import write_whole

PERCEPTIBILITY = ("linf", "l2", "mse", "ssim")


@dataclasses.dataclass(frozen=True)
class AttackedQueries:
    """The codes of adversarial images, and how far these are from the images.

    Args:
        attack: name of the attack.
        targeted: whether `labels` are those of targets.
        epsilon_255: radius of the ball in units of 1/255.
        num_steps: steps, or queries of a black box, for each image.
        seeds: one for each restart.
        labels: uint8 (Q, C) of 0/1: of the queries or, where `targeted`, of their targets.
        codes: uint8 (R, Q, K / 8), packed, one layer a restart.
        perceptibility: float32 (4, R, Q), in the order of `PERCEPTIBILITY`.
    """

    attack: str
    targeted: bool
    epsilon_255: float
    num_steps: int
    seeds: tuple[int, ...]
    labels: np.ndarray
    codes: np.ndarray
    perceptibility: np.ndarray

    def save(self, path: Path) -> None:
        """Write everything into one .npz file, whole."""
        fields = {field.name: np.asarray(getattr(self, field.name)) for field in dataclasses.fields(self)}

        def write(temporary: Path) -> None:
            with open(temporary, "wb") as file:
                np.savez_compressed(file, **fields)

        write_whole(path, write)

    @classmethod
    def load(cls, path: Path) -> "AttackedQueries":
        """Read what `save` wrote.

        Raises:
            ValueError: the file is damaged or of another kind.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                fields = {field.name: file[field.name] for field in dataclasses.fields(cls)}
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
        )
