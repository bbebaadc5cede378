"""SAAT's step in PyTorch, as published: the baseline of `benchmarks.saat_step`. Needs the extra `bench`.

Reads a case (weights, images, bank) that `benchmarks.step_worker` wrote, and does a step for each line that comes in.
Variants: `usual`, as such steps are written, where `backward()` of each inner step fills the gradients of the weights
as well; `best`, gradients of pixels alone and channels last; `compiled`, the same by torch.compile. Mainstay codes and
DPH are the formulas over all rows of the bank.
"""

import argparse
import resource
import sys

import numpy as np
import torch
from torch import nn

from benchmarks.workers import serve

EPSILON, STEP_SIZE, LEARNING_RATE = 8 / 255, 2 / 255, 0.01
VARIANTS = ("usual", "best", "compiled")


class AlexNetHash(nn.Module):
    """AlexNet with a hash layer: images (B, 3, S, S) in [0, 1] to tanh codes (B, K)."""

    def __init__(self, code_length: int, mean: np.ndarray, std: np.ndarray, dropout: float) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).reshape(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).reshape(1, 3, 1, 1))
        self.features = nn.Sequential(
            nn.Conv2d(3, 64, 11, stride=4, padding=2), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2),
            nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2),
            nn.Conv2d(192, 384, 3, padding=1), nn.ReLU(inplace=True),
            nn.Conv2d(384, 256, 3, padding=1), nn.ReLU(inplace=True),
            nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2),
        )  # fmt: skip
        self.avgpool = nn.AdaptiveAvgPool2d(6)
        self.classifier = nn.Sequential(
            nn.Dropout(dropout), nn.Linear(256 * 36, 4096), nn.ReLU(inplace=True),
            nn.Dropout(dropout), nn.Linear(4096, 4096), nn.ReLU(inplace=True),
        )  # fmt: skip
        self.projection = nn.Linear(4096, code_length)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return relaxed codes."""
        features = self.avgpool(self.features((images - self.mean) / self.std))
        return torch.tanh(self.projection(self.classifier(features.flatten(1))))

    def take_weights(self, case: dict[str, np.ndarray]) -> None:
        """Copy Keras' weights, whose layers have these names: kernels (H, W, in, out) and (in, out)."""
        for path in (path for path in case if path.endswith(("/kernel", "/bias"))):
            layer, kind = path.split("/")[-2:]
            value = torch.tensor(case[path])
            if kind == "kernel":
                value = value.permute(3, 2, 0, 1) if value.dim() == 4 else value.T
            module = self.get_submodule(layer)
            getattr(module, "weight" if kind == "kernel" else "bias").data.copy_(value)


def signs(values: torch.Tensor) -> torch.Tensor:
    """Return -1/+1, zero being +1."""
    return torch.where(values >= 0, 1.0, -1.0)


def mainstay(labels: torch.Tensor, bank_labels: torch.Tensor, bank_codes: torch.Tensor) -> torch.Tensor:
    """Return the mainstay codes of label rows by the formula over all N items."""
    shared = labels @ bank_labels.T  # (B, C) @ (C, N)
    lengths = labels.sum(1, keepdim=True).sqrt() * bank_labels.sum(1).sqrt()
    positive, negative = shared / lengths.clamp(min=1e-12), (shared == 0).float()

    def mean(weights: torch.Tensor) -> torch.Tensor:
        return weights @ signs(bank_codes) / weights.sum(1, keepdim=True).clamp(min=1e-12)

    return signs(mean(positive) - mean(negative))


