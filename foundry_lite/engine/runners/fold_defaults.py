"""A graph file whose inputs with a default become the constants that the defaults are.

Our graphs have such inputs, for adapters and for the rows whose logits are wanted. OpenVINO's plug-in 1.8.1 takes them
for inputs that somebody forgot to bind ("Input names mismatch"), so it is given the graph without them.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from foundry_lite.engine.runners import onnx_header

_MODEL_GRAPH, _GRAPH_INPUT, _VALUE_NAME = 7, 11, 1
_VARINT, _BYTES = 0, 2  # the only wire types in these two messages


def without_defaults(path: Path, optional: frozenset[str]) -> bytes:
    """Return the file's content without the inputs that are named in ``optional``; weights outside it stay there."""

    def keeps(number: int, value: int | memoryview) -> bool:
        return number != _GRAPH_INPUT or isinstance(value, int) or _name(value) not in optional

    written = bytearray()
    for number, value in onnx_header.fields(memoryview(path.read_bytes())):
        is_graph = number == _MODEL_GRAPH and isinstance(value, memoryview)
        written += _field(number, _filtered(value, keeps) if is_graph else value)
    return bytes(written)


def _filtered(message: int | memoryview, keeps: Callable[[int, int | memoryview], bool]) -> bytes:
    assert isinstance(message, memoryview)
    written = bytearray()
    for number, value in onnx_header.fields(message):
        if keeps(number, value):
            written += _field(number, value)
    return bytes(written)


def _name(message: memoryview) -> str:
    fields = onnx_header.fields(message)
    return next(
        (bytes(one).decode() for number, one in fields if number == _VALUE_NAME and not isinstance(one, int)), ""
    )


def _field(number: int, value: int | bytes | memoryview) -> bytes:
    if isinstance(value, int):
        return _varint(number << 3 | _VARINT) + _varint(value)
    return _varint(number << 3 | _BYTES) + _varint(len(value)) + bytes(value)


def _varint(value: int) -> bytes:
    written = bytearray()
    while value > 0x7F:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*written, value])
