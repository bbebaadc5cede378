"""What TensorFlow's own registry says of a traced function on a GPU, read without one."""

import functools
from collections.abc import Iterator

import tensorflow as tf
from tensorflow.core.framework import attr_value_pb2
from tensorflow.python.framework import kernels, op_def_registry

# Function calls and the ends of functions are no kernels: they run where what they hold runs.
STRUCTURE = {"_Arg", "_Retval", "NoOp", "Placeholder"}


def graphs(concrete) -> Iterator[list]:
    """Yield the nodes of a concrete function, and those of each function that it calls."""
    graph_def = concrete.graph.as_graph_def()
    yield list(graph_def.node)
    for function in graph_def.library.function:
        yield list(function.node_def)


def nodes(concrete) -> Iterator:
    """Yield all nodes that could run."""
    for graph in graphs(concrete):
        yield from (node for node in graph if node.op not in STRUCTURE)


@functools.cache
def _gpu_kernels(op: str) -> tuple:
    return tuple(k for k in kernels.get_registered_kernels_for_op(op).kernel if k.device_type in ("GPU", "DEFAULT"))


def _types(value: attr_value_pb2.AttrValue) -> set[int]:
    return set(value.list.type) if value.HasField("list") else {value.type}


def gpu_kernel(node):
    """Return the kernel that would run a node on a GPU, or None."""
    for kernel in _gpu_kernels(node.op):
        if not kernel.label and all(
            _types(node.attr[c.name]) <= set(c.allowed_values.list.type) for c in kernel.constraint
        ):
            return kernel
    return None


def types_of(node) -> str:
    """Name the types among a node's attributes."""
    names = [(k, v.type) for k, v in sorted(node.attr.items()) if v.WhichOneof("value") == "type"]
    return ", ".join(f"{name}={tf.dtypes.as_dtype(dtype).name}" for name, dtype in names)


def without_gpu_kernel(concrete) -> set[str]:
    """Return the operations, with their types, that no GPU has."""
    return {f"{node.op}({types_of(node)})" for node in nodes(concrete) if gpu_kernel(node) is None}


def host_variables(concrete) -> set[str]:
    """Return the variables that a GPU cannot hold, since their type has no assignment there."""
    on_gpu = {
        dtype
        for kernel in _gpu_kernels("AssignVariableOp")
        if kernel.device_type == "GPU"
        for c in kernel.constraint
        for dtype in c.allowed_values.list.type
    }
    return {v.name for v in concrete.graph.variables if v.dtype.as_datatype_enum not in on_gpu}


def _arguments(arguments, node) -> list[str]:
    """Return the name of each tensor of a list of arguments, names of lists repeated."""
    names = []
    for argument in arguments:
        if argument.number_attr:
            count = node.attr[argument.number_attr].i
        elif argument.type_list_attr:
            count = len(node.attr[argument.type_list_attr].list.type)
        else:
            count = 1
        names += [argument.name] * count
    return names


def transfers(concrete) -> list[str]:
    """Return where a tensor that a GPU computed is read on the host: each makes the host wait for the GPU."""
    found = []
    for graph in graphs(concrete):
        by_name = {node.name: node for node in graph}
        for node in graph:
            kernel, definition = gpu_kernel(node), op_def_registry.get(node.op)
            if kernel is None or definition is None:
                continue
            names = _arguments(definition.input_arg, node)
            data = [text for text in node.input if not text.startswith("^")]
            for text, name in zip(data, names, strict=False):
                if name in kernel.host_memory_arg and _on_device(by_name, text):
                    found.append(f"{text} -> {node.name} ({node.op}.{name})")
    return found


def _on_device(by_name: dict, text: str) -> bool:
    """Tell whether `name:output:number` or `name:number` lies in the memory of the GPU."""
    name, *rest = text.split(":")
    node = by_name.get(name)
    if node is None or node.op in STRUCTURE:
        return False  # an argument of the function
    kernel, definition = gpu_kernel(node), op_def_registry.get(node.op)
    if kernel is None or definition is None or node.op in ("Const", "PartitionedCall", "StatefulPartitionedCall"):
        return False
    outputs = _arguments(definition.output_arg, node)
    if rest and not rest[0].isdigit():
        output = rest[0]
    else:
        number = int(rest[0]) if rest else 0
        output = outputs[number] if number < len(outputs) else ""
    return output not in kernel.host_memory_arg
