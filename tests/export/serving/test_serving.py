"""A folder for TensorFlow Serving, and the client against servers that speak its protocols."""

import dataclasses
import io
import json
import socket

import grpc
import numpy as np
import pytest
import tensorflow as tf
import yaml
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format
from PIL import Image
from tensorflow_serving.apis import prediction_log_pb2
from tensorflow_serving.config import model_server_config_pb2

from export import client as client_program
from export.client import ClientOptions
from export.serving.__main__ import ServingExport, allowed_batch_sizes, main
from export.serving.prediction import BusyError, Reply, ServingError, connect, with_retries
from saat_tf.data import decode_image
from tests.export.servers import Models, grpc_server, rest_handler, rest_server

pytestmark = pytest.mark.slow

BUSY = {"grpc": [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED], "http": [503, 429]}
HOPELESS = {"grpc": [grpc.StatusCode.INTERNAL], "http": [500]}


@pytest.fixture(scope="module")
def folder(small_run, tmp_path_factory):
    out = tmp_path_factory.mktemp("serving")
    assert main(ServingExport(run_dir=small_run, out=out, version=1)) == 0
    return out


@pytest.fixture(scope="module")
def served(folder):
    models = Models(folder)
    with grpc_server(models) as grpc_uri, rest_server(models) as rest_uri:
        yield models, {"grpc": grpc_uri, "http": rest_uri}


@pytest.fixture(params=["grpc", "http"])
def server(request, served):
    models, uris = served
    models.faults.clear()
    models.batches.clear()
    return models, request.param, uris[request.param]


def picture(seed):
    buffer = io.BytesIO()
    size = (20 + 7 * seed, 31)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


PICTURES = [picture(seed) for seed in range(5)]


@pytest.fixture
def files(tmp_path):
    names = [tmp_path / f"{i}.png" for i in range(len(PICTURES))]
    for name, contents in zip(names, PICTURES, strict=True):
        name.write_bytes(contents)
    return tuple(names)


@pytest.fixture(scope="module")
def codes(small_encoder):
    """What training's own decoder and the Keras model make of the pictures."""
    side = small_encoder.image_size
    images = tf.stack([decode_image(tf.constant(one), side, side) for one in PICTURES])
    return [row.tobytes() for row in small_encoder.encode(images).numpy()]


def test_the_client_gives_the_codes_of_the_encoder(server, codes):
    replies = connect(server[2], "encoder").encode(PICTURES)
    assert [reply.code for reply in replies] == codes and all(reply.ok for reply in replies)


def test_a_version_can_be_named_and_one_that_is_not_served_is_told(server, codes):
    assert connect(server[2], "encoder", 1).encode(PICTURES[:1])[0].code == codes[0]
    for name, version in (("encoder", 7), ("another", None)):
        with pytest.raises(ServingError, match="Servable not found") as raised:
            connect(server[2], name, version).encode(PICTURES[:1])
        assert not isinstance(raised.value, BusyError)


def test_files_are_sent_in_batches_and_printed_as_json(server, files, codes, tmp_path, capsys):
    models, _, uri = server
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    names = (*files[:3], broken, tmp_path / "absent.png", *files[3:])
    assert client_program.main(ClientOptions(files=names, uri=uri, batch_size=3, output="json")) == 1
    rows = json.loads(capsys.readouterr().out)
    assert [row["file"] for row in rows] == [str(name) for name in names]
    assert [row.get("code") for row in rows] == [
        *(c.hex() for c in codes[:3]),
        None,
        None,
        *(c.hex() for c in codes[3:]),
    ]
    assert "cannot read it as an image" in rows[3]["error"] and "No such file" in rows[4]["error"]
    assert models.batches == [3, 2, 1]


def test_the_table_shows_files_and_codes(served, files, codes, capsys):
    assert client_program.main(ClientOptions(files=files[:1], uri=served[1]["http"])) == 0
    printed = "".join(capsys.readouterr().out.split())
    assert codes[0].hex() in printed and "0.png" in printed


def test_a_busy_server_is_asked_again_after_longer_and_longer(server, codes):
    models, kind, uri = server
    models.faults += [fault for fault in BUSY[kind] for _ in range(2)]
    waits = []
    replies = with_retries(connect(uri, "encoder"), PICTURES[:1], 4, waits.append)
    assert replies[0].code == codes[0] and models.batches == [1]
    assert all(0.125 * 2**i <= wait <= 0.25 * 2**i for i, wait in enumerate(waits)) and len(waits) == 4


