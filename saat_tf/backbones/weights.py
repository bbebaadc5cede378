"""Weights from PyTorch checkpoints, read without PyTorch and without running anything that a checkpoint says."""

import functools
import io
import math
import pickle
import pickletools
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

STORAGE_DTYPES = {
    "ByteStorage": "<u1",
    "CharStorage": "<i1",
    "ShortStorage": "<i2",
    "IntStorage": "<i4",
    "LongStorage": "<i8",
    "HalfStorage": "<f2",
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
}
# The largest checkpoint of a backbone of this field, VGG-19, has 575 MB.
MAX_BYTES = 2**31
# EfficientNet-Lite0 takes 10,400 opcodes for 296 tensors. The limit also bounds how deep a hostile pickle can nest
# and how far it can make the unpickler grow its memo.
MAX_OPCODES = 100_000
# The directory of EfficientNet-Lite0's archive takes 30 kB for 300 members. Each costs memory before any check of it.
MAX_DIRECTORY_BYTES = 2**20
# Sets hash what they contain; a state dict has none.
SET_OPCODES = ("EMPTY_SET", "ADDITEMS", "FROZENSET")
# Both numbers open a file of torch.save before PyTorch 1.6 (torch/serialization.py: MAGIC_NUMBER, PROTOCOL_VERSION).
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_PROTOCOL = 1001


class UnsafeCheckpointError(ValueError):
    """A checkpoint asks for something that weights do not need, such as calling a function; nothing of it was run."""


class _Storage(NamedTuple):
    dtype: np.dtype
    key: str
    length: int  # in elements


class _Tensor(NamedTuple):
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]  # in elements


# In typeshed's words it has none of the methods that are replaced here.
_PythonUnpickler: Any = pickle._Unpickler


class _StateDictUnpickler(_PythonUnpickler):
    """Unpickler that knows four names and turns tensors into descriptions, so that loading runs no foreign code.

    It derives from the standard library's unpickler in Python, whose opcodes can be replaced. A key is checked before
    it is hashed: hashing pairs of pairs, each named twice, doubles with each level, and no signal interrupts it.
    """

    dispatch = dict(_PythonUnpickler.dispatch)

    def __init__(self, stream: io.BytesIO) -> None:
        super().__init__(stream)
        self.pairs = 0

    def find_class(self, module: str, name: str) -> object:
        """Return the stand-in for an admitted name; refuse every other."""
        # The lambdas are made anew for each call: the BUILD opcode can set attributes on what stands here.
        if (module, name) == ("collections", "OrderedDict"):
            return self._ordered_dict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return lambda storage, offset, shape, strides, *_: _Tensor(storage, offset, shape, strides)
        if (module, name) == ("torch._utils", "_rebuild_parameter"):
            return lambda tensor, *_: tensor
        if module == "torch" and name in STORAGE_DTYPES:
            return name
        raise UnsafeCheckpointError(f"{module}.{name}"[:200])

    def persistent_load(self, pid: object) -> _Storage:
        """Describe the storage that a persistent id names."""
        match pid:
            case ("storage", str(kind), str(key), str(_), int(length), *view) if kind in STORAGE_DTYPES:
                # Before PyTorch 1.6 a sixth field told views; it is None in state dicts.
                if 0 <= length <= MAX_BYTES and view in ([], [None]):
                    return _Storage(np.dtype(STORAGE_DTYPES[kind]), key, length)
        raise ValueError("a storage record is not (storage, type, key, place, length)")

    def _ordered_dict(self, pairs: Iterable[tuple] = ()) -> OrderedDict:
        pairs = [(key, value) for key, value in pairs]
        self._check_keys(key for key, _ in pairs)
        return OrderedDict(pairs)

    def _check_keys(self, keys: Iterable) -> None:
        for key in keys:
            self.pairs += 1
            if type(key) not in (str, int):
                raise ValueError(f"it has a dictionary key that is a {type(key).__name__}")
        if self.pairs > MAX_OPCODES:  # one list can be made a dictionary many times
            raise ValueError(f"it has more dictionary items than any state dict ({MAX_OPCODES})")

    def load_setitem(self) -> None:
        """Check the key of an item, then set it."""
        self._check_keys(self.stack[-2:-1])
        super().load_setitem()

    def load_setitems(self) -> None:
        """Check the keys of all items since the mark, then set them."""
        self._check_keys(self.stack[::2])
        super().load_setitems()

    def load_dict(self) -> None:
        """Check the keys of all items since the mark, then make a dictionary of them."""
        self._check_keys(self.stack[::2])
        super().load_dict()

    dispatch[pickle.SETITEM[0]] = load_setitem
    dispatch[pickle.SETITEMS[0]] = load_setitems
    dispatch[pickle.DICT[0]] = load_dict


