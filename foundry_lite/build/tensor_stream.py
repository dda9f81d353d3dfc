"""Safetensors files a piece at a time: rows of one tensor are read, or written, and nothing else is in memory.

`safetensors` checks a file when it is inspected; what is opened here has been. A file is written in the order of its
header, so all shapes are known before the first number is.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from foundry_lite.errors import DamagedWeights

ROWS_AT_A_TIME = 1 << 24  # bytes of a piece, about

_LENGTH = struct.Struct("<Q")
_ALIGNMENT = 8
_METADATA = "__metadata__"
_KINDS = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "|i1",
    "U8": "|u1", "BOOL": "|b1",
}  # fmt: skip


class Entry(Struct, frozen=True):
    """A tensor in the header of a file: ``dtype`` as safetensors calls it, ``data_offsets`` from the header's end."""

    dtype: str
    shape: tuple[int, ...]
    data_offsets: tuple[int, int] = (0, 0)


class TensorFile:
    """One file, its tensors by name. Raises `DamagedWeights` when its header cannot be read."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            with path.open("rb") as stream:
                (length,) = _LENGTH.unpack(stream.read(_LENGTH.size))
                entries = msgspec.json.decode(stream.read(length), type=dict[str, msgspec.Raw])
            self.metadata = msgspec.json.decode(entries.pop(_METADATA, msgspec.Raw(b"{}")), type=dict[str, str])
            self.entries = {name: msgspec.json.decode(raw, type=Entry) for name, raw in entries.items()}
        except (OSError, struct.error, msgspec.DecodeError, MemoryError, OverflowError) as error:
            raise self._damaged(f"its header cannot be read ({error})") from error
        self._start = _LENGTH.size + length

    def array(self, name: str, first: int = 0, count: int | None = None) -> NDArray[Any]:
        """Return ``count`` rows of a tensor, all from ``first`` on by default; bfloat16 as its 16 bits."""
        entry = self.entries[name]
        kind = _KINDS.get(entry.dtype)
        if kind is None:
            raise self._damaged(f"{name} is of type {entry.dtype}")
        rows, *rest = entry.shape or (1,)
        count = rows - first if count is None else min(count, rows - first)
        width = math.prod(rest) * np.dtype(kind).itemsize
        begin, end = entry.data_offsets
        if end - begin != rows * width:
            raise self._damaged(f"{name} has {end - begin} bytes, which is not its shape {list(entry.shape)}")
        with self._path.open("rb") as stream:
            stream.seek(self._start + begin + first * width)
            raw = np.frombuffer(stream.read(count * width), kind)
        if raw.nbytes != count * width:
            raise self._damaged(f"it ends within {name}")
        return raw.reshape(count, *rest) if entry.shape else raw.reshape(())

    def floats(self, name: str, first: int = 0, count: int | None = None) -> NDArray[np.float32]:
        """Return rows as float32. Raises `DamagedWeights` for numbers that are no floats."""
        dtype = self.entries[name].dtype
        if dtype not in ("F64", "F32", "F16", "BF16"):
            raise self._damaged(f"{name} is of type {dtype}, no float")
        raw = self.array(name, first, count)
        if dtype == "BF16":  # the upper half of a float32
            return (raw.astype(np.uint32) << 16).view(np.float32)
        return raw.astype(np.float32, copy=False)

    def pieces(self, name: str) -> Iterable[NDArray[np.float32]]:
        """Yield all rows of a tensor as float32, some at a time."""
        shape = self.entries[name].shape
        if not shape:
            yield self.floats(name)
            return
        step = rows_at_a_time(math.prod(shape[1:]))
        for first in range(0, shape[0], step):
            yield self.floats(name, first, step)

    def _damaged(self, fact: str) -> DamagedWeights:
        return DamagedWeights(f"{self._path.name} is damaged: {fact}", hint="Copy or download the file again.")


def rows_at_a_time(width: int) -> int:
    """Return how many rows of ``width`` float32 numbers make one piece."""
    return max(1, ROWS_AT_A_TIME // max(1, 4 * width))


class TensorWriter:
    """A new file with the tensors of ``layout``, name → ``(dtype, shape)``, which are then written in that order."""

    def __init__(
        self, path: Path, layout: Mapping[str, tuple[str, tuple[int, ...]]], metadata: Mapping[str, str] | None = None
    ) -> None:
        header: dict[str, Any] = {_METADATA: {"format": "pt", **(metadata or {})}}
        end = 0
        for name, (dtype, shape) in layout.items():
            start, end = end, end + math.prod(shape) * np.dtype(_KINDS[dtype]).itemsize
            header[name] = Entry(dtype, shape, (start, end))
        text = msgspec.json.encode(header)
        text += b" " * (-len(text) % _ALIGNMENT)
        self._layout = dict(layout)
        self._waiting = list(layout)
        self._stream = path.open("wb")
        self._stream.write(_LENGTH.pack(len(text)) + text)

    def __enter__(self) -> TensorWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.close()
        if kind is None and self._waiting:
            raise ValueError(f"{len(self._waiting)} tensors were not written: {self._waiting[0]}")

    def write(self, name: str, pieces: Iterable[NDArray[Any]]) -> None:
        """Write the next tensor from its pieces. Raises `ValueError` when it is not the next, or not of its size."""
        if not self._waiting or self._waiting.pop(0) != name:
            raise ValueError(f"{name} is not the tensor that follows")
        dtype, shape = self._layout[name]
        written = 0
        for piece in pieces:
            written += piece.size
            np.ascontiguousarray(piece, _KINDS[dtype]).tofile(self._stream)
        if written != math.prod(shape):
            raise ValueError(f"{name} has {written} numbers, not the shape {list(shape)}")
