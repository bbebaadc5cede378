"""Write torch_hashing_oracle.json: logits of PyTorch hashing networks in the layouts of public repositories.

Users and the test suite never need this script; it documents where the numbers came from. It runs in an environment
of its own with torch==2.13.0 and numpy:

    python tests/reference/make_torch_hashing_oracle.py

The networks are AlexNet and ResNet-18 with a linear hash layer, registered as the repositories do it, which decides the
names in the state dict:

- `alexnet features/classifier`: `features`, `classifier` and a hash layer of its own name;
- `alexnet classifier`: the hash layer is the last one of `classifier`, as in torchvision's layout;
- `alexnet hash sequence`: `features`, and one sequence `hash_layer` of dropout, two hidden layers and the hash layer;
- `alexnet feature_layers`: `features`, `classifier` with named members, both again in `feature_layers`, `hash_layer`;
- `resnet18 feature_layers`: the stages in one sequence `feature_layers`, and `hash_layer`;
- `resnet18 both`: the stages under their own names and again in `feature_layers`.

Each tensor is made by a formula of the name that it has in torchvision (`hash.weight`, `hash.bias` for the hash layer):
u = numpy.resize(RandomState(crc32(name)).uniform(-1, 1, 65537), shape), as float32, and then u / 10 for biases and
means, 1 + u / 2 for variances and scales, else sqrt(6 / fan_in) u. Images are RandomState(seed).rand(2, S, S, 3), in
[0, 1], and are normalized by ImageNet's mean and standard deviation.
"""

import collections
import json
import math
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import nn

BITS = 16
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def formula(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Return the tensor of a name by the formula of this file's docstring."""
    u = np.resize(np.random.RandomState(zlib.crc32(name.encode())).uniform(-1, 1, 65537).astype(np.float32), shape)
    if name.endswith((".bias", ".running_mean")):
        return u / np.float32(10)
    if name.endswith(".running_var") or len(shape) == 1:
        return 1 + u / np.float32(2)
    return np.float32(math.sqrt(6 / math.prod(shape[1:]))) * u


class Block(nn.Module):
    """Basic block of ResNet-18."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample = None
        if stride != 1 or channels_in != channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(channels_in, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the block's output."""
        y = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        return torch.relu(y + (x if self.downsample is None else self.downsample(x)))


def alexnet_features() -> nn.Sequential:
    """Return the convolutions of AlexNet."""
    return nn.Sequential(
        nn.Conv2d(3, 64, 11, 4, 2), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Conv2d(192, 384, 3, padding=1), nn.ReLU(), nn.Conv2d(384, 256, 3, padding=1), nn.ReLU(),
        nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2),
    )  # fmt: skip


def alexnet_hidden() -> list[nn.Module]:
    """Return the hidden dense layers of AlexNet."""
    return [nn.Dropout(), nn.Linear(9216, 4096), nn.ReLU(), nn.Dropout(), nn.Linear(4096, 4096), nn.ReLU()]


def networks() -> dict[str, tuple[nn.Module, list[nn.Module], dict[int, str]]]:
    """Return by layout a module with the parts, what to run in order, and the torchvision name of each leaf module."""
    found = {}
    for layout in ("features/classifier", "classifier", "hash sequence", "feature_layers"):
        features, hidden, last = alexnet_features(), alexnet_hidden(), nn.Linear(4096, BITS)
        names = {id(part): f"features.{i}" for i, part in enumerate(features)}
        names |= {id(part): f"classifier.{i}" for i, part in enumerate(hidden)} | {id(last): "hash"}
        net = nn.Module()
        net.features = features
        if layout == "features/classifier":
            net.classifier, net.fc8 = nn.Sequential(*hidden), last
        elif layout == "classifier":
            net.classifier = nn.Sequential(*hidden, last)
        elif layout == "hash sequence":
            net.hash_layer = nn.Sequential(*hidden, last)
        else:
            members = collections.OrderedDict((f"classifier{i}", part) for i, part in enumerate(hidden))
            net.classifier, net.hash_layer = nn.Sequential(members), last
            net.feature_layers = nn.Sequential(net.features, net.classifier)
        found[f"alexnet {layout}"] = net, [features, nn.Flatten(), *hidden, last], names
    for layout in ("feature_layers", "both"):
        stages = [
            nn.Sequential(Block(a, b, stride), Block(b, b, 1))
            for a, b, stride in ((64, 64, 1), (64, 128, 2), (128, 256, 2), (256, 512, 2))
        ]
        conv, norm, last = nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.Linear(512, BITS)
        body = nn.Sequential(conv, norm, nn.ReLU(), nn.MaxPool2d(3, 2, 1), *stages, nn.AdaptiveAvgPool2d(1))
        own = {"conv1": conv, "bn1": norm, **{f"layer{i}": stage for i, stage in enumerate(stages, 1)}}
        names = {
            id(part): ".".join(filter(None, (name, inner)))
            for name, module in own.items()
            for inner, part in module.named_modules()
        } | {id(last): "hash"}
        net = nn.Module()
        if layout == "both":
            for name, module in own.items():
                setattr(net, name, module)
        net.feature_layers, net.hash_layer = body, last
        found[f"resnet18 {layout}"] = net, [body, nn.Flatten(), last], names
    return found


def main() -> None:
    """Run each network and write names and numbers beside this script."""
    cases = {}
    for seed, (layout, (net, order, names)) in enumerate(networks().items()):
        net.eval()
        torchvision_names, shapes = {}, {}
        for module_name, module in net.named_modules(remove_duplicate=False):
            tensors = [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]
            for name, tensor in tensors:
                known = f"{names[id(module)]}.{name}"
                torchvision_names[f"{module_name}.{name}"] = known
                shapes[known] = list(tensor.shape)
                if name != "num_batches_tracked":
                    with torch.no_grad():
                        tensor.copy_(torch.from_numpy(formula(known, tuple(tensor.shape)).copy()))
        assert sorted(torchvision_names) == sorted(net.state_dict())
        size = 224 if layout.startswith("alexnet") else 64
        images = np.random.RandomState(seed).rand(2, size, size, 3).astype(np.float32)
        x = torch.from_numpy(((images - np.float32(MEAN)) / np.float32(STD)).transpose(0, 3, 1, 2).copy())
        with torch.no_grad():
            for module in order:
                x = module.eval()(x)
        cases[layout] = {
            "image_size": size,
            "seed": seed,
            "names": torchvision_names,
            "shapes": shapes,
            "logits": [[float(f"{value:.7g}") for value in row] for row in x.double().tolist()],
        }
    oracle = {"torch": torch.__version__, "bits": BITS, "cases": cases}
    Path(__file__).with_name("torch_hashing_oracle.json").write_text(json.dumps(oracle, indent=1) + "\n")


if __name__ == "__main__":
    main()
