"""Weights of an ONNX file: their number, their width, and the external files they lie in; read without onnx.

`engine.runners.onnx_header` reads inputs, outputs and nodes; this walks the same messages for tensors, also those of
nodes and of graphs within nodes, because each of them may name a file.
"""

from __future__ import annotations

import mmap
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path, PurePosixPath

from foundry_lite.catalog.recipe import BLOCK_SIZES, Algorithm, Precision, Recipe
from foundry_lite.conversion.formats.safe_files import check_file
from foundry_lite.engine.runners.onnx_header import fields
from foundry_lite.errors import DamagedWeights, NotAModel, UnsafeSource, UnsupportedArchitecture

_MODEL_GRAPH, _MODEL_FUNCTIONS = 7, 25
_NODES, _INITIALIZERS, _SPARSE = 1, 5, 15  # of a graph
_FUNCTION_NODES = 7
_NODE_INPUT, _NODE_KIND, _NODE_ATTRIBUTES = 1, 4, 5
_ATTRIBUTE_NAME, _ATTRIBUTE_INT = 1, 3
_ATTRIBUTE_TENSORS, _ATTRIBUTE_GRAPHS = (5, 10), (6, 11)
_DIMS, _KIND, _NAME, _EXTERNAL = 1, 2, 8, 13  # of a tensor
_KEY, _VALUE = 1, 2
_DEEPEST = 32  # graphs within graphs
_FLOATS = {1: Precision.FP32, 10: Precision.FP16, 16: Precision.BF16}  # TensorProto.DataType
_BYTES = (2, 3)
_INSTEAD = "Copy or export the model again, the graph and its data files side by side in one folder."


@dataclass(frozen=True, slots=True)
class Weights:
    """The weights of a graph. ``files`` are those beside it, each inside of its folder and long enough.

    ``recipe`` is the way in which most of them are stored, ``None`` where it is none that can be built here.
    """

    parameters: int
    bits: int
    files: tuple[Path, ...]
    recipe: Recipe | None


@dataclass(frozen=True, slots=True)
class _Tensor:
    name: str
    kind: int
    count: int
    external: dict[str, str]


@dataclass(frozen=True, slots=True)
class _Node:
    kind: str
    inputs: tuple[str, ...]
    numbers: dict[str, int]


def read_weights(path: Path, root: Path) -> Weights:
    """Read the weights' metadata of a graph in ``root``, or in a folder of it.

    Raises `UnsafeSource` for data outside of the folder, `NotAModel` for files that are missing, `DamagedWeights`.
    """
    try:
        with path.open("rb") as file:
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        tensors, nodes = _walk_model(memoryview(data))  # the last view of it closes it
    except (ValueError, IndexError) as error:
        raise DamagedWeights(f"{path.name} is no ONNX graph", hint=_INSTEAD) from error
    return _summarize(tensors, nodes, _data_files(path, root, tensors))


def _walk_model(model: memoryview) -> tuple[list[_Tensor], list[_Node]]:
    tensors: list[_Tensor] = []
    nodes: list[_Node] = []
    for number, value in fields(model):
        if number == _MODEL_GRAPH and isinstance(value, memoryview):
            _walk_graph(value, tensors, nodes, 0)
        elif number == _MODEL_FUNCTIONS and isinstance(value, memoryview):
            for inner, node in fields(value):
                if inner == _FUNCTION_NODES and isinstance(node, memoryview):
                    nodes.append(_walk_node(node, tensors, nodes, 0))
    return tensors, nodes


def _walk_graph(graph: memoryview, tensors: list[_Tensor], nodes: list[_Node], depth: int) -> None:
    if depth > _DEEPEST:
        raise ValueError("graphs within graphs without end")
    for number, value in fields(graph):
        if not isinstance(value, memoryview):
            continue
        if number == _NODES:
            nodes.append(_walk_node(value, tensors, nodes, depth))
        elif number == _INITIALIZERS:
            tensors.append(_read_tensor(value))
        elif number == _SPARSE:
            raise UnsupportedArchitecture("the graph has sparse weights", hint="Export it again with dense ones.")


def _walk_node(message: memoryview, tensors: list[_Tensor], nodes: list[_Node], depth: int) -> _Node:
    kind, inputs = "", []
    numbers: dict[str, int] = {}
    for number, value in fields(message):
        if not isinstance(value, memoryview):
            continue
        if number == _NODE_KIND:
            kind = str(value, "utf-8")
        elif number == _NODE_INPUT:
            inputs.append(str(value, "utf-8"))
        elif number == _NODE_ATTRIBUTES:
            name, whole = _walk_attribute(value, tensors, nodes, depth)
            numbers[name] = whole
    return _Node(kind, tuple(inputs), numbers)


