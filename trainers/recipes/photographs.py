"""Settings for some thousand photographs on a small network, found by trial on Corel-5K."""

import dataclasses
from typing import Literal

from trainers.recipes.recipe import FileRecipe, HashingLossName


@dataclasses.dataclass(frozen=True, kw_only=True)
class PhotographRecipe(FileRecipe):
    """Defaults for photographs on a small pretrained network."""

    backbone: str = "efficientnet_lite0"
    pretrained: bool = True
    bits: int = 64
    image_size: int = 64
    crop_fraction: float = 1.0
    cache: bool = True
    hashing_loss: HashingLossName = "csq"
    optimizer: Literal["sgd", "adam"] = "adam"
    flip: bool = True
    pretrain_epochs: int = 30
    epochs: int = 16
    pretrain_learning_rate: float = 2e-3
    learning_rate: float = 2e-3
    inner_training: Literal["training", "inference"] = "inference"
    weight_decay: float = 0.0
