"""Safetensors files: the header, read and checked without reading a weight, and the weights, a piece at a time.

Source: the safetensors format: 8 bytes with the length of the header (little-endian), the header as JSON (name →
``{dtype, shape, data_offsets}``, offsets from the end of the header), then the data, without holes or overlaps up to
the end. Nothing here holds more than one piece of a file, except `read_arrays`.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from foundry_lite.errors import DamagedWeights

_LENGTH = struct.Struct("<Q")
_LONGEST_HEADER = 32 << 20  # bytes; 40 000 tensors, as the largest mixtures of experts have, need 5 MB
_FLOATS = {"F32": "<f4", "F16": "<f2", "BF16": "<u2"}  # bfloat16 is the upper half of a float32
_SIZES = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E5M2": 1, "F8_E4M3": 1, "F8_E8M0": 1,
    "I16": 2, "U16": 2, "F16": 2, "BF16": 2, "I32": 4, "U32": 4, "F32": 4, "F64": 8, "I64": 8, "U64": 8, "C64": 8,
}  # fmt: skip
_EXPONENTS = {"F32": ("<u4", 0x7F800000), "F16": ("<u2", 0x7C00), "BF16": ("<u2", 0x7F80)}  # all set: not finite
_PIECE = 1 << 24  # bytes

Array = NDArray[Any]


class _Entry(Struct):
    dtype: str
    shape: tuple[int, ...]
    data_offsets: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Tensor:
    """Tensor of a safetensors file; its data are the bytes from ``start`` to ``end``. ``dtype`` is such as ``BF16``."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int

    @property
    def rows(self) -> int:
        """Length of the first axis; 1 for a scalar."""
        return self.shape[0] if self.shape else 1


