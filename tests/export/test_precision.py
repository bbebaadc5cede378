"""Encoders of 16 bits, exported: a SavedModel keeps their precision, LiteRT takes the float32 of their weights."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from export.litert.conversion import LiteRTEncoder, convert
from export.saved_model import export_saved_model
from saat_tf.models import HashingModel


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_an_encoder_of_16_bits_is_exported(precision, tmp_path):
    keras.utils.set_random_seed(0)
    encoder = HashingModel("small_cnn", 16, 16, precision=precision)
    images = np.random.default_rng(0).random((8, 16, 16, 3), np.float32)
    export_saved_model(encoder, tmp_path / "mixed", card={})
    signature = tf.saved_model.load(str(tmp_path / "mixed")).signatures["serving_default"]
    np.testing.assert_array_equal(signature(images=tf.constant(images))["packed_codes"], encoder.encode(images))
    single = encoder.with_precision("float32")
    (tmp_path / "encoder.tflite").write_bytes(convert(encoder, "float32", images))
    np.testing.assert_array_equal(LiteRTEncoder(tmp_path / "encoder.tflite").encode(images), single.encode(images))
