"""Adversarial training that begins with a robust backbone: its weights, a head trained first, and a smaller rate."""

import keras
import numpy as np
import pytest

from saat_tf.backbones import backbone_spec, save_weights_file
from trainers.recipes.option_checks import check_recipe
from trainers.recipes.scenes import ScenesRecipe, load
from trainers.runs.training import build_encoder, build_hashing_loss, train_adversarially

pytestmark = pytest.mark.slow

SMALL = {"image_size": 16, "bits": 16, "num_train": 64, "num_queries": 6, "batch_size": 32, "num_steps": 1}
SMALL = {**SMALL, "probe_images": 0, "learning_rate": 0.02, "weight_decay": 0.1}


class Recorder(keras.callbacks.Callback):
    """Keeps the trainable weights of backbone and head before the first step and after each."""

    def on_train_begin(self, logs=None):
        self.steps = []
        self.on_train_batch_end(0)

    def on_train_batch_end(self, batch, logs=None):
        encoder = self.model.encoder
        parts = (encoder.backbone.trainable_variables, encoder.hash_head.trainable_variables)
        self.steps.append([np.concatenate([w.numpy().ravel() for w in part]) for part in parts])


def trained(**options):
    recipe = ScenesRecipe(**{**SMALL, **options})
    keras.utils.set_random_seed(0)
    data, recorder = load(recipe), Recorder()
    train_adversarially(recipe, data, build_encoder(recipe), build_hashing_loss(recipe, 10), None, callbacks=[recorder])
    return recorder.steps


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_the_head_learns_first_and_then_the_backbone_by_its_share_of_the_rate(optimizer):
    plain = trained(epochs=1, adversarial_optimizer=optimizer)
    own = trained(epochs=2, head_epochs=1, backbone_rate=0.25, adversarial_optimizer=optimizer)
    backbone, head = zip(*own, strict=True)
    assert len(own) == 5  # two steps an epoch
    np.testing.assert_array_equal(backbone[0], backbone[2])  # nor does it decay
    assert all((head[i] != head[i + 1]).any() for i in range(4))
    assert (backbone[2] != backbone[3]).any() and (backbone[3] != backbone[4]).any()
    own = trained(epochs=1, backbone_rate=0.25, adversarial_optimizer=optimizer)
    np.testing.assert_array_equal(own[1][1], plain[1][1])  # the first step of the head is that of one rate
    decay = 0.1 * 0.02 * plain[0][0]
    np.testing.assert_allclose(own[1][0] - own[0][0], 0.25 * (plain[1][0] - plain[0][0] + decay), rtol=1e-3, atol=2e-7)


def test_robust_weights_are_those_it_begins_with_and_the_head_is_drawn_anew(tmp_path):
    keras.utils.set_random_seed(7)
    backbone = backbone_spec("small_cnn").build(16)
    save_weights_file(backbone, "small_cnn", tmp_path / "robust.safetensors")
    first = trained(epochs=1, robust_weights=str(tmp_path / "robust.safetensors"))[0]
    # The optimizer has seen no step when training begins.
    np.testing.assert_array_equal(first[0], np.concatenate([w.numpy().ravel() for w in backbone.trainable_variables]))
    keras.utils.set_random_seed(0)
    undefended = build_encoder(ScenesRecipe(**SMALL)).hash_head.trainable_variables
    kernel = undefended[0].numpy().ravel()
    assert (first[1][: kernel.size] != kernel).all()


def test_weights_of_another_backbone_are_refused_before_the_hashing_phase(tmp_path):
    save_weights_file(backbone_spec("alexnet").build(64), "alexnet", tmp_path / "other.safetensors", dtype="float16")
    with pytest.raises(ValueError, match=r"other\.safetensors"):
        build_encoder(ScenesRecipe(**SMALL, robust_weights=str(tmp_path / "other.safetensors")))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"robust_weights": "packaged"}, "The package has robust weights of efficientnet_lite0. Received: small_cnn."),
        ({"robust_weights": "/nowhere"}, "--robust-weights must be a file. Received: /nowhere."),
        ({"head_epochs": -1}, "--head-epochs must be at least 0. Received: -1."),
        ({"backbone_rate": 0.0}, r"--backbone-rate must be in \(0, 1\]. Received: 0.0."),
    ],
)
def test_options_out_of_range_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        check_recipe(ScenesRecipe(**options))
