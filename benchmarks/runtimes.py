"""An exported encoder under each runtime: images float32 (B, S, S, 3) -> packed codes uint8 (B, K / 8)."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import tensorflow as tf

from export.litert.conversion import LiteRTEncoder

Encode = Callable[[np.ndarray], np.ndarray]
OPSET = 17


def saved_model(folder: Path) -> Encode:
    """Run the signature `serving_default` by TensorFlow."""
    loaded = tf.saved_model.load(str(folder))  # contains the variables, which a signature alone does not
    return lambda images: loaded.signatures["serving_default"](images=tf.constant(images))["packed_codes"].numpy()


def litert(file: Path) -> Encode:
    """Run a .tflite file by LiteRT."""
    runner = LiteRTEncoder(file).runner
    return lambda images: runner(images=images)["packed_codes"]


def onnx_runtime(file: Path) -> Encode:
    """Run an .onnx file by ONNX Runtime."""
    import onnxruntime

    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    return lambda images: session.run(["packed_codes"], {"images": images})[0]


def openvino(folder: Path) -> Encode:
    """Run the exported folder itself by OpenVINO."""
    import openvino

    request = openvino.compile_model(openvino.convert_model(folder), "CPU").create_infer_request()
    return lambda images: request.infer({"images": images})["packed_codes"]


def to_onnx(folder: Path, file: Path) -> None:
    """Write the signature `serving_default` of an exported encoder as ONNX."""
    import tf2onnx

    loaded = tf.saved_model.load(str(folder))
    signature = loaded.signatures["serving_default"]
    pixels = [tf.TensorSpec(signature.inputs[0].shape, tf.float32, name="images")]
    encode = tf.function(lambda images: signature(images=images), input_signature=pixels)
    tf2onnx.convert.from_function(encode, pixels, opset=OPSET, output_path=str(file))
