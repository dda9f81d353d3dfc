"""The header of a safetensors file, read and checked without reading a weight.

Source: the safetensors format: 8 bytes with the length of the header (little-endian), the header as JSON (name →
``{dtype, shape, data_offsets}``, offsets from the end of the header), then the data, without holes up to the end.
"""

from __future__ import annotations

import math
import struct
from pathlib import Path

import msgspec
from msgspec import Struct

from foundry_lite.errors import DamagedWeights

_LENGTH = struct.Struct("<Q")
_LONGEST_HEADER = 100_000_000  # bytes; the limit of the format's own reader


class _Tensor(Struct):
    dtype: str
    shape: tuple[int, ...]
    data_offsets: tuple[int, int]


def count_parameters(path: Path) -> int:
    """Count the weights in a safetensors file.

    Raises `DamagedWeights` when the file is shorter or longer than its header says, or has no readable header.
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
    tensors = _read_header(path, header)
    end = max((tensor.data_offsets[1] for tensor in tensors), default=0)
    expected = _LENGTH.size + length + end
    if size != expected:
        kind = "truncated" if size < expected else "longer than it says"
        raise _damaged(path, f"it is {kind}: its header describes {expected} bytes, the file has {size}")
    return sum(math.prod(tensor.shape) for tensor in tensors)


def _read_header(path: Path, header: bytes) -> list[_Tensor]:
    try:
        entries = msgspec.json.decode(header, type=dict[str, msgspec.Raw])
        return [msgspec.json.decode(raw, type=_Tensor) for name, raw in entries.items() if name != "__metadata__"]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _damaged(path, f"its header cannot be read ({error})") from error


def _damaged(path: Path, fact: str) -> DamagedWeights:
    return DamagedWeights(f"{path.name} is damaged: {fact}", hint="Copy or download the file again.")
