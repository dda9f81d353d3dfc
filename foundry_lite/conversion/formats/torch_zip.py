"""Files of ``torch.save``, a zip with a pickle and the bytes of tensors, read without torch and without running it.

A pickle is a program that calls whatever it names. Here nothing that it names is ever imported: a handful of names
(dictionaries, shapes, tensors) have functions of ours; every other one is an `IgnoredGlobal`, which does nothing. So
a file cannot run anything, and a class that we do not know costs only its own value.

Source: torch's serialization (zip files, since 1.6): ``NAME/data.pkl``, and ``NAME/data/KEY``, stored uncompressed.
"""

from __future__ import annotations

import collections
import io
import math
import pickle
import pickletools
import struct
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foundry_lite.errors import DamagedWeights, PickledWeights, UnsafeSource

_LARGEST_PICKLE = 64 << 20  # bytes; that of a model with 10 000 tensors has 2 MB
_MOST_SLOTS = 10_000_000  # of the pickle's memory
_KINDS = {"FloatStorage": "<f4", "HalfStorage": "<f2", "BFloat16Storage": "<u2", "DoubleStorage": "<f8"}
_PIECE = 1 << 22  # numbers
_LOCAL_HEADER = struct.Struct("<4s22xHH")  # of a file in a zip: its magic, the lengths of its name and its extras


class IgnoredGlobal:
    """Placeholder for every unknown global of a pickle. Construction, calls, state and items are ignored."""

    def __new__(cls, *_arguments: object, **_named: object) -> IgnoredGlobal:
        return super().__new__(cls)

    def __init__(self, *_arguments: object, **_named: object) -> None: ...

    def __call__(self, *_arguments: object, **_named: object) -> IgnoredGlobal:
        return self

    def __setstate__(self, _state: object) -> None: ...

    def __setitem__(self, _key: object, _value: object) -> None: ...

    def append(self, _value: object) -> None: ...

    def extend(self, _values: object) -> None: ...


@dataclass(frozen=True, slots=True)
class _Storage:
    path: Path
    kind: str  # as numpy writes it; empty for integers and others that no weight is
    start: int  # in the file, bytes
    count: int


@dataclass(frozen=True, slots=True)
class Stored:
    """A tensor of floats, still in its file. ``first`` is where it begins in its storage, in numbers."""

    storage: _Storage
    first: int
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    def numbers(self, start: int = 0, stop: int | None = None) -> Iterator[NDArray[np.float32]]:
        """Read the numbers ``start <= i < stop`` of it, flat, as float32, in pieces."""
        stop = self.size if stop is None else stop
        kind = np.dtype(self.storage.kind)
        with self.storage.path.open("rb") as stream:
            stream.seek(self.storage.start + (self.first + start) * kind.itemsize)
            for first in range(start, stop, _PIECE):
                raw = np.fromfile(stream, kind, min(_PIECE, stop - first))
                is_bfloat = self.storage.kind == "<u2"
                yield (raw.astype(np.uint32) << 16).view(np.float32) if is_bfloat else raw.astype(np.float32)


