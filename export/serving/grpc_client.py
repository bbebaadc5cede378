"""Sending image files to TensorFlow Serving by gRPC."""

from collections.abc import Sequence

import grpc
import tensorflow as tf
from tensorflow_serving.apis import model_pb2, predict_pb2, prediction_service_pb2_grpc

from export.serving.answers import MAX_ANSWER, SIGNATURE, BusyError, Reply, ServingError, check_replies
from saat_tf.printable import printable

OUTPUTS = {"code_bytes": tf.string, "ok": tf.bool}


class GrpcClient:
    """Sends files to the PredictionService.

    Args:
        address: "host:port".
        name: name of the model.
        version: of the model; the newest by default.
        timeout: seconds that a request may take.
    """

    def __init__(self, address: str, name: str, version: int | None, timeout: float) -> None:
        self.address = address
        self.timeout = timeout
        self.request = predict_pb2.PredictRequest(model_spec=model_pb2.ModelSpec(name=name, signature_name=SIGNATURE))
        if version is not None:
            self.request.model_spec.version.value = version
        # By default grpc sends at most 4 MB, which a batch of photographs exceeds, and retries.
        options = (
            ("grpc.max_send_message_length", -1),
            ("grpc.max_receive_message_length", MAX_ANSWER),
            ("grpc.enable_retries", 0),
        )
        self.channel = grpc.insecure_channel(address, options)
        self.stub = prediction_service_pb2_grpc.PredictionServiceStub(self.channel)

    def encode(self, files: Sequence[bytes]) -> list[Reply]:
        """Send files in one request; see `Client`."""
        request = type(self.request)()
        request.CopyFrom(self.request)
        request.inputs["image_bytes"].CopyFrom(tf.make_tensor_proto(list(files), tf.string, (len(files),)))
        where, codes = f"grpc://{self.address}", grpc.StatusCode
        try:
            outputs = self.stub.Predict(request, timeout=self.timeout).outputs
        except grpc.RpcError as error:
            told = printable(error.details() or "no message")[:500]
            if error.code() == codes.DEADLINE_EXCEEDED:
                raise ServingError(f"{where}: no answer in {self.timeout:g} s. Give a longer --timeout.") from error
            # For a too large answer grpc uses the status code of an overloaded server.
            too_large = "message larger than max" in told
            busy = error.code() in (codes.UNAVAILABLE, codes.RESOURCE_EXHAUSTED) and not too_large
            raise (BusyError if busy else ServingError)(f"{where}: {error.code().name}: {told}") from error
        for name, kind in OUTPUTS.items():
            if name not in outputs or outputs[name].dtype != kind.as_datatype_enum:
                raise ServingError(f"{where}: not the answer of an encoder ({name} is not {kind.name}).")
            # Checked before an array is made: one value can declare an array of any shape.
            shape = [side.size for side in outputs[name].tensor_shape.dim]
            if outputs[name].tensor_shape.unknown_rank or shape != [len(files)]:
                raise ServingError(f"{where}: {len(files)} files were sent and {shape} of {name} answered.")
        try:
            found, read = (tf.make_ndarray(outputs[name]) for name in OUTPUTS)
        except (ValueError, TypeError) as error:  # the number of values does not match the shape
            raise ServingError(f"{where}: not the answer of an encoder ({error!r:.500}).") from error
        return check_replies([Reply(bytes(code), bool(ok)) for code, ok in zip(found, read, strict=True)], files, where)
