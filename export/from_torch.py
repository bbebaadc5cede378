"""Make a preset of a hashing network trained in PyTorch: `python -m export.from_torch --weights net.pth ...`."""

import dataclasses
import hashlib
import sys
from pathlib import Path

import tyro

from saat_tf.command_line import ExitCode
from saat_tf.models.torch_files import hashing_model_from_torch


@dataclasses.dataclass(frozen=True, kw_only=True)
class TorchImport:
    """Make a preset of the state dict of a PyTorch hashing network: alexnet, vgg or resnet and a linear hash layer.

    Command: python -m export.from_torch --weights net.pth --backbone alexnet --hash-layer hash_layer --out presets/net
    In Python, HashingModel.from_preset("presets/net") loads it, to be attacked and evaluated; python -m
    export.saved_model, export.serving and export.tflite take it by --preset presets/net. Nothing in the file is run;
    tensors that are missing, left over or unfit are listed.
    """

    weights: Path
    """The .pth or .safetensors file."""
    backbone: str
    """alexnet, or a vgg or resnet, such as vgg16_bn or resnet50."""
    hash_layer: str
    """Name of the hash layer in the network, or of the sequence that ends with it."""
    out: Path
    """Folder of the preset."""
    image_size: int = 224
    """Side of the images in pixels that the network was trained on."""
    mean: tuple[float, float, float] | None = None
    """Mean of the pixels in [0, 1] that the network expects, for red, green and blue. Default: ImageNet's."""
    std: tuple[float, float, float] | None = None
    """Their standard deviation. Default: ImageNet's."""


def main(options: TorchImport) -> int:
    """Convert as `options` say; return the exit code: 0, or 2 where they or the file are refused."""
    with ExitCode() as outcome:
        if options.out.exists():
            raise FileExistsError(f"{options.out} exists, and is not overwritten. Choose another --out.")
        model = hashing_model_from_torch(
            options.weights,
            backbone=options.backbone,
            hash_layer=options.hash_layer,
            image_size=options.image_size,
            mean=options.mean,
            std=options.std,
        )
        digest = hashlib.sha256(options.weights.read_bytes()).hexdigest()
        source = {"file": options.weights.name, "sha256": digest, "hash_layer": options.hash_layer}
        about = f"{options.backbone} of {model.code_length} bits, trained in PyTorch"
        model.save_to_preset(options.out, card={"about": about, "source": source}, dtype="float32")
    if outcome.code:
        return outcome.code
    print(f"{options.out}: {model.code_length}-bit {options.backbone}. Load it by HashingModel.from_preset.")
    return 0


if __name__ == "__main__":
    sys.exit(main(tyro.cli(TorchImport)))