def check_weights_file(path: Path) -> None:
    """Check that a file of weights is a regular file of a size that can be read.

    Raises:
        FileNotFoundError: there is none; devices and pipes are none either.
        ValueError: it is larger than `MAX_BYTES`.
    """
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}.")
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise ValueError(f"A checkpoint may have at most {MAX_BYTES} bytes. Received: {path} of {size} bytes.")


def read_torch_state_dict(path: str | Path) -> dict[str, np.ndarray]:
    """Read the tensors of a file written by `torch.save(model.state_dict(), path)`.

    Both formats are read: the zip archive (PyTorch 1.6 and later) and the one before it. Reading admits only the
    names that tensors need, checks every size, stride and offset against the bytes that are there before it makes a
    view, takes archive members by their exact name and extracts none to disk.

    Args:
        path: the checkpoint, a `.pth` or `.pt` file of at most 2 GiB, little-endian.

    Returns:
        Name -> contiguous array in PyTorch's layout (convolutions are output, input, height, width).

    Raises:
        FileNotFoundError: there is no such file.
        UnsafeCheckpointError: the file names a class or function other than those of tensors.
        ValueError: the file is truncated, corrupt, too large or not a state dict.

    Example:
        >>> read_torch_state_dict("resnet18-f37072fd.pth")["conv1.weight"].shape  # doctest: +SKIP
        (64, 3, 7, 7)
    """
    path = Path(path)
    check_weights_file(path)
    data = path.read_bytes()
    try:
        return _read_zip(data) if data.startswith(b"PK\x03\x04") else _read_legacy(data)
    except UnsafeCheckpointError as error:
        raise UnsafeCheckpointError(
            f"A checkpoint may name only OrderedDict and PyTorch's tensors and storages ({', '.join(STORAGE_DTYPES)}). "
            f"Received: {path}, which names {error}; nothing of it was run. If you trust the file, load it in PyTorch "
            "and save the tensors alone with torch.save(model.state_dict(), path)."
        ) from None
    except Exception as error:  # a corrupt pickle can raise anything, MemoryError and RecursionError included
        raise ValueError(
            f"Expected a state dict written by torch.save(model.state_dict(), path). Received: {path}: "
            f"{str(error) or type(error).__name__}. Fetch the file again if it may be truncated or corrupt."
        ) from error


def _unpickle(stream: io.BytesIO) -> Any:
    """Load the pickle at the stream's position and leave the stream behind it."""
    start = stream.tell()
    for count, (opcode, argument, _) in enumerate(pickletools.genops(stream)):
        memo_index = int(argument or 0) if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT") else 0
        if max(count, memo_index) >= MAX_OPCODES:
            raise ValueError(f"its pickle is larger than any state dict's ({MAX_OPCODES} opcodes)")
        if opcode.name in SET_OPCODES:
            raise ValueError("its pickle has a set")
        if opcode.name.startswith("EXT"):  # the registry of extension codes passes find_class by
            raise UnsafeCheckpointError(f"extension code {argument}")
    end = stream.tell()
    stream.seek(start)
    return _StateDictUnpickler(io.BytesIO(stream.read(end - start))).load()


class _Archive(io.BytesIO):
    """The bytes of an archive, of which at most `MAX_DIRECTORY_BYTES` are read at a time until `is_open` is set.

    `ZipFile` reads the directory at once and makes an object of each member, in a small file of a few hundred thousand.
    """

    is_open = False

    def read(self, size: int | None = -1) -> bytes:
        if not self.is_open and size is not None and size > MAX_DIRECTORY_BYTES:
            raise ValueError(f"the directory of the archive has {size} bytes, at most {MAX_DIRECTORY_BYTES} are read")
        return super().read(size)


