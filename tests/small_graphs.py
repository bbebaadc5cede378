"""What is traced in no time: an encoder of one convolution, and graphs that are run as they were traced.

Where a test trains real steps in order to compare trainings with each other, nearly all of its time is that of tracing
small_cnn and of TensorFlow's optimization of graphs that then run a few times. Neither is what such a test is about.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from unittest import mock

import keras
import tensorflow as tf

from saat_tf.backbones import backbone_spec
from saat_tf.layers.batch_norm import BatchNormalization
from saat_tf.models import image_model


def tiny_backbone(image_size: int) -> keras.Model:
    """Build one convolution and a batch norm."""
    inputs = keras.Input((image_size, image_size, 3))
    x = keras.layers.Conv2D(6, 3, strides=2, use_bias=False)(inputs)
    x = keras.layers.ReLU()(BatchNormalization(momentum=0.9)(x))
    return keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(x))


def flat_backbone(image_size: int) -> keras.Model:
    """Build one convolution and a batch norm whose features tell places apart: what it learns, and what misleads it."""
    inputs = keras.Input((image_size, image_size, 3))
    x = keras.layers.Conv2D(6, 4, strides=4, use_bias=False)(inputs)
    x = keras.layers.ReLU()(BatchNormalization(momentum=0.9)(x))
    return keras.Model(inputs, keras.layers.Flatten()(x))


@contextlib.contextmanager
def tiny_encoders(*names: str, build: Callable[[int], keras.Model] = tiny_backbone) -> Iterator[None]:
    """Have every encoder, or those of the backbones named, built on one convolution."""
    spec = dataclasses.replace(backbone_spec("small_cnn"), build=build)
    with mock.patch.object(
        image_model, "backbone_spec", lambda name: spec if not names or name in names else backbone_spec(name)
    ):
        yield


@contextlib.contextmanager
def small_graphs(build: Callable[[int], keras.Model] = tiny_backbone) -> Iterator[None]:
    """Have every encoder built on one convolution, and no graph optimized."""
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
    try:
        with tiny_encoders(build=build):
            yield
    finally:
        tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": False})
