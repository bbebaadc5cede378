"""What a pre-training is made of."""

import dataclasses
from pathlib import Path
from typing import Literal

from trainers.recipes.inner_options import InnerName
from trainers.recipes.run_options import FileOptions, RunOptions


@dataclasses.dataclass(frozen=True, kw_only=True)
class PretrainRecipe(FileOptions, RunOptions):
    """Train a backbone by adversarial classification of a folder of class folders, to start hashing models from.

    Command: python -m trainers.pretrain --data-dir DIR
    DIR contains <class>/<image>, or train/<class>/<image> and val/<class>/<image>, as folders or inside of tar
    files; or train-*.tfrecord and test-*.tfrecord as write_records packs them.
    The run ends with export/backbone.safetensors, which --weights of all trainers reads, and export/card.json.
    Source: settings of our own; the method is that of Madry et al., ICLR 2018, and as pre-training that of Salman et
    al., NeurIPS 2020.
    """

    data_dir: Path | None = None
    """Folder of the images."""
    held_out_share: float = 0.1
    """Share of each class's images to keep out of training and to evaluate on, where the folder does not divide
    them."""
    backbone: str = "efficientnet_lite0"
    image_size: int = 48
    batch_size: int = 128
    epochs: int = 15
    optimizer: Literal["sgd", "adam"] = "adam"
    learning_rate: float = 1e-3
    inner: InnerName = "n-fgsm"
    flip: bool = True
    random_crop: bool = True
    crop_fraction: float = 0.75
    attack_steps: int = 20
    """Steps of the attack in evaluation."""
    probe_images: int = 128
    """Attack this many held-out images, spread evenly over their list, by ten steps after each epoch, for TensorBoard
    and --on-collapse. 0: none."""

    ramp_epochs: float = 0.0
    """Epochs in which the perturbations of training grow to their whole size, step by step, from the clean images. A
    network that was not trained against attacks can end in a constant answer where they have it at once."""
    attack: Literal["pgd", "auto"] = "pgd"
    """Attack of the evaluation, up the cross-entropy: pgd, with steps of a quarter of --epsilon-255; or auto, with
    steps that each image halves by itself (Auto-PGD)."""
    restarts: int = 1
    """Random starts of the attack in evaluation; an image is robust where it withstands all."""
    test_images: int | None = None
    """Evaluate on this many of the held-out images, spread evenly over them. Default: all."""
    export_precision: Literal["float32", "float16"] = "float16"
    """Precision of the weights in backbone.safetensors; the card is of the weights in the file."""
    export_only: bool = False
    """With --resume: train no further, but evaluate and export the weights of the newest checkpoint. Training can be
    resumed later."""

    def folder_name(self, name: str) -> str:
        """Return how the folder of a run on the data set `name` begins."""
        return f"pretrain-{name}-{self.backbone}"