def read(path: Path) -> Any:
    """Return what was saved, its tensors as `Stored`, all that is not known as `IgnoredGlobal`.

    Raises `PickledWeights` for a file of another format, `DamagedWeights`, or `UnsafeSource` for one made to exhaust.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return _read_archive(path, archive)
    except zipfile.BadZipFile as error:
        raise PickledWeights(
            f"{path.name} is no file of torch's that can be read without running it ({error})",
            hint="If you trust where it comes from: --allow-pickle reads it by torch, in a process of its own.",
        ) from error
    except (pickle.UnpicklingError, ValueError, TypeError, LookupError, AttributeError, EOFError) as error:
        raise _damaged(path, f"it cannot be read ({error})") from error
    except (RecursionError, MemoryError, OverflowError) as error:
        raise UnsafeSource(f"{path.name} is made to exhaust the machine ({error!r})", hint="Do not use it.") from error


def _read_archive(path: Path, archive: zipfile.ZipFile) -> Any:
    entries = {entry.filename: entry for entry in archive.infolist()}
    name = next((name for name in entries if name.endswith("/data.pkl")), None)
    if name is None:
        raise _damaged(path, "it has no data.pkl")
    root = name.removesuffix("data.pkl")
    if entries[name].file_size > _LARGEST_PICKLE or any(entry.compress_type for entry in entries.values()):
        raise UnsafeSource(
            f"{path.name} has a pickle of {entries[name].file_size / 1e6:.1f} MB, or is compressed",
            hint="torch.save writes neither; do not use it.",
        )
    order = entries.get(f"{root}byteorder")
    if order is not None and archive.read(order) != b"little":
        raise _damaged(path, "it was written by a machine with another order of bytes")
    content = archive.read(name)
    _check_program(path, content)
    return _Reader(content, path, {one.removeprefix(root): entry for one, entry in entries.items()}).load()


def _check_program(path: Path, content: bytes) -> None:
    """Refuse the instructions that reserve memory before they look whether the file goes on."""
    for code, argument, _ in pickletools.genops(content):
        number = argument if isinstance(argument, int) else 0
        if code.name in ("BYTEARRAY8", "NEXT_BUFFER") or ("PUT" in code.name and number > _MOST_SLOTS):
            raise UnsafeSource(f"{path.name} has a pickle that asks for {code.name} {number}", hint="Do not use it.")


class _Reader(pickle.Unpickler):
    def __init__(self, content: bytes, path: Path, entries: dict[str, zipfile.ZipInfo]) -> None:
        super().__init__(io.BytesIO(content))
        self._path = path
        self._entries = entries

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and name.endswith("Storage"):
            return name
        return _KNOWN.get(f"{module}.{name}", IgnoredGlobal)

    def persistent_load(self, pid: Any) -> _Storage:
        _, kind, key, _, count = pid
        entry = self._entries[f"data/{key}"]
        dtype = _KINDS.get(kind, "") if isinstance(kind, str) else ""
        if dtype and count * np.dtype(dtype).itemsize != entry.file_size:
            raise _damaged(self._path, f"storage {key} has {entry.file_size} bytes, which is not {count} numbers")
        return _Storage(self._path, dtype, self._start(entry), count)

    def _start(self, entry: zipfile.ZipInfo) -> int:
        with self._path.open("rb") as stream:
            stream.seek(entry.header_offset)
            header = stream.read(30)
        magic, name, extra = _LOCAL_HEADER.unpack(header)
        start: int = entry.header_offset + 30 + name + extra
        if magic != b"PK\3\4" or start + entry.file_size > self._path.stat().st_size:
            raise _damaged(self._path, f"{entry.filename} is not where it should be")
        return start


def _rebuild_tensor(storage: object, first: Any, shape: Any, stride: Any, *_rest: object) -> Stored | IgnoredGlobal:
    """Return the tensor, when it is of floats and lies in one piece; no weight is another."""
    numbers = [first, *shape, *stride]
    if not all(type(one) is int and one >= 0 for one in numbers):
        raise ValueError(f"a tensor of the shape {shape!r}")
    if not isinstance(storage, _Storage) or not storage.kind or tuple(stride) != _strides(tuple(shape)):
        return IgnoredGlobal()
    if first + math.prod(shape) > storage.count:
        raise ValueError(f"a tensor of {math.prod(shape)} numbers in a storage of {storage.count}")
    return Stored(storage, first, tuple(shape))


def _strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))


def _damaged(path: Path, fact: str) -> DamagedWeights:
    return DamagedWeights(f"{path.name} is damaged: {fact}", hint="Copy the checkpoint again.")


_KNOWN: dict[str, Any] = {
    "collections.OrderedDict": collections.OrderedDict,
    "torch.Size": tuple,
    "torch._utils._rebuild_tensor_v2": _rebuild_tensor,
    "torch._utils._rebuild_parameter": lambda data, *_rest: data,
    "torch._utils._rebuild_parameter_with_state": lambda data, *_rest: data,
    "torch._tensor._rebuild_from_type_v2": lambda rebuild, _type, arguments, _state: rebuild(*arguments),
    "deepspeed.runtime.zero.config.ZeroStageEnum": lambda stage: stage,
    "builtins.set": set,
    "__builtin__.set": set,
}
