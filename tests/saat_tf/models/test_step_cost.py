"""What a training step does no more than once: trace, and pass images through the encoder."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from saat_tf.data import array_split, draw_scenes, training_epochs
from saat_tf.layers import CodeBank
from saat_tf.losses import CSQ, HashNet
from saat_tf.models import ATRDH, SAAT, CgAT, HashingModel, HashingTraining

pytestmark = pytest.mark.usefixtures("tiny_small_cnn")

BITS = 16


def make(kind, loss, backbone="small_cnn", image_size=16, num_images=12):
    keras.utils.set_random_seed(1)
    scenes = draw_scenes(num_images, image_size=image_size, seed=3)
    split = array_split(scenes.images, scenes.labels)
    encoder = HashingModel(backbone, BITS, image_size)
    options = {} if kind is HashingTraining else {"num_steps": 2}
    return kind(encoder, CodeBank.from_labels(split.labels, BITS), loss(split), **options), split


def csq(split):
    return CSQ(split.labels.shape[1], BITS, seed=0)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [HashingTraining, SAAT, CgAT, ATRDH])
def test_a_training_is_traced_once_for_whole_and_uneven_batches_and_every_epoch(kind, monkeypatch):
    traces = []
    step = kind.train_step
    monkeypatch.setattr(kind, "train_step", lambda self, data: traces.append(data) or step(self, data))
    training, split = make(kind, csq)
    training.compile(optimizer=keras.optimizers.Adam(1e-3))
    training.optimizer.build(training.trainable_variables)
    training.make_train_function()
    batches = training_epochs(split, 5, seed=0)
    for epoch in range(2):
        iterator = iter(batches(epoch, 0))
        for _ in range(3):
            training.train_function(iterator)
    assert int(training.optimizer.iterations) == 6
    assert len(traces) == 1


def without_dropout(training):
    for layer in training.encoder.backbone.layers:
        if isinstance(layer, keras.layers.Dropout):
            layer.rate = 0.0
    return training


def test_without_batch_norm_both_kinds_of_images_go_through_the_encoder_together_and_come_out_alike():
    saat, split = make(SAAT, lambda split: HashNet(), backbone="alexnet", image_size=64, num_images=3)
    without_dropout(saat)
    saat.hashing_loss.advance()
    images = tf.stack([split.load(i) for i in range(3)])
    others = images[::-1]
    calls, call = [], saat.encoder.call
    saat.encoder.call = lambda x, **options: calls.append(len(x)) or call(x, **options)
    relaxed_codes, adversarial_codes = saat.both_codes(images, others)
    assert calls == [6]
    alpha = float(saat.hashing_loss.alpha())
    np.testing.assert_allclose(relaxed_codes, call(images, alpha=alpha, training=True), atol=1e-5)
    np.testing.assert_allclose(adversarial_codes, call(others, alpha=1.0, training=True), atol=1e-5)


def test_batch_norm_takes_its_statistics_over_each_kind_of_images_alone():
    saat, split = make(SAAT, csq)
    images = tf.stack([split.load(i) for i in range(6)])
    dark = 0.1 * images
    relaxed_codes, adversarial_codes = saat.both_codes(images, dark)
    np.testing.assert_array_equal(relaxed_codes, saat.encoder(images, training=True))
    np.testing.assert_array_equal(adversarial_codes, saat.encoder(dark, training=True))
