"""Requests that TensorFlow Serving sends itself before it serves a model, so that no user waits for the first one."""

from collections.abc import Sequence
from pathlib import Path

import tensorflow as tf

FILE = Path("assets.extra") / "tf_serving_warmup_requests"


def write_warm_up(saved_model: Path, name: str, batch_sizes: Sequence[int]) -> None:
    """Write a request for each signature and each batch size into a SavedModel.

    The requests contain gray images of the encoder's size, as pixels or as PNG files.

    Args:
        saved_model: the folder, which no server reads yet.
        name: the model's name.
        batch_sizes: those that the server allows.

    Raises:
        ImportError: tensorflow-serving-api is not installed.
    """
    try:
        from tensorflow_serving.apis import model_pb2, predict_pb2, prediction_log_pb2
    except ImportError as error:
        raise ImportError(
            "Warm-up requests are written by tensorflow-serving-api. Install the extra: saat-tf[serving]."
        ) from error
    signatures = tf.saved_model.load(str(saved_model)).signatures
    with tf.io.TFRecordWriter(str(saved_model / FILE)) as writer:
        for signature_name, signature in signatures.items():
            (inputs,) = signature.structured_input_signature[1].items()
            for batch_size in batch_sizes:
                request = predict_pb2.PredictRequest(
                    model_spec=model_pb2.ModelSpec(name=name, signature_name=signature_name)
                )
                request.inputs[inputs[0]].CopyFrom(tf.make_tensor_proto(_gray(inputs[1], batch_size)))
                log = prediction_log_pb2.PredictionLog(predict_log=prediction_log_pb2.PredictLog(request=request))
                writer.write(log.SerializeToString())


def _gray(spec: tf.TensorSpec, batch_size: int) -> tf.Tensor:
    if spec.dtype == tf.string:
        return tf.repeat(tf.io.encode_png(tf.fill((64, 64, 3), tf.constant(128, tf.uint8))), batch_size)
    return tf.fill((batch_size, *spec.shape[1:]), 0.5)
