"""Cells of the tables, each one model with the attacks on it, and the scale they share."""

import dataclasses
from pathlib import Path

from trainers.recipes.corel5k import Corel5kRecipe
from trainers.recipes.defense_options import RECIPES

EPSILON_255 = 8.0
NON_TARGETED = ("hag", "sdha", "mainstay")
SUITE = ("auto", "mainstay", "center", "square")
TARGETED = ("p2p", "dhta", "pros-gan", "tha", "mainstay-targeted")
SEEDS, BITS, OTHER_BITS = (0, 1), 32, (16, 48, 64)
# (epsilon of training in 1/255, lambda), each axis through the published (8, 1).
TRADE_OFF = ((2.0, 1.0), (4.0, 1.0), (8.0, 1.0), (16.0, 1.0), (8.0, 0.25), (8.0, 4.0))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scale:
    """Size of the experiment; every cell has the same.

    Args:
        image_size: side of the images in pixels.
        num_train: training images, spread evenly over the list, which is in order of subjects.
        num_queries: attacked queries, spread likewise.
        pretrain_epochs: epochs of plain hashing training.
        epochs: epochs of each defense.
        square_steps: steps of Square, ten queries each; it has no published number for codes.
        fit_epochs: epochs of the attacks that are trained first.
        attack_steps: steps of the other attacks: the published 100.
    """

    image_size: int
    num_train: int
    num_queries: int
    pretrain_epochs: int
    epochs: int
    square_steps: int
    fit_epochs: int
    attack_steps: int = 100


SCALES = {
    "small": Scale(
        image_size=48, num_train=1536, num_queries=128, pretrain_epochs=20, epochs=8, square_steps=50, fit_epochs=3,
    ),
    "full": Scale(
        image_size=64, num_train=2221, num_queries=490, pretrain_epochs=30, epochs=16, square_steps=100, fit_epochs=100,
    ),
}  # fmt: skip


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cell:
    """One model: how it is defended, its bits and its seed; what it is trained with where that is not as published."""

    defense: str
    bits: int = BITS
    seed: int = 0
    epsilon_255: float = EPSILON_255
    adversarial_weight: float = 1.0

    @property
    def name(self) -> str:
        """The name of the card, and what `--only` matches.

        Example:
            >>> Cell(defense="saat-inference", epsilon_255=4).name
            'saat-inference-32bits-seed0-eps4'
        """
        name = f"{self.defense}-{self.bits}bits-seed{self.seed}"
        if self.epsilon_255 != EPSILON_255:
            name += f"-eps{self.epsilon_255:g}"
        if self.adversarial_weight != 1:
            name += f"-lambda{self.adversarial_weight:g}"
        return name

    @property
    def undefended(self) -> "Cell":
        """The cell whose model this one starts from."""
        return Cell(defense="none", bits=self.bits, seed=self.seed)


def all_cells() -> list[Cell]:
    """Return the cells of the page, what the others start from and what says most first."""
    main = [
        Cell(defense=defense, seed=seed) for seed in SEEDS for defense in ("none", "saat", "strong", "cgat", "atrdh")
    ]
    curve = [Cell(defense="saat-inference", epsilon_255=e, adversarial_weight=w) for e, w in TRADE_OFF]
    other = [Cell(defense=defense, bits=bits) for bits in OTHER_BITS for defense in ("none", "saat")]
    return main + curve + other


def trade_off_cells() -> list[Cell]:
    """Return the cells of the trade-off, sorted by epsilon and then lambda."""
    return [
        Cell(defense="saat-inference", epsilon_255=epsilon, adversarial_weight=weight)
        for epsilon, weight in sorted(TRADE_OFF)
    ]


def attacks_of(cell: Cell, scale: Scale) -> dict[str, int]:
    """Return the names of the attacks on a cell's model, each with its number of steps."""
    names: tuple[str, ...] = ("mainstay",)
    if cell.bits == BITS and cell.defense != "saat-inference":
        names = tuple(dict.fromkeys(NON_TARGETED + SUITE))
        if cell.defense == "none":
            names += TARGETED
    return {name: scale.square_steps if name == "square" else scale.attack_steps for name in names}


def recipe_of(cell: Cell, scale: Scale, data_dir: Path) -> Corel5kRecipe:
    """Return the recipe that trains a cell's model: from ImageNet weights where undefended, else from there.

    The undefended model and the variant with attacks in inference mode have settings of our own, found by trial; each
    defense has its authors' optimizer, weights and inner attack, and the epochs of the scale.
    """
    recipe = Corel5kRecipe(
        data_dir=data_dir,
        bits=cell.bits,
        image_size=scale.image_size,
        pretrain_epochs=scale.pretrain_epochs,
        epochs=scale.epochs,
        epsilon_255=cell.epsilon_255,
        adversarial_weight=cell.adversarial_weight,
        attack_steps=scale.attack_steps,
        seed=cell.seed,
        probe_images=0,
    )
    return dataclasses.replace(recipe, **SETTINGS[cell.defense])


AS_PUBLISHED = {"adversarial_optimizer": "sgd", "inner_training": "training"}
SETTINGS: dict[str, dict] = {
    "none": {},
    "saat": {**AS_PUBLISHED, "learning_rate": 0.05, "weight_decay": 1e-5},
    "cgat": {**AS_PUBLISHED, "defense": "cgat", "learning_rate": 0.01, "momentum": 0.9, "weight_decay": 5e-4},
    "atrdh": {
        "defense": "atrdh", "adversarial_optimizer": "adam", "inner_training": "training", "learning_rate": 1e-4,
        "adversarial_weight": 2.0,
    },
    "strong": {"recipe": "strong", **RECIPES["strong"]},
    "saat-inference": {"learning_rate": 1e-3},
}  # fmt: skip


def estimated_core_seconds(cell: Cell, scale: Scale) -> float:
    """Estimate the cost of a cell from single measurements of efficientnet_lite0 at 48 pixels, one core.

    A thousand images cost 12 s in plain training and 42 s in adversarial training, a step of a gradient attack 2.2 ms
    a query, a query of Square 1 ms; tracing, loading and encoding about 40 s a model.
    """
    area = (scale.image_size / 48) ** 2
    rate, epochs = (0.012, scale.pretrain_epochs) if cell.defense == "none" else (0.042, scale.epochs)
    steps = sum(10 * 0.001 * n if name == "square" else 0.0022 * n for name, n in attacks_of(cell, scale).items())
    return 40 + area * (rate * epochs * scale.num_train + steps * scale.num_queries)
