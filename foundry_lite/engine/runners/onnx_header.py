"""Header of an ONNX graph file: inputs, outputs, and the operator of each node, read without loading it.

Only the messages and fields named below are read (onnx.proto, format version 3 and later); weights, wherever they lie,
are stepped over. So a graph can be judged before a library gets it, in a process that has no ``onnx`` package.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from foundry_lite.errors import LoadFailed

_MODEL_GRAPH = 7
_NODE, _INITIALIZER, _INPUT, _OUTPUT = 1, 5, 11, 12  # of a graph
_NODE_INPUT, _NODE_OUTPUT, _NODE_KIND, _NODE_DOMAIN = 1, 2, 4, 7
_TENSOR_NAME = 8
_VALUE_NAME, _VALUE_TYPE = 1, 2
_TYPE_TENSOR, _TENSOR_KIND, _TENSOR_SHAPE, _SHAPE_SIZE = 1, 1, 2, 1
_SIZE_NUMBER, _SIZE_NAME = 1, 2
_VARINT, _LONG, _BYTES, _SHORT = 0, 1, 2, 5  # wire types
_Fields = Iterator[tuple[int, int | memoryview]]


@dataclass(frozen=True, slots=True)
class Node:
    """A node; ``kind`` is an operator of ONNX, or one with its domain: ``com.microsoft.GroupQueryAttention``."""

    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Value:
    """An input or output; ``kind`` is a number of ``TensorProto.DataType``. Sizes are numbers or names."""

    kind: int
    shape: tuple[int | str, ...]


@dataclass(frozen=True, slots=True)
class GraphFile:
    """The main graph of a file. ``optional`` names the inputs that have a default."""

    inputs: dict[str, Value]
    outputs: dict[str, Value]
    optional: frozenset[str]
    nodes: tuple[Node, ...]

    @property
    def required(self) -> set[str]:
        return set(self.inputs) - self.optional


def read(path: Path) -> GraphFile:
    """Read a graph. Raises `LoadFailed` when there is none."""
    try:
        with path.open("rb") as file:
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return _graph(memoryview(data))  # the last view of it closes it
    except OSError as error:
        raise LoadFailed(f"{path.name} cannot be read: {error.strerror or error}") from error
    except (ValueError, IndexError) as error:  # also that of a file without a byte
        raise LoadFailed(f"{path.name} is no ONNX graph") from error


def _graph(model: memoryview) -> GraphFile:
    parts: dict[int, list[memoryview]] = {_NODE: [], _INITIALIZER: [], _INPUT: [], _OUTPUT: []}
    for number, value in fields(_only(model, _MODEL_GRAPH)):
        if number in parts and isinstance(value, memoryview):
            parts[number].append(value)
    inputs = dict(_value(one) for one in parts[_INPUT])
    outputs = dict(_value(one) for one in parts[_OUTPUT])
    if not outputs:
        raise ValueError("a graph without outputs")
    defaults = {_text(one, _TENSOR_NAME) for one in parts[_INITIALIZER]}
    nodes = tuple(_node(one) for one in parts[_NODE])
    return GraphFile(inputs, outputs, frozenset(defaults & set(inputs)), nodes)


def _node(message: memoryview) -> Node:
    domain, kind = _text(message, _NODE_DOMAIN), _text(message, _NODE_KIND)
    name = f"{domain}.{kind}" if domain not in ("", "ai.onnx") else kind
    return Node(name, tuple(_texts(message, _NODE_INPUT)), tuple(_texts(message, _NODE_OUTPUT)))


def _value(message: memoryview) -> tuple[str, Value]:
    tensor = _first(_first(message, _VALUE_TYPE), _TYPE_TENSOR)
    kind = next((value for number, value in fields(tensor) if number == _TENSOR_KIND and isinstance(value, int)), 0)
    sizes = (one for number, one in fields(_first(tensor, _TENSOR_SHAPE)) if number == _SHAPE_SIZE)
    return _text(message, _VALUE_NAME), Value(kind, tuple(_size(one) for one in sizes if isinstance(one, memoryview)))


def _size(message: memoryview) -> int | str:
    for number, value in fields(message):
        if number == _SIZE_NUMBER and isinstance(value, int):
            return value
        if number == _SIZE_NAME and isinstance(value, memoryview):
            return str(value, "utf-8")
    return ""


def _only(message: memoryview, wanted: int) -> memoryview:
    found = _all(message, wanted)
    if len(found) != 1:
        raise ValueError(f"{len(found)} fields {wanted} where one belongs")
    return found[0]


def _first(message: memoryview, wanted: int) -> memoryview:
    return next(iter(_all(message, wanted)), message[:0])


def _all(message: memoryview, wanted: int) -> list[memoryview]:
    return [value for number, value in fields(message) if number == wanted and isinstance(value, memoryview)]


def _texts(message: memoryview, wanted: int) -> list[str]:
    return [str(value, "utf-8") for value in _all(message, wanted)]


def _text(message: memoryview, wanted: int) -> str:
    return next(iter(_texts(message, wanted)), "")


def fields(message: memoryview) -> _Fields:
    """Yield the fields of a message: numbers as they are, everything that has a length as a view."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        kind = tag & 7
        if kind == _VARINT:
            value, at = _varint(message, at)
            yield tag >> 3, value
            continue
        size, at = _varint(message, at) if kind == _BYTES else ({_LONG: 8, _SHORT: 4}.get(kind, len(message) + 1), at)
        if at + size > len(message):
            raise ValueError("a field beyond the end of its message")
        yield tag >> 3, message[at : at + size]
        at += size


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while shift < 70:
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise ValueError("a number of more than 64 bits")
