"""An encoder as a LiteRT (TensorFlow Lite) model: conversion and inference."""

import os
import tempfile
from pathlib import Path
from typing import Literal

import keras
import numpy as np
import tensorflow as tf

from saat_tf.codes import pack_codes
from saat_tf.images import checked_images, image_shape, image_size_of
from saat_tf.models import HashingModel

Variant = Literal["float32", "float16", "dynamic", "int8"]
SIGNATURE = "serving_default"


def convert(encoder: HashingModel, variant: Variant, images: np.ndarray) -> bytes:
    """Convert an encoder, pixels in and packed codes out; the packing stays in the graph.

    The converter reads a SavedModel folder, since from a Keras model or a concrete function it can lose variables. The
    graph does not check pixels: int8 clips them to its range first.

    Args:
        encoder: the encoder. LiteRT has no convolutions of 16 bits, so its weights are converted in float32.
        variant: "float32"; "float16" stores weights so; "dynamic" as int8, with ranges of activations computed
            at run time; "int8" computes in int8 throughout, from float images to packed codes.
        images: float32 (N, S, S, 3) in [0, 1], representative of the inputs: "int8" calibrates its ranges on
            them.

    Returns:
        The contents of a .tflite file, with the signature `serving_default`: `images`, float32 (batch, S, S, 3), to
        `packed_codes`, uint8 (batch, K / 8).
    """
    encoder = encoder.with_precision("float32")
    pixels = [tf.TensorSpec((None, *image_shape(encoder.image_size)), tf.float32, name="images")]
    archive = keras.export.ExportArchive()
    archive.track(encoder)
    archive.add_endpoint(SIGNATURE, lambda images: {"packed_codes": pack_codes(encoder.logits(images))}, pixels)
    with tempfile.TemporaryDirectory() as folder:
        archive.write_out(folder, verbose=False)
        return _converter(folder, variant, images).convert()


def _converter(folder: str, variant: Variant, images: np.ndarray) -> tf.lite.TFLiteConverter:
    converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=[SIGNATURE])
    if variant != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if variant == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if variant == "int8":
        converter.representative_dataset = lambda: ({"images": image[np.newaxis]} for image in images)
        # Without this, an operation that has no int8 form would silently stay float.
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    return converter


class LiteRTEncoder:
    """A converted encoder, called as `HashingModel` is.

    Args:
        file: the .tflite file.
        num_threads: all cores by default.

    Raises:
        ImportError: ai-edge-litert is not installed.
        ValueError: the file is not a LiteRT model.
    """

    def __init__(self, file: Path, num_threads: int | None = None) -> None:
        try:
            from ai_edge_litert.interpreter import Interpreter
        except ImportError as error:
            raise ImportError("LiteRT models are run by ai-edge-litert. Install the extra: saat-tf[litert].") from error
        # The runner refers to the interpreter, which must not be deleted first.
        self.interpreter = Interpreter(str(file), num_threads=num_threads or os.cpu_count())
        self.runner = self.interpreter.get_signature_runner(SIGNATURE)
        self.image_size = image_size_of(self.runner.get_input_details()["images"]["shape"][1:].tolist())
        self.code_bytes = int(self.runner.get_output_details()["packed_codes"]["shape"][1])

    def encode(self, images: np.ndarray | tf.Tensor) -> tf.Tensor:
        """Return packed codes: images float32 (B, S, S, 3) in [0, 1] -> uint8 (B, K / 8).

        Raises:
            ValueError: the images are not floats of the model's size, or a pixel is NaN, infinite or outside of [0, 1].
        """
        images = checked_images(images, self.image_size)
        if not len(images):  # the interpreter would fail, and crash at the next call
            return tf.zeros((0, self.code_bytes), tf.uint8)
        return tf.constant(self.runner(images=images.numpy())["packed_codes"])