def test_retries_end(server):
    models, kind, uri = server
    models.faults += BUSY[kind] * 2
    waits = []
    with pytest.raises(BusyError, match="told to fail"):
        with_retries(connect(uri, "encoder"), PICTURES[:1], 2, waits.append)
    assert len(waits) == 2 and len(models.faults) == 1


def test_what_would_fail_again_is_not_sent_again(server):
    models, kind, uri = server
    models.faults += HOPELESS[kind]
    with pytest.raises(ServingError, match="told to fail") as raised:
        with_retries(connect(uri, "encoder"), PICTURES[:1], 3, pytest.fail)
    assert not isinstance(raised.value, BusyError)


def test_a_request_without_an_answer_in_time_is_not_sent_again(server):
    models, _, uri = server
    models.hold.clear()
    try:
        with pytest.raises(ServingError, match="longer --timeout"):
            with_retries(connect(uri, "encoder", timeout=0.2), PICTURES[:1], 3, pytest.fail)
    finally:
        models.hold.set()


@pytest.mark.parametrize("scheme", ["grpc", "http"])
def test_a_server_that_is_not_there_is_told_with_what_came_before(scheme, files, capsys):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        uri = f"{scheme}://127.0.0.1:{unused.getsockname()[1]}"
    assert client_program.main(ClientOptions(files=files, uri=uri, retries=0)) == 2
    printed = capsys.readouterr()
    assert uri in printed.err and not printed.out


ENDS = {
    "the server fails": (ServingError("http://here: HTTP 500: \x1b[2J"), 2, "error: http://here: HTTP 500: \\x1b[2J\n"),
    "Ctrl-C": (KeyboardInterrupt(), 130, "Interrupted.\n"),
}


@pytest.mark.parametrize("output", ["json", "table"])
@pytest.mark.parametrize("error, code, told", ENDS.values(), ids=ENDS)
def test_rows_that_came_before_an_error_are_printed(files, monkeypatch, capsys, error, code, told, output):
    class Failing:
        def encode(self, contents):
            if contents != [files[0].read_bytes()]:
                raise error
            return [Reply(b"\xab\xcd", True)]

    monkeypatch.setattr(client_program, "connect", lambda *where: Failing())
    assert client_program.main(ClientOptions(files=files, batch_size=1, retries=0, output=output)) == code
    printed = capsys.readouterr()
    assert printed.err == told and "abcd" in printed.out
    if output == "json":
        assert json.loads(printed.out) == [{"file": str(files[0]), "ok": True, "code": "abcd"}]


@pytest.mark.parametrize("answer", [b"<html>", b"[]", b'{"predictions": []}', b'{"predictions": [{"ok": true}]}'])
def test_an_answer_of_something_else_is_told(answer):
    def handler(models):
        kind = rest_handler(models)
        kind.do_POST = lambda self: self.answer(200, answer)
        return kind

    with rest_server(None, handler) as uri, pytest.raises(ServingError, match=r"not the answer|0 answered"):
        connect(uri, "encoder").encode(PICTURES[:1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"files": ()}, "at least one image file"),
        ({"uri": "127.0.0.1:8501"}, "--uri must be"),
        ({"timeout": 0.0}, "--timeout above 0"),
        ({"batch_size": 0}, "--batch-size must be"),
        ({"retries": -1}, "--retries at least 0"),
    ],
)
def test_options_out_of_range_are_told(files, change, message, capsys):
    assert client_program.main(dataclasses.replace(ClientOptions(files=files), **change)) == 2
    assert message in capsys.readouterr().err


def test_every_signature_is_warmed_up_with_every_batch_size(folder, served):
    file = folder / "models/encoder/1/assets.extra/tf_serving_warmup_requests"
    records = [
        prediction_log_pb2.PredictionLog.FromString(raw)
        for raw in tf.data.TFRecordDataset(str(file)).as_numpy_iterator()
    ]
    found = []
    for record in records:
        request = record.predict_log.request
        inputs = {name: tf.make_ndarray(value) for name, value in request.inputs.items()}
        outputs = served[0].predict(request.model_spec.name, None, request.model_spec.signature_name, inputs)
        sizes = {len(value) for value in outputs.values()}
        found.append((request.model_spec.signature_name, *sizes))
        assert "ok" not in outputs or outputs["ok"].numpy().all()
    signatures = ("encode_bytes", "encode_logits", "serving_default")
    assert sorted(found) == [(name, size) for name in signatures for size in (1, 8, 32)]


def test_the_server_is_told_where_the_model_is(folder):
    text = (folder / "models.config").read_text()
    config = text_format.Parse(text, model_server_config_pb2.ModelServerConfig())
    (model,) = config.model_config_list.config
    assert (model.name, model.base_path, model.model_platform) == ("encoder", "/serving/models/encoder", "tensorflow")


