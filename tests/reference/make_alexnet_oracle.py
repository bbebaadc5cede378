"""Write alexnet_oracle.json: what a PyTorch network in torchvision's AlexNet layout gives for weights by formula.

Users and the test suite never need this script; it documents where the numbers came from. It runs in an environment
of its own with torch==2.13.0 and numpy (torchvision is not needed):

    python tests/reference/make_alexnet_oracle.py

The parameters, in the order of the layers (weight before bias), are numbered from 0. Parameter number n, in PyTorch's
layout, is

    weight:  sqrt(6 / fan_in) * RandomState(n).uniform(-1, 1, shape)
    bias:    0.1 * RandomState(n).uniform(-1, 1, shape)

computed in float64 and rounded to float32. Inputs are RandomState(seed).rand(2, S, S, 3) * 2 - 1, taken as already
normalized.
"""

import json
import math
from pathlib import Path

import numpy as np
import torch
from torch import nn

CASES = [(64, 0), (100, 1), (224, 2)]


def layout() -> nn.Sequential:
    """Return torchvision's AlexNet without its last dense layer."""
    return nn.Sequential(
        nn.Conv2d(3, 64, kernel_size=11, stride=4, padding=2), nn.ReLU(),
        nn.MaxPool2d(kernel_size=3, stride=2),
        nn.Conv2d(64, 192, kernel_size=5, padding=2), nn.ReLU(),
        nn.MaxPool2d(kernel_size=3, stride=2),
        nn.Conv2d(192, 384, kernel_size=3, padding=1), nn.ReLU(),
        nn.Conv2d(384, 256, kernel_size=3, padding=1), nn.ReLU(),
        nn.Conv2d(256, 256, kernel_size=3, padding=1), nn.ReLU(),
        nn.MaxPool2d(kernel_size=3, stride=2),
        nn.AdaptiveAvgPool2d((6, 6)),
        nn.Flatten(),
        nn.Dropout(0.5), nn.Linear(256 * 6 * 6, 4096), nn.ReLU(),
        nn.Dropout(0.5), nn.Linear(4096, 4096), nn.ReLU(),
    )  # fmt: skip


def formula(number: int, shape: tuple[int, ...]) -> np.ndarray:
    """Return parameter `number` of the formula in this file's docstring."""
    scale = 0.1 if len(shape) == 1 else math.sqrt(6 / math.prod(shape[1:]))
    return (scale * np.random.RandomState(number).uniform(-1, 1, shape)).astype(np.float32)


def main() -> None:
    """Run the network on every case and write the numbers beside this script."""
    network = layout().eval()
    with torch.no_grad():
        for number, parameter in enumerate(network.parameters()):
            parameter.copy_(torch.from_numpy(formula(number, tuple(parameter.shape))))
    cases = []
    for image_size, seed in CASES:
        images = np.random.RandomState(seed).rand(2, image_size, image_size, 3).astype(np.float32) * 2 - 1
        with torch.no_grad():
            features = network(torch.from_numpy(images.transpose(0, 3, 1, 2).copy())).double()
        cases.append(
            {
                "image_size": image_size,
                "seed": seed,
                "features": [[float(f"{value:.7g}") for value in row[::64].tolist()] for row in features],
                "features_mean": float(f"{features.mean().item():.8g}"),
                "features_std": float(f"{features.std(correction=0).item():.8g}"),
            }
        )
    oracle = {
        "network": "torchvision's AlexNet layout up to the second hidden dense layer, eval mode, weights by formula",
        "torch": torch.__version__,
        "inputs": "normalized: numpy.random.RandomState(seed).rand(2, S, S, 3) as float32 * 2 - 1, NHWC",
        "features": "every 64th of the 4096 features of both images; mean and std are over all of them",
        "cases": cases,
    }
    Path(__file__).with_name("alexnet_oracle.json").write_text(json.dumps(oracle, indent=1) + "\n")


if __name__ == "__main__":
    main()
