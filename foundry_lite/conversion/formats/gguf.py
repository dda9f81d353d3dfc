"""The header of a GGUF file: its metadata and where its tensors lie, read without trusting a number of it.

Source: the GGUF format, versions 2 and 3: ``GGUF``, the version, the numbers of tensors and of key-value pairs, the
pairs (key, type, value), the tensors (name, dimensions from the innermost outwards, type, offset), then the data,
aligned. All is little-endian. Lengths and counts are held against what is left of the file before anything is made.
"""

from __future__ import annotations

import math
import mmap
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foundry_lite.errors import DamagedWeights, UnsafeSource, UnsupportedArchitecture

MAGIC = b"GGUF"

_VERSIONS = (2, 3)
_MOST_PAIRS, _MOST_TENSORS, _MOST_DIMENSIONS = 10_000, 100_000, 4
_MOST_ELEMENTS = 4_000_000  # of all arrays together; the largest vocabularies have 260 000 tokens and twice the merges
_LONGEST_TEXT = 4 << 20  # bytes; a chat template has a few thousand
_DEFAULT_ALIGNMENT = 32
_STRING, _ARRAY = 8, 9
_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}

# ggml's types by number: name, weights in a block, bytes of a block.
TYPES: dict[int, tuple[str, int, int]] = {
    0: ("F32", 1, 4), 1: ("F16", 1, 2), 30: ("BF16", 1, 2),
    2: ("Q4_0", 32, 18), 3: ("Q4_1", 32, 20), 6: ("Q5_0", 32, 22), 7: ("Q5_1", 32, 24), 8: ("Q8_0", 32, 34),
    10: ("Q2_K", 256, 84), 11: ("Q3_K", 256, 110), 12: ("Q4_K", 256, 144), 13: ("Q5_K", 256, 176),
    14: ("Q6_K", 256, 210), 20: ("IQ4_NL", 32, 18), 23: ("IQ4_XS", 256, 136),
}  # fmt: skip
_HINT = "Copy or download the file again."