def batching_parameters():
    """The message that the server reads, whose definition is not in the wheel: fields by TensorFlow Serving's guide."""
    file = descriptor_pb2.FileDescriptorProto(name="batching.proto", package="t", syntax="proto3")
    file.dependency.append("google/protobuf/wrappers.proto")
    message = file.message_type.add(name="BatchingParameters")
    names = ("max_batch_size", "batch_timeout_micros", "max_enqueued_batches", "num_batch_threads")
    for number, name in enumerate(names, 1):
        message.field.add(name=name, number=number, type=11, label=1, type_name=".google.protobuf.Int64Value")
    message.field.add(name="allowed_batch_sizes", number=6, type=3, label=3)
    pool = descriptor_pool.DescriptorPool()
    for known in ("google/protobuf/wrappers.proto",):
        pool.AddSerializedFile(descriptor_pool.Default().FindFileByName(known).serialized_pb)
    pool.AddSerializedFile(file.SerializeToString())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("t.BatchingParameters"))()


def test_the_batching_parameters_are_what_the_server_reads(folder):
    file = folder / "batching_parameters.txt"
    parsed = text_format.Parse(file.read_text(), batching_parameters())
    assert list(parsed.allowed_batch_sizes) == [1, 8, 32] == allowed_batch_sizes(file)
    assert parsed.max_batch_size.value == 32 and parsed.batch_timeout_micros.value > 0


def test_the_compose_file_reads_what_lies_beside_it_and_opens_to_this_machine_alone(folder):
    (service,) = yaml.safe_load((folder / "compose.yaml").read_text())["services"].values()
    assert service["image"] == "tensorflow/serving:${TENSORFLOW_SERVING:-2.21.0}" and service["user"] == "65534:65534"
    assert (service["mem_limit"], service["cpus"]) == ("${SERVING_MEMORY:-4g}", "${SERVING_CPUS:-2}")
    assert service["pids_limit"] == 512
    assert service["image"].startswith("tensorflow/serving:")
    assert all(port.startswith("127.0.0.1:") for port in service["ports"]) and len(service["ports"]) == 2
    assert service["volumes"] == [".:/serving:ro"]
    paths = [option.partition("=")[2] for option in service["command"] if "_file=" in option]
    assert len(paths) == 2 and all((folder / path.removeprefix("/serving/")).is_file() for path in paths)


def test_a_second_version_and_model_join_the_first_and_the_users_own_settings_stay(small_run, folder, tmp_path):
    own = "max_batch_size { value: 2 }  # small\nallowed_batch_sizes: 1\nallowed_batch_sizes: 2\n"
    (tmp_path / "batching_parameters.txt").write_text(own)
    for older in ("a/1", "b/3"):
        (tmp_path / "models" / older).mkdir(parents=True)
    assert main(ServingExport(run_dir=small_run, out=tmp_path, version=4, name="b")) == 0
    config = text_format.Parse((tmp_path / "models.config").read_text(), model_server_config_pb2.ModelServerConfig())
    assert [model.name for model in config.model_config_list.config] == ["a", "b"]
    assert sorted(version.name for version in (tmp_path / "models" / "b").iterdir()) == ["3", "4"]
    assert (tmp_path / "batching_parameters.txt").read_text() == own
    records = tf.data.TFRecordDataset(str(tmp_path / "models/b/4/assets.extra/tf_serving_warmup_requests"))
    assert len(list(records)) == 3 * 2
    assert not list(tmp_path.glob(".writing*"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 0}, "--version must be at least 1"),
        ({"name": "../up"}, "--name must be"),
        ({"name": ""}, "--name must be"),
        ({"version": 1}, "never overwritten"),
    ],
)
def test_faults_of_an_export_are_told(small_run, folder, change, message, capsys):
    options = dataclasses.replace(ServingExport(run_dir=small_run, out=folder, version=9), **change)
    assert main(options) == 2 and message in capsys.readouterr().err


@pytest.mark.parametrize(
    "text",
    ["", "max_batch_size { value: 8 }", "allowed_batch_sizes: 8", "max_batch_size { value: 9 } allowed_batch_sizes: 8"],
)
def test_batch_sizes_that_the_server_would_refuse_are_told(tmp_path, text):
    (tmp_path / "batching_parameters.txt").write_text(text)
    with pytest.raises(ValueError, match="allowed_batch_sizes: N"):
        allowed_batch_sizes(tmp_path / "batching_parameters.txt")
