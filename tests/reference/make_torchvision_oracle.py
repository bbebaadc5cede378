"""Write torchvision_oracle.json: what torchvision's VGG and ResNet give for weights by formula, and their shapes.

Users and the test suite never need this script; it documents where the numbers came from. It runs in an environment of
its own with the packages of the extra `convert-test`:

    python tests/reference/make_torchvision_oracle.py

Let u be 65,537 numbers of RandomState(crc32(name)).uniform(-1, 1), rounded to float32 and repeated until the tensor is
full, in PyTorch's layout. In float32, the tensor of that name is

    *.running_var                          0.01 + 0.005 u    so small that the epsilon of batch normalization shows
    *.running_mean                         0.02 u
    *.weight of one dimension              1 + 0.25 u        batch normalization
    *.bias                                 0.1 u
    *.weight of more                       g sqrt(6 / fan_in) u

with g = 0.1 for convolutions of networks with batch normalization and 1 elsewhere. Inputs are
RandomState(seed).rand(2, S, S, 3) * 2 - 1, taken as already normalized. Networks are in eval mode; the classifier is
left out. For the numbers, not for the shapes, VGG's dense layers have 256 features in place of 4,096, so that the test
need not make 120 million of them.
"""

import hashlib
import json
import math
import zlib
from pathlib import Path

import numpy as np
import torch
import torchvision
from torch import nn

VGG_DENSE_FEATURES = 256
DEPTHS = {"vgg": (11, 13, 16, 19), "resnet": (18, 34, 50, 101, 152)}
NAMES = ["alexnet"]
NAMES += [f"vgg{depth}{suffix}" for depth in DEPTHS["vgg"] for suffix in ("", "_bn")]
NAMES += [f"resnet{depth}" for depth in DEPTHS["resnet"]]
# VGG leaves 3 and 2 pixels a side of these sizes; 75 and 33 are odd, and so are their halves.
CASES = [("vgg11", 100, 1), ("vgg11_bn", 64, 2)]
CASES += [("resnet18", 32, 3), ("resnet18", 75, 4), ("resnet50", 33, 6)]


def shapes(network: nn.Module, classifier: str) -> dict[str, tuple[int, ...]]:
    """Return name -> shape of what a backbone has; torchvision's own names and shapes."""
    return {
        name: tuple(tensor.shape)
        for name, tensor in network.state_dict().items()
        if not name.startswith(f"{classifier}.") and not name.endswith(".num_batches_tracked")
    }


def digest(named: dict[str, tuple[int, ...]]) -> str:
    """Return the SHA-256 of the sorted lines `name [sides]`."""
    return hashlib.sha256(
        "\n".join(sorted(f"{name} {list(shape)}" for name, shape in named.items())).encode()
    ).hexdigest()


def formula(name: str, shape: tuple[int, ...], conv_gain: float) -> np.ndarray:
    """Return the tensor of the formula in this file's docstring."""
    numbers = np.random.RandomState(zlib.crc32(name.encode())).uniform(-1, 1, 65537).astype(np.float32)
    u = np.resize(numbers, shape)
    if name.endswith(".running_var"):
        return np.float32(0.01) + np.float32(0.005) * u
    if name.endswith(".running_mean"):
        return np.float32(0.02) * u
    if name.endswith(".bias"):
        return np.float32(0.1) * u
    if len(shape) == 1:
        return 1 + np.float32(0.25) * u
    gain = conv_gain if len(shape) == 4 else 1.0
    return np.float32(gain * math.sqrt(6 / math.prod(shape[1:]))) * u


def run_case(name: str, image_size: int, seed: int) -> dict:
    """Run one network on its inputs."""
    network = getattr(torchvision.models, name)().eval()
    with_norm = any(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    if name.startswith("resnet"):
        classifier, network.fc = "fc", nn.Identity()
    else:
        network.classifier[0] = nn.Linear(25088, VGG_DENSE_FEATURES)
        network.classifier[3] = nn.Linear(VGG_DENSE_FEATURES, VGG_DENSE_FEATURES)
        classifier, network.classifier[6] = "classifier.6", nn.Identity()
    state = {
        key: torch.from_numpy(formula(key, shape, 0.1 if with_norm else 1.0))
        for key, shape in shapes(network, classifier).items()
    }
    network.load_state_dict(state, strict=False)
    images = np.random.RandomState(seed).rand(2, image_size, image_size, 3).astype(np.float32) * 2 - 1
    with torch.no_grad():
        features = network(torch.from_numpy(images.transpose(0, 3, 1, 2).copy())).double()
    return {
        "network": name,
        "image_size": image_size,
        "seed": seed,
        "features": [[float(f"{value:.7g}") for value in row[:: row.numel() // 32].tolist()] for row in features],
        "features_mean": float(f"{features.mean().item():.8g}"),
        "features_std": float(f"{features.std(correction=0).item():.8g}"),
    }


def main() -> None:
    """Write shapes and numbers beside this script."""
    networks = {}
    for name in NAMES:
        with torch.device("meta"):
            network = getattr(torchvision.models, name)()
        named = shapes(network, "fc" if name.startswith("resnet") else "classifier.6")
        networks[name] = {
            "parameters": sum(parameter.numel() for parameter in network.parameters()),
            "tensors": len(named),
            "digest": digest(named),
        }
    oracle = {
        "made_with": f"torch {torch.__version__}, torchvision {torchvision.__version__}",
        "networks": "parameters with the classifier; tensors and digest of names and shapes without it",
        "shapes": networks,
        "features": "32 features of each of both images, evenly spaced; mean and std are over all of them",
        "cases": [run_case(*case) for case in CASES],
    }
    Path(__file__).with_name("torchvision_oracle.json").write_text(json.dumps(oracle, indent=1) + "\n")


if __name__ == "__main__":
    main()