def read_header(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a file by name.

    Raises `DamagedWeights` when the header cannot be read, contradicts itself, or describes another file than this.
    """
    size = path.stat().st_size
    with path.open("rb") as stream:
        start = stream.read(_LENGTH.size)
        if len(start) < _LENGTH.size:
            raise _damaged(path, f"it has only {size} bytes")
        length = _LENGTH.unpack(start)[0]
        if length > min(size - _LENGTH.size, _LONGEST_HEADER):
            raise _damaged(path, f"its header should have {length} bytes, the file has {size}")
        header = stream.read(length)
    begin = _LENGTH.size + length
    entries = _decode(path, header)
    expected = begin + max((entry.data_offsets[1] for entry in entries.values()), default=0)
    if size != expected:
        kind = "truncated" if size < expected else "longer than it says"
        raise _damaged(path, f"it is {kind}: its header describes {expected} bytes, the file has {size}")
    _check_layout(path, entries)
    return {
        name: Tensor(entry.dtype, entry.shape, begin + entry.data_offsets[0], begin + entry.data_offsets[1])
        for name, entry in entries.items()
    }


def count_parameters(path: Path) -> int:
    """Count the weights in a safetensors file. Raises `DamagedWeights`."""
    return sum(math.prod(tensor.shape) for tensor in read_header(path).values())


def read_arrays(path: Path) -> dict[str, NDArray[np.float32]]:
    """Read all tensors of a small file into float32. Raises `DamagedWeights`, also for numbers that are no floats."""
    return {name: read_rows(path, name, tensor) for name, tensor in read_header(path).items()}


def read_rows(path: Path, name: str, tensor: Tensor, first: int = 0, last: int | None = None) -> NDArray[np.float32]:
    """Read the rows ``first <= i < last`` of a tensor as float32. Raises `DamagedWeights` for what is no float."""
    if tensor.dtype not in _FLOATS:
        raise _damaged(path, f"{name} is of type {tensor.dtype}, not one of {', '.join(_FLOATS)}")
    kind = np.dtype(_FLOATS[tensor.dtype])
    last = tensor.rows if last is None else last
    width = math.prod(tensor.shape[1:])
    with path.open("rb") as stream:
        stream.seek(tensor.start + first * width * kind.itemsize)
        raw = np.fromfile(stream, kind, (last - first) * width)
    values = (raw.astype(np.uint32) << 16).view(np.float32) if tensor.dtype == "BF16" else raw.astype(np.float32)
    return values.reshape((last - first, *tensor.shape[1:]) if tensor.shape else ())


def spans(tensor: Tensor, piece: int = _PIECE) -> Iterator[tuple[int, int]]:
    """Cut a tensor into ranges of rows of about ``piece`` bytes in float32."""
    step = max(1, piece // max(4 * math.prod(tensor.shape[1:]), 1))
    for first in range(0, tensor.rows, step):
        yield first, min(first + step, tensor.rows)


def read_raw(path: Path, tensor: Tensor) -> Iterator[Array]:
    """Read the bytes of a tensor as they are, in pieces."""
    with path.open("rb") as stream:
        stream.seek(tensor.start)
        for start in range(tensor.start, tensor.end, _PIECE):
            yield np.fromfile(stream, np.uint8, min(_PIECE, tensor.end - start))


def is_finite(path: Path, tensor: Tensor) -> bool:
    """Return whether a tensor of floats has neither NaN nor infinity; true for integers. Reads all of it."""
    if tensor.dtype not in _EXPONENTS:
        return True
    kind, exponent = _EXPONENTS[tensor.dtype]
    return not any(np.any((piece.view(kind) & exponent) == exponent) for piece in read_raw(path, tensor))


def write(path: Path, tensors: Mapping[str, tuple[str, tuple[int, ...]]], data: Mapping[str, Iterable[Array]]) -> None:
    """Write a file: ``tensors`` as name → ``(dtype, shape)``, ``data`` the pieces of each, bytes in C order.

    The pieces of a tensor are only requested when it is written. The same tensors give the same bytes.
    """
    order = sorted(tensors, key=lambda name: (-_SIZES[tensors[name][0]], name))  # so every tensor is aligned
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name in order:
        dtype, shape = tensors[name]
        start, end = end, end + math.prod(shape) * _SIZES[dtype]
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as stream:
        stream.write(_LENGTH.pack(len(text)) + text)
        for name in order:
            before = stream.tell()
            for piece in data[name]:
                np.ascontiguousarray(piece).tofile(stream)
            start, end = header[name]["data_offsets"]
            if stream.tell() - before != end - start:
                raise ValueError(f"{name}: {stream.tell() - before} bytes were given for {end - start}")


def _decode(path: Path, header: bytes) -> dict[str, _Entry]:
    try:
        found = json.loads(header.decode("utf-8"), object_pairs_hook=tuple)  # so keys that stand twice are seen
        if not isinstance(found, tuple):
            raise ValueError("it is no object")
        entries = {name: msgspec.convert(dict(pairs), _Entry) for name, pairs in found if name != "__metadata__"}
    except (ValueError, TypeError, RecursionError) as error:  # msgspec's own error is a ValueError
        raise _damaged(path, f"its header cannot be read ({error})") from error
    if len(entries) != sum(name != "__metadata__" for name, _ in found):
        raise _damaged(path, "its header names a tensor twice")
    return entries


def _check_layout(path: Path, entries: dict[str, _Entry]) -> None:
    for name, entry in entries.items():
        first, last = entry.data_offsets
        if entry.dtype not in _SIZES:
            raise _damaged(path, f"{name} is of the unknown type {entry.dtype[:40]}")
        if first < 0 or min(entry.shape, default=0) < 0 or last - first != math.prod(entry.shape) * _SIZES[entry.dtype]:
            raise _damaged(path, f"{name} has {last - first} bytes, which is not its shape {list(entry.shape)}")
    end = 0
    for name, entry in sorted(entries.items(), key=lambda one: one[1].data_offsets):
        if entry.data_offsets[0] != end:
            what = "lies over another" if entry.data_offsets[0] < end else "comes after a hole"
            raise _damaged(path, f"{name} {what}: it begins at byte {entry.data_offsets[0]}, not at {end}")
        end = entry.data_offsets[1]


def _damaged(path: Path, fact: str) -> DamagedWeights:
    return DamagedWeights(f"{path.name} is damaged: {fact}", hint="Copy or download the file again.")
