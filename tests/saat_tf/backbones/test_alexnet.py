import json
import math
from pathlib import Path

import numpy as np
import pytest

from saat_tf.backbones.alexnet import alexnet

ORACLE = json.loads((Path(__file__).parents[2] / "reference" / "alexnet_oracle.json").read_text())
LAYERS = ["features.0", "features.3", "features.6", "features.8", "features.10", "classifier.1", "classifier.4"]


@pytest.fixture(scope="module")
def formula_weights():
    """Parameters of make_alexnet_oracle.py, in the layout of Keras: {layer: [kernel, bias]}."""

    def formula(number, shape):
        scale = 0.1 if len(shape) == 1 else math.sqrt(6 / math.prod(shape[1:]))
        return (scale * np.random.RandomState(number).uniform(-1, 1, shape)).astype(np.float32)

    torch_shapes = [(64, 3, 11, 11), (192, 64, 5, 5), (384, 192, 3, 3), (256, 384, 3, 3), (256, 256, 3, 3)]
    torch_shapes += [(4096, 9216), (4096, 4096)]
    weights = {}
    for index, (layer, shape) in enumerate(zip(LAYERS, torch_shapes, strict=True)):
        kernel = formula(2 * index, shape)
        axes = (2, 3, 1, 0) if len(shape) == 4 else (1, 0)
        weights[layer] = [kernel.transpose(axes), formula(2 * index + 1, shape[:1])]
    return weights


@pytest.mark.slow
@pytest.mark.parametrize("case", ORACLE["cases"], ids=lambda case: f"{case['image_size']}px")
def test_equals_the_pytorch_layout(case, formula_weights):
    size = case["image_size"]
    backbone = alexnet(size)
    for layer, values in formula_weights.items():
        backbone.get_layer(layer).set_weights(values)
    images = np.random.RandomState(case["seed"]).rand(2, size, size, 3).astype(np.float32) * 2 - 1
    features = backbone.predict_on_batch(images)  # in a graph
    assert features.shape == (2, 4096)
    np.testing.assert_allclose(features[:, ::64], case["features"], atol=1e-4)
    np.testing.assert_allclose(features.mean(), case["features_mean"], atol=1e-4)
    np.testing.assert_allclose(features.std(), case["features_std"], atol=1e-4)


def test_smallest_image_and_the_error_below_it():
    assert alexnet(63).output_shape == (None, 4096)
    with pytest.raises(ValueError, match=r"at least 63 pixels.*Received: image_size=62.*small_cnn"):
        alexnet(62)
