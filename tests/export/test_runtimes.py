"""The exported encoder where there is no TensorFlow for Python: OpenVINO, ONNX Runtime, and a program in C."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from benchmarks.runtimes import to_onnx

COUNT = 9
OPENVINO = """
import sys
sys.modules["tensorflow"] = None
import numpy as np, openvino
model = openvino.convert_model(sys.argv[1])
images = np.load(sys.argv[2])
np.save(sys.argv[3], openvino.compile_model(model, "CPU")(images)["packed_codes"])
assert sys.modules["tensorflow"] is None
"""


@pytest.fixture(scope="module")
def images(small_encoder):
    side = small_encoder.image_size
    return np.random.default_rng(0).random((COUNT, side, side, 3), np.float32)


@pytest.fixture(scope="module")
def codes(small_encoder, images):
    logits = small_encoder.logits(images).numpy()
    assert np.abs(logits).min() > 1e-5  # so that no bit hangs on the order of a sum
    return np.packbits(logits >= 0, axis=1)


@pytest.mark.slow
def test_openvino_without_tensorflow_gives_the_codes(small_export, images, codes, tmp_path):
    np.save(tmp_path / "images.npy", images)
    arguments = [str(small_export), str(tmp_path / "images.npy"), str(tmp_path / "codes.npy")]
    done = subprocess.run([sys.executable, "-c", OPENVINO, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    np.testing.assert_array_equal(np.load(tmp_path / "codes.npy"), codes)


@pytest.mark.slow
def test_onnx_runtime_gives_the_codes(small_export, images, codes, tmp_path):
    import onnxruntime

    to_onnx(small_export, tmp_path / "encoder.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "encoder.onnx", providers=["CPUExecutionProvider"])
    found, ok = session.run(["packed_codes", "ok"], {"images": images})
    np.testing.assert_array_equal(found, codes)
    assert ok.tolist() == [True] * COUNT
    images = images.copy()
    images[0, 1, 2, 0], images[1, 0, 0, 1] = 1.5, np.nan
    found, ok = session.run(["packed_codes", "ok"], {"images": images})
    assert ok.tolist() == [False] * 2 + [True] * (COUNT - 2)
    np.testing.assert_array_equal(found, [*np.zeros_like(codes[:2]), *codes[2:]])


@pytest.mark.slow
def test_a_program_in_c_gives_the_codes(small_export, images, codes, tmp_path):
    compiler = shutil.which("cc")
    include, library = Path(tf.sysconfig.get_include()), Path(tf.sysconfig.get_lib())
    if compiler is None or not (include / "tensorflow/c/c_api.h").is_file():
        pytest.skip("needs a C compiler, and the headers of TensorFlow's C API, which some wheels leave out")
    program = tmp_path / "encode"
    libraries = [library / "libtensorflow_cc.so.2", library / "libtensorflow_framework.so.2"]
    source = Path(__file__).with_name("encode.c")
    subprocess.run([compiler, source, "-I", include, *libraries, f"-Wl,-rpath,{library}", "-o", program], check=True)
    graph = saved_model_pb2.SavedModel.FromString((small_export / "saved_model.pb").read_bytes()).meta_graphs[0]
    signature = graph.signature_def["serving_default"]
    tensors = [signature.inputs["images"].name, signature.outputs["packed_codes"].name]
    arguments = [small_export, *tensors, str(COUNT), str(images.shape[1])]
    done = subprocess.run([program, *arguments], input=images.tobytes(), capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    np.testing.assert_array_equal(np.frombuffer(done.stdout, np.uint8).reshape(codes.shape), codes)
