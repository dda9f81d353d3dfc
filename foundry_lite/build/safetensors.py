"""Safetensors files: the header, read and checked without reading a weight, and the weights of small files.

Source: the safetensors format: 8 bytes with the length of the header (little-endian), the header as JSON (name →
``{dtype, shape, data_offsets}``, offsets from the end of the header), then the data, without holes up to the end.
"""

from __future__ import annotations

import math
import struct
from pathlib import Path

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from foundry_lite.errors import DamagedWeights

_LENGTH = struct.Struct("<Q")
_LONGEST_HEADER = 100_000_000  # bytes; the limit of the format's own reader
_FLOATS = {"F32": "<f4", "F16": "<f2", "BF16": "<u2"}  # bfloat16 is the upper half of a float32


class _Tensor(Struct):
    dtype: str
    shape: tuple[int, ...]
    data_offsets: tuple[int, int]


def count_parameters(path: Path) -> int:
    """Count the weights in a safetensors file.

    Raises `DamagedWeights` when the file is shorter or longer than its header says, or has no readable header.
    """
    tensors, _ = _open(path)
    return sum(math.prod(tensor.shape) for tensor in tensors.values())


def read_arrays(path: Path) -> dict[str, NDArray[np.float32]]:
    """Read all tensors of a file into float32. Raises `DamagedWeights`, also for numbers that are no floats."""
    tensors, start = _open(path)
    content = path.read_bytes()[start:]
    return {name: _array(path, name, tensor, content) for name, tensor in tensors.items()}


def _array(path: Path, name: str, tensor: _Tensor, content: bytes) -> NDArray[np.float32]:
    kind = _FLOATS.get(tensor.dtype)
    if kind is None:
        raise _damaged(path, f"{name} is of type {tensor.dtype}, not one of {', '.join(_FLOATS)}")
    first, end = tensor.data_offsets
    if not 0 <= first <= end or end - first != math.prod(tensor.shape) * np.dtype(kind).itemsize:
        raise _damaged(path, f"{name} has {end - first} bytes, which is not its shape {list(tensor.shape)}")
    raw = np.frombuffer(content[first:end], kind)
    values = (raw.astype(np.uint32) << 16).view(np.float32) if tensor.dtype == "BF16" else raw.astype(np.float32)
    return values.reshape(tensor.shape)


def _open(path: Path) -> tuple[dict[str, _Tensor], int]:
    """Return the tensors of a file, and where its data begins."""
    size = path.stat().st_size
    with path.open("rb") as stream:
        start = stream.read(_LENGTH.size)
        if len(start) < _LENGTH.size:
            raise _damaged(path, f"it has only {size} bytes")
        length = _LENGTH.unpack(start)[0]
        if length > min(size - _LENGTH.size, _LONGEST_HEADER):
            raise _damaged(path, f"its header should have {length} bytes, the file has {size}")
        header = stream.read(length)
    tensors = _read_header(path, header)
    end = max((tensor.data_offsets[1] for tensor in tensors.values()), default=0)
    expected = _LENGTH.size + length + end
    if size != expected:
        kind = "truncated" if size < expected else "longer than it says"
        raise _damaged(path, f"it is {kind}: its header describes {expected} bytes, the file has {size}")
    return tensors, _LENGTH.size + length


def _read_header(path: Path, header: bytes) -> dict[str, _Tensor]:
    try:
        entries = msgspec.json.decode(header, type=dict[str, msgspec.Raw])
        return {name: msgspec.json.decode(raw, type=_Tensor) for name, raw in entries.items() if name != "__metadata__"}
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _damaged(path, f"its header cannot be read ({error})") from error


def _damaged(path: Path, fact: str) -> DamagedWeights:
    return DamagedWeights(f"{path.name} is damaged: {fact}", hint="Copy or download the file again.")
