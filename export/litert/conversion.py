"""An encoder as a LiteRT (TensorFlow Lite) model: conversion, and running what came out."""

import os
from pathlib import Path
from typing import Literal

import numpy as np
import tensorflow as tf

Variant = Literal["float32", "float16", "dynamic", "int8"]
SIGNATURE = "serving_default"


def convert(saved_model: Path, variant: Variant, images: np.ndarray) -> bytes:
    """Convert the signature `serving_default` of an exported encoder; packed codes stay in the graph.

    It reads the folder and no Keras model or concrete function: from these the converter can leave variables behind.

    Args:
        saved_model: what `export_saved_model` wrote.
        variant: "float32"; "float16" stores weights so; "dynamic" stores them as int8 and computes activations' ranges
            as it runs; "int8" computes in int8 throughout, from float images to packed codes.
        images: float32 (N, S, S, 3) in [0, 1], of the kind that the encoder will see: "int8" takes its ranges from
            them.

    Returns:
        The contents of a .tflite file. Its input and output are those of the signature, batch included.
    """
    converter = tf.lite.TFLiteConverter.from_saved_model(str(saved_model), signature_keys=[SIGNATURE])
    if variant != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if variant == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if variant == "int8":
        converter.representative_dataset = lambda: ({"images": image[np.newaxis]} for image in images)
        # Without this, an operation that has no int8 form would stay float and nobody would be told.
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    return converter.convert()


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
        # The runner borrows from the interpreter, which must outlive it.
        self.interpreter = Interpreter(str(file), num_threads=num_threads or os.cpu_count())
        self.runner = self.interpreter.get_signature_runner(SIGNATURE)

    def encode(self, images: np.ndarray | tf.Tensor) -> tf.Tensor:
        """Return packed codes: images float32 (B, S, S, 3) in [0, 1] -> uint8 (B, K / 8)."""
        return tf.constant(self.runner(images=np.asarray(images))["packed_codes"])
