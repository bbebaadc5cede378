"""Weights of PyTorch networks, read from a file and brought into Keras' layout, tensor by tensor, by name."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import keras
import numpy as np
import safetensors.numpy

from saat_tf.backbones.weights import check_weights_file, read_torch_state_dict
from saat_tf.files import write_bytes

NORM_VARIABLES = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}
SHOWN_NAMES = 12


def read_state_dict(path: str | Path) -> dict[str, np.ndarray]:
    """Read the tensors of a `.safetensors` file or of one written by `torch.save(model.state_dict(), path)`.

    Args:
        path: the file; a name that ends in `.safetensors` says what it is, every other is read as PyTorch's.

    Returns:
        Name -> array in PyTorch's layout (convolutions are output, input, height, width).

    Raises:
        FileNotFoundError: there is no such file.
        UnsafeCheckpointError: a PyTorch file names a class or function other than those of tensors; nothing is run.
        ValueError: the file is truncated, corrupt, too large or not a state dict.

    Example:
        >>> read_state_dict("resnet18.safetensors")["conv1.weight"].shape  # doctest: +SKIP
        (64, 3, 7, 7)
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        return read_torch_state_dict(path)
    check_weights_file(path)
    try:
        return safetensors.numpy.load_file(path)
    except Exception as error:  # a shape or a type that NumPy lacks can raise anything
        raise ValueError(
            f"Expected a safetensors file of floats. Received: {path}: {error or type(error).__name__}. "
            "Fetch the file again if it may be truncated or corrupt; save tensors of a rarer type as float32."
        ) from error


def write_safetensors(arrays: Mapping[str, np.ndarray], path: Path, **metadata: str) -> None:
    """Write named arrays to a `.safetensors` file, replaced as a whole."""
    # As bytes: the package's own save_file makes the file readable by the owner alone, whatever the umask.
    contents = safetensors.numpy.save(dict(arrays), metadata=metadata)
    write_bytes(path, contents)


def load_state_dict(
    backbone: keras.Model,
    state_dict: Mapping[str, np.ndarray],
    *,
    classifier: str = "classifier",
    module_of: Callable[[str], str] = str,
) -> None:
    """Give a backbone the weights of a PyTorch network.

    Nothing is assigned unless everything fits. The classifier and PyTorch's batch counters (`*.num_batches_tracked`)
    have no place in a backbone and are passed over.

    Args:
        backbone: model whose layers are convolutions, dense layers and batch normalization.
        state_dict: PyTorch name -> array, as `read_state_dict` returns it.
        classifier: PyTorch name of the classifier, which is passed over.
        module_of: name of a Keras layer -> name of its PyTorch module; the same name by default.

    Raises:
        ValueError: tensors are missing, left over, of another shape or no floats; the message lists them.

    Example:
        >>> inputs = keras.Input((3,))
        >>> backbone = keras.Model(inputs, keras.layers.Dense(2, name="fc6")(inputs))
        >>> arrays = {"fc6.weight": np.ones((2, 3)), "fc6.bias": np.zeros(2), "fc7.weight": np.ones((1, 2))}
        >>> load_state_dict(backbone, arrays, classifier="fc7")
        >>> backbone(np.ones((1, 3))).numpy().tolist()
        [[3.0, 3.0]]
    """
    targets = _targets(backbone, module_of)
    missing = targets.keys() - state_dict.keys()
    left_over = [
        name
        for name in state_dict.keys() - targets.keys()
        if not name.startswith(f"{classifier}.") and not name.endswith(".num_batches_tracked")
    ]
    unfit = []
    for name in targets.keys() & state_dict.keys():
        array, (variable, axes) = state_dict[name], targets[name]
        expected = tuple(variable.shape[axes.index(axis)] for axis in range(len(axes)))
        if array.shape != expected or not keras.backend.is_float_dtype(array.dtype.name):
            unfit.append(f"{name} ({array.dtype} {array.shape}, not float {expected})")
    if missing or left_over or unfit:
        raise ValueError(
            f"Expected the state dict of {backbone.name}. Received: one with {listed('missing', missing)}, "
            f"{listed('left over', left_over)}, {listed('unfit', unfit)}. "
            "Choose the backbone that the file was made for, or the file of this backbone."
        )
    for name, (variable, axes) in targets.items():
        variable.assign(np.transpose(state_dict[name], axes))


def state_dict_of(
    backbone: keras.Model, *, module_of: Callable[[str], str] = str, dtype: str = "float32"
) -> dict[str, np.ndarray]:
    """Return the weights of a backbone as `load_state_dict` reads them, in PyTorch's names and layout.

    Args:
        backbone: the model.
        module_of: as in `load_state_dict`.
        dtype: "float32" or "float16".

    Returns:
        Name -> array.

    Raises:
        ValueError: a weight is not finite in `dtype`.

    Example:
        >>> inputs = keras.Input((3,))
        >>> backbone = keras.Model(inputs, keras.layers.Dense(2, name="fc6")(inputs))
        >>> {name: array.shape for name, array in state_dict_of(backbone).items()}
        {'fc6.weight': (2, 3), 'fc6.bias': (2,)}
    """
    arrays = {}
    for name, (variable, axes) in _targets(backbone, module_of).items():
        with np.errstate(over="ignore"):
            array = np.transpose(variable.numpy(), np.argsort(axes)).astype(dtype)
        if not np.isfinite(array).all():
            raise ValueError(f"{name} of {backbone.name} is not finite in {dtype}. Use float32.")
        arrays[name] = np.ascontiguousarray(array)
    return arrays


def _targets(
    backbone: keras.Model, module_of: Callable[[str], str]
) -> dict[str, tuple[keras.Variable, tuple[int, ...]]]:
    """Map each PyTorch name to its variable and the axes that bring the tensor into the variable's layout."""
    targets: dict[str, tuple[keras.Variable, tuple[int, ...]]] = {}
    axes: tuple[int, ...]
    for layer in backbone.layers:
        if not layer.weights or isinstance(layer, keras.layers.Normalization):  # that of pixels, which nothing trains
            continue
        module = module_of(layer.name)
        if isinstance(layer, keras.layers.BatchNormalization):
            targets |= {f"{module}.{NORM_VARIABLES[v.name]}": (v, (0,)) for v in layer.weights}
            continue
        if isinstance(layer, keras.layers.DepthwiseConv2D):
            axes = (2, 3, 0, 1)  # (C, 1, H, W) -> (H, W, C, 1)
        elif isinstance(layer, keras.layers.Conv2D):
            axes = (2, 3, 1, 0)  # (O, I, H, W) -> (H, W, I, O)
        elif isinstance(layer, keras.layers.Dense):
            axes = (1, 0)  # (O, I) -> (I, O)
        else:  # such as separable convolutions, which PyTorch has not: Keras' layout, by place, since some lack names
            targets |= {f"{module}.{i}": (v, tuple(range(len(v.shape)))) for i, v in enumerate(layer.weights)}
            continue
        targets[f"{module}.weight"] = (layer.kernel, axes)
        if layer.use_bias:
            targets[f"{module}.bias"] = (layer.bias, (0,))
    return targets


def listed(what: str, names: Iterable[str]) -> str:
    """Say how many names there are, and list them up to a bound."""
    names = sorted(names)
    more = f", and {len(names) - SHOWN_NAMES} more" if len(names) > SHOWN_NAMES else ""
    return f"{len(names)} {what}" + (f": {', '.join(names[:SHOWN_NAMES])}{more}" if names else "")