@dataclass(frozen=True, slots=True)
class GgufTensor:
    """Tensor of a GGUF file: ``shape`` with the outermost axis first, as in numpy; its data from byte ``start`` on."""

    name: str
    kind: str
    shape: tuple[int, ...]
    start: int
    size: int

    @property
    def count(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class GgufHeader:
    """Header of a GGUF file. ``values`` are its metadata key-value pairs; an array is a list."""

    path: Path
    values: dict[str, Any]
    tensors: dict[str, GgufTensor]


def read_gguf(path: Path) -> GgufHeader:
    """Read a header.

    Raises `DamagedWeights` when it contradicts itself or the file, `UnsafeSource` when it is made to exhaust the
    machine, `UnsupportedArchitecture` for versions and types that are not known.
    """
    with path.open("rb") as file:
        if not path.stat().st_size:
            raise DamagedWeights(f"{path.name} is empty", hint=_HINT)
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            try:
                return _Reader(path, data).read()
            except (struct.error, UnicodeDecodeError) as error:
                raise DamagedWeights(f"{path.name} is damaged: {error}", hint=_HINT) from error


class _Reader:
    def __init__(self, path: Path, data: mmap.mmap) -> None:
        self._path = path
        self._data = data
        self._at = 0
        self._elements = 0

    def read(self) -> GgufHeader:
        """Read all of it."""
        if self._take(4) != MAGIC:
            raise self._damaged("it does not begin with GGUF")
        version = self._number("I")
        if version not in _VERSIONS:
            raise UnsupportedArchitecture(
                f"{self._path.name} is GGUF of version {version}",
                hint="Supported: little-endian GGUF of version 2 or 3; convert it with llama.cpp.",
            )
        tensors = self._bounded("tensors", self._number("Q"), _MOST_TENSORS)
        pairs = self._bounded("key-value pairs", self._number("Q"), _MOST_PAIRS)
        values: dict[str, Any] = {}
        for _ in range(pairs):
            key = self._text()
            if key in values:
                raise self._damaged(f"it has the key {key[:80]!r} twice")
            values[key] = self._value(self._number("I"))
        return GgufHeader(self._path, values, self._tensors(tensors, values))

    def _tensors(self, count: int, values: dict[str, Any]) -> dict[str, GgufTensor]:
        entries = [self._entry() for _ in range(count)]
        alignment = values.get("general.alignment", _DEFAULT_ALIGNMENT)
        if not isinstance(alignment, int) or not 1 <= alignment <= 1 << 16 or alignment & (alignment - 1):
            raise self._damaged(f"'general.alignment' is {alignment!r}")
        begin = -(-self._at // alignment) * alignment
        tensors = {}
        for name, shape, (kind, block, size), offset in entries:
            if name in tensors:
                raise self._damaged(f"it has the tensor {name[:80]} twice")
            if shape[-1] % block or offset % alignment:
                raise self._damaged(f"{name[:80]} {list(shape)} does not consist of whole blocks of {kind}")
            tensors[name] = GgufTensor(name, kind, shape, begin + offset, math.prod(shape) // block * size)
        end = 0
        for one in sorted(tensors.values(), key=lambda tensor: tensor.start):
            if one.start < end:
                raise self._damaged(f"{one.name[:80]} lies over another tensor")
            end = one.start + one.size
            if end > len(self._data):
                raise self._damaged(
                    f"it is truncated: {one.name[:80]} ends at byte {end}, the file has {len(self._data)}"
                )
        return tensors

    def _entry(self) -> tuple[str, tuple[int, ...], tuple[str, int, int], int]:
        name = self._text()
        dimensions = self._bounded(f"dimensions of {name[:80]}", self._number("I"), _MOST_DIMENSIONS)
        shape = tuple(self._number("Q") for _ in range(dimensions))[::-1] or (1,)
        kind, offset = self._number("I"), self._number("Q")
        if kind not in TYPES:
            known = ", ".join(one[0] for one in TYPES.values())
            raise UnsupportedArchitecture(f"{name[:80]} is of ggml's type {kind}", hint=f"Supported: {known}.")
        if not all(0 < size <= len(self._data) * 32 for size in shape):
            raise self._damaged(f"{name[:80]} has the shape {list(shape)}")
        return name, shape, TYPES[kind], offset

    def _value(self, kind: int) -> Any:
        if kind == _STRING:
            return self._text()
        if kind == _ARRAY:
            return list(self._array())
        return self._number(self._format(kind))

    def _array(self) -> Iterator[Any]:
        kind, count = self._number("I"), self._number("Q")
        self._elements += count
        self._bounded("values in arrays", self._elements, _MOST_ELEMENTS)
        if kind == _STRING:
            for _ in range(count):
                yield self._text()
        elif kind == _ARRAY:
            raise self._damaged("it has an array of arrays")
        else:
            form = f"<{count}{self._format(kind)}"
            yield from struct.unpack(form, self._take(struct.calcsize(form)))

    def _format(self, kind: int) -> str:
        if kind not in _NUMBERS:
            raise self._damaged(f"it has a value of the unknown type {kind}")
        return _NUMBERS[kind]

    def _text(self) -> str:
        length = self._bounded("bytes in a text", self._number("Q"), _LONGEST_TEXT)
        return self._take(length).decode("utf-8", errors="replace")

    def _number(self, form: str) -> Any:
        form = f"<{form}"
        return struct.unpack(form, self._take(struct.calcsize(form)))[0]

    def _take(self, count: int) -> bytes:
        if self._at + count > len(self._data):
            raise self._damaged(f"it ends within its header, at byte {len(self._data)}")
        self._at += count
        return self._data[self._at - count : self._at]

    def _bounded(self, what: str, value: int, most: int) -> int:
        if value > most:
            raise UnsafeSource(
                f"{self._path.name} says that it has {value} {what}; at most {most} are read",
                hint="No model has so many. " + _HINT,
            )
        return value

    def _damaged(self, fact: str) -> DamagedWeights:
        return DamagedWeights(f"{self._path.name} is damaged: {fact}", hint=_HINT)