class Step:
    """One step of SAAT on one batch again and again."""

    def __init__(self, case: dict[str, np.ndarray], variant: str, *, compare: bool, device: str) -> None:
        self.variant, self.compare, self.num_steps = variant, compare, int(case["num_steps"])
        self.device = torch.device(device)

        def there(name: str) -> torch.Tensor:
            return torch.tensor(case[name], device=self.device)

        images, start = (there(name).permute(0, 3, 1, 2).contiguous() for name in ("images", "start"))
        self.index, self.bank_labels, self.bank_codes = there("index"), there("labels"), there("codes")
        self.labels = self.bank_labels[self.index]
        network = AlexNetHash(self.bank_codes.shape[1], case["mean"], case["std"], dropout=0.0 if compare else 0.5)
        network.take_weights(case)
        network = network.to(self.device)
        if variant != "usual":
            network = network.to(memory_format=torch.channels_last)
            images, start = (x.to(memory_format=torch.channels_last) for x in (images, start))
        self.images, self.start = images, start
        self.optimizer = torch.optim.SGD(network.parameters(), lr=LEARNING_RATE)
        self.network = torch.compile(network) if variant == "compiled" else network

    def slopes(self, adversarial: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
        """Return the gradient of the pixels, of what drives the codes away from `codes`."""
        adversarial.requires_grad_()
        gain = -(self.network(adversarial) * codes).mean()
        if self.variant == "usual":
            gain.backward()
            return adversarial.grad
        return torch.autograd.grad(gain, adversarial)[0]

    def perturb(self, codes: torch.Tensor) -> torch.Tensor:
        """Return adversarial images by PGD from a random start."""
        images = self.images
        # torch.compile makes one backward pass of all gradients that are asked for: here those of the pixels alone.
        self.ask_for_weights(self.variant == "usual")
        noise = torch.empty_like(images).uniform_(-EPSILON, EPSILON)
        adversarial = self.start.clone() if self.compare else (images + noise).clamp(0, 1)
        for _ in range(self.num_steps):
            moved = adversarial.detach() + STEP_SIZE * self.slopes(adversarial, codes).sign()
            adversarial = torch.min(torch.max(moved, images - EPSILON), images + EPSILON).clamp(0, 1)
        self.ask_for_weights(True)
        return adversarial.detach()

    def ask_for_weights(self, asked: bool) -> None:
        """Say whether backward passes give gradients of the weights."""
        for parameter in self.network.parameters():
            parameter.requires_grad_(asked)

    def __call__(self) -> dict:
        """Do a step and return the losses."""
        adversarial = self.perturb(mainstay(self.labels, self.bank_labels, self.bank_codes))
        self.optimizer.zero_grad()
        adversarial_codes, codes = self.network(adversarial), self.network(self.images)
        self.bank_codes[self.index] = codes.detach()
        related = (self.labels @ self.bank_labels.T > 0).float()
        similarity = codes @ self.bank_codes.T / codes.shape[1]
        hashing = (similarity - (2 * related - 1)).square().mean()
        target = mainstay(self.labels, self.bank_labels, self.bank_codes)
        robust = -(adversarial_codes * target).mean()
        quantization = (adversarial_codes - signs(adversarial_codes.detach())).square().mean()
        loss = hashing + robust + 1e-4 * quantization
        loss.backward()
        self.optimizer.step()
        parts = {"loss": loss, "hashing_loss": hashing, "adversarial_loss": robust, "quantization_loss": quantization}
        losses = {name: value.item() for name, value in parts.items()}  # which waits for the device
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
        on_gpu = torch.cuda.max_memory_allocated() / 2**20 if self.device.type == "cuda" else peak
        return {**losses, "peak_rss_mb": peak, "peak_mb": on_gpu}


def main() -> None:
    """Read the case and serve."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", required=True, help="the .npz file that step_worker wrote")
    parser.add_argument("--variant", choices=VARIANTS, default="usual")
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--device", default="cpu", help="cpu, or cuda for a GPU")
    parser.add_argument("--tf32", action="store_true", help="round factors of products to TF32, where the GPU can")
    parser.add_argument("--compare", action="store_true", help="no dropout, and the random start of the case")
    options = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(options.threads)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = options.tf32
    with np.load(options.case) as file:
        case = dict(file)
    step = Step(case, options.variant, compare=options.compare, device=options.device)
    serve(step, {"torch": torch.__version__})


if __name__ == "__main__":
    main()