def _read_zip(data: bytes) -> dict[str, np.ndarray]:
    stream = _Archive(data)
    with zipfile.ZipFile(stream) as archive:
        stream.is_open = True
        members = archive.infolist()
        # torch.save compresses nothing; with that, no member can be larger than the file.
        if any(member.compress_type != zipfile.ZIP_STORED for member in members):
            raise ValueError("a member of the archive is compressed")
        if sum(member.file_size for member in members) > len(data):
            raise ValueError("the members of the archive claim more bytes than the file has")
        names = [name for name in archive.namelist() if name.endswith("/data.pkl") and name.count("/") == 1]
        if len(names) != 1:
            raise ValueError(f"the archive has {len(names)} members <name>/data.pkl instead of one")
        root = names[0].removesuffix("data.pkl")
        if f"{root}byteorder" in archive.namelist() and archive.read(f"{root}byteorder") != b"little":
            raise ValueError("it was written on a big-endian machine")
        tensors = _checked_tensors(_unpickle(io.BytesIO(archive.read(names[0]))))
        return _build(tensors, functools.cache(lambda key: archive.read(f"{root}data/{key}")))


def _read_legacy(data: bytes) -> dict[str, np.ndarray]:
    stream = io.BytesIO(data)
    if _unpickle(stream) != LEGACY_MAGIC or _unpickle(stream) != LEGACY_PROTOCOL:
        raise ValueError("it has neither of PyTorch's formats")
    if _unpickle(stream)["little_endian"] is not True:
        raise ValueError("it was written on a big-endian machine")
    tensors = _checked_tensors(_unpickle(stream))
    item_bytes = {tensor.storage.key: tensor.storage.dtype.itemsize for tensor in tensors.values()}
    storages = {}
    for key in _unpickle(stream):
        if not isinstance(key, str) or key not in item_bytes:
            raise ValueError("it has a storage that no tensor uses")
        length = int.from_bytes(stream.read(8), "little")
        storages[key] = stream.read(length * item_bytes[key])
    return _build(tensors, storages.__getitem__)


def _checked_tensors(loaded: object) -> dict[str, _Tensor]:
    """Check that a loaded pickle maps names to tensors that lie within the storages they describe."""
    if not isinstance(loaded, dict):
        raise ValueError(f"it contains one {type(loaded).__name__} instead of a mapping of names to tensors")
    tensors = dict(dict.items(loaded))  # not loaded.items(): a pickle can shadow methods by attributes
    total = 0
    for name, tensor in tensors.items():
        if not isinstance(name, str):
            raise ValueError(f"it names an entry by a {type(name).__name__} instead of a string")
        if not isinstance(tensor, _Tensor):
            raise ValueError(f"its entry {name!r:.80} is a {type(tensor).__name__} instead of a tensor")
        storage, offset, shape, strides = tensor
        if not (isinstance(storage, _Storage) and isinstance(shape, tuple) and isinstance(strides, tuple)):
            raise ValueError(f"tensor {name!r:.80} is described wrongly")
        if not all(isinstance(value, int) and 0 <= value <= MAX_BYTES for value in (offset, *shape, *strides)):
            raise ValueError(f"tensor {name!r:.80} has a shape, stride or offset out of range")
        count = math.prod(shape)
        last = offset + sum((side - 1) * stride for side, stride in zip(shape, strides, strict=True))
        # A view may not repeat elements either: a stride of 0 would turn one number into gigabytes.
        if count > storage.length or (count > 0 and last >= storage.length):
            raise ValueError(f"tensor {name!r:.80} reaches out of its storage of {storage.length} elements")
        total += count * storage.dtype.itemsize
    if total > MAX_BYTES:
        raise ValueError(f"its tensors take {total} bytes, more than {MAX_BYTES}")
    return tensors


def _build(tensors: dict[str, _Tensor], storage_bytes: Callable[[str], bytes]) -> dict[str, np.ndarray]:
    """Copy every tensor out of the bytes of its storage."""
    arrays = {}
    for name, (storage, offset, shape, strides) in tensors.items():
        content = storage_bytes(storage.key)
        if len(content) != storage.length * storage.dtype.itemsize:
            raise ValueError(f"the storage of {name!r:.80} has {len(content)} bytes, not {storage.length} elements")
        flat = np.frombuffer(content, storage.dtype)
        byte_strides = [stride * storage.dtype.itemsize for stride in strides]
        arrays[name] = np.lib.stride_tricks.as_strided(flat[offset:], shape, byte_strides).copy(order="C")
    return arrays