def _walk_attribute(message: memoryview, tensors: list[_Tensor], nodes: list[_Node], depth: int) -> tuple[str, int]:
    name, whole = "", 0
    for number, value in fields(message):
        if number == _ATTRIBUTE_INT and isinstance(value, int):
            whole = value
        elif not isinstance(value, memoryview):
            continue
        elif number == _ATTRIBUTE_NAME:
            name = str(value, "utf-8")
        elif number in _ATTRIBUTE_TENSORS:
            tensors.append(_read_tensor(value))
        elif number in _ATTRIBUTE_GRAPHS:
            _walk_graph(value, tensors, nodes, depth + 1)
    return name, whole


def _read_tensor(message: memoryview) -> _Tensor:
    name, kind = "", 0
    sizes: list[int] = []
    external: dict[str, str] = {}
    for number, value in fields(message):
        if number == _DIMS:
            sizes += [value] if isinstance(value, int) else _packed(value)
        elif number == _KIND and isinstance(value, int):
            kind = value
        elif number == _NAME and isinstance(value, memoryview):
            name = str(value, "utf-8")
        elif number == _EXTERNAL and isinstance(value, memoryview):
            pair = {inner: str(text, "utf-8") for inner, text in fields(value) if isinstance(text, memoryview)}
            external[pair.get(_KEY, "")] = pair.get(_VALUE, "")
    return _Tensor(name, kind, prod(sizes), external)


def _packed(numbers: memoryview) -> Iterator[int]:
    value = shift = 0
    for byte in numbers:
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            yield value
            value = shift = 0


def _data_files(path: Path, root: Path, tensors: list[_Tensor]) -> tuple[Path, ...]:
    ends: dict[str, int] = {}
    for tensor in tensors:
        if tensor.external:
            location = tensor.external.get("location", "")
            end = _number(tensor, "offset") + _number(tensor, "length")
            ends[location] = max(ends.get(location, 0), end)
    return tuple(_data_file(path, root, location, end) for location, end in sorted(ends.items()))


def _data_file(path: Path, root: Path, location: str, end: int) -> Path:
    parts = PurePosixPath(location.replace("\\", "/"))
    if not location or parts.is_absolute() or ".." in parts.parts or ":" in location:
        raise UnsafeSource(f"{path.name} wants weights from {location[:200]!r}, outside of its folder", hint=_INSTEAD)
    file = path.parent / parts
    try:
        check_file(file, root)
    except NotAModel as error:
        raise DamagedWeights(
            f"{path.name} has its weights in {location[:200]}, which is missing", hint=_INSTEAD
        ) from error
    size = file.stat().st_size
    if size < end:
        raise DamagedWeights(f"{location} is truncated: it should have {end} bytes, it has {size}", hint=_INSTEAD)
    return file


def _number(tensor: _Tensor, key: str) -> int:
    text = tensor.external.get(key, "0")
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise DamagedWeights(f"the {key} of {tensor.name[:80]} in its file is {text[:40]!r}", hint=_INSTEAD)
    return int(text)


def _summarize(tensors: list[_Tensor], nodes: list[_Node], files: tuple[Path, ...]) -> Weights:
    products = [node for node in nodes if node.kind == "MatMulNBits"]
    inner = {name for node in products for name in node.inputs[1:]}
    inner |= {name for node in nodes if node.kind == "GatherBlockQuantized" for name in node.inputs}
    widths: Counter[int] = Counter()
    for one in tensors:
        if one.name not in inner and (one.kind in _FLOATS or one.kind in _BYTES):
            widths[8 if one.kind in _BYTES else _FLOATS[one.kind].bits] += one.count
    ways: Counter[tuple[int, int, bool]] = Counter()
    for node in products:
        number = node.numbers
        count = number.get("K", 0) * number.get("N", 0)
        bits = number.get("bits", 4)
        widths[bits] += count
        ways[bits, number.get("block_size", 0), len(node.inputs) < 4 or not node.inputs[3]] += count
    if not widths.total():
        raise NotAModel("the graph has no weights", hint=_INSTEAD)
    most = widths.most_common(1)[0][0]
    return Weights(widths.total(), most, files, _recipe(most, ways, tensors))


def _recipe(bits: int, ways: Counter[tuple[int, int, bool]], tensors: list[_Tensor]) -> Recipe | None:
    """Return the recipe that stores weights as most of them are."""
    if bits in (4, 8) and ways:
        width, block, symmetric = ways.most_common(1)[0][0]
        if width not in (4, 8) or block not in BLOCK_SIZES:
            return None
        precision = Precision.INT4 if width == 4 else Precision.INT8
        return Recipe(precision, block, symmetric=symmetric, algorithm=Algorithm.KEPT)
    if bits in (16, 32):
        kinds = Counter({kind: sum(one.count for one in tensors if one.kind == kind) for kind in _FLOATS})
        return Recipe(_FLOATS[kinds.most_common(1)[0][0]])
    return Recipe(Precision.INT8, algorithm=Algorithm.KEPT) if bits == 8 else None
