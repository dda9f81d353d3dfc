"""Weights in a file beside their graph (ONNX external data): read by mapping, written one piece at a time.

What is read or written is never in memory as a whole, so a graph's size does not matter.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterable
from pathlib import Path, PurePosixPath, PureWindowsPath
from types import TracebackType
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from foundry_lite.errors import BuildFailed, UnsafeSource

_BIG = 1 << 20
_PAGE = 1 << 16  # the granularity of mapping on Windows, and a multiple of every other system's
_LINE = 64


class WeightReader:
    """Initializers of a graph in ``folder`` as arrays."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def array(self, tensor: onnx.TensorProto) -> NDArray[Any]:
        """Return the tensor; one of a file as a view of it. Raises `BuildFailed` when the file does not match."""
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            inline: NDArray[Any] = onnx.numpy_helper.to_array(tensor)
            return inline
        where = {entry.key: entry.value for entry in tensor.external_data}
        kind = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
        path = self._folder / external_file(tensor)
        if 0 in tensor.dims:
            return np.zeros(tuple(tensor.dims), kind)
        try:
            return np.memmap(path, kind, "r", offset=int(where.get("offset", 0)), shape=tuple(tensor.dims))
        except (OSError, ValueError) as error:
            raise BuildFailed(f"{tensor.name} cannot be read from {path.name}: {error}") from error


def external_file(tensor: onnx.TensorProto) -> str:
    """Return the file, below the graph's folder, that has a tensor's bytes. Raises `UnsafeSource` for any other."""
    location = next((entry.value for entry in tensor.external_data if entry.key == "location"), "")
    parts = PurePosixPath(location.replace("\\", "/")).parts
    if not location or location.startswith(("/", "\\")) or PureWindowsPath(location).drive or ".." in parts:
        raise UnsafeSource(
            f"{tensor.name} is said to lie in {location!r}, which is outside the model's folder",
            hint="Save the graph again with its data beside it.",
        )
    return location


def release(array: NDArray[Any]) -> None:
    """Give back the memory of a mapped array that has been read: it is the file's, and can be read again."""
    base: Any = array
    while isinstance(base.base, np.ndarray):
        base = base.base
    mapped = getattr(base, "_mmap", None)
    if mapped is not None and hasattr(mmap, "MADV_DONTNEED"):
        mapped.madvise(mmap.MADV_DONTNEED)


class WeightWriter:
    """A new file of weights; as a context, it is closed when the block ends."""

    def __init__(self, path: Path) -> None:
        self._name = path.name
        self._stream = path.open("wb")

    def __enter__(self) -> WeightWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.close()

    def add(self, name: str, array: NDArray[Any]) -> onnx.TensorProto:
        """Write an array; return the initializer that stands for it."""
        return self.add_pieces(name, array.dtype, array.shape, [array])

    def add_pieces(
        self, name: str, kind: np.dtype[Any], shape: tuple[int, ...], pieces: Iterable[NDArray[Any]]
    ) -> onnx.TensorProto:
        """Write one tensor of ``shape`` that comes in pieces along its first axis."""
        size = int(np.prod(shape)) * kind.itemsize
        step = _PAGE if size >= _BIG else _LINE
        offset = -(-self._stream.tell() // step) * step
        self._stream.seek(offset)
        for piece in pieces:
            np.ascontiguousarray(piece, kind).tofile(self._stream)
        tensor = onnx.TensorProto(name=name, dims=shape, data_type=onnx.helper.np_dtype_to_tensor_dtype(kind))
        tensor.data_location = onnx.TensorProto.EXTERNAL
        for key, value in (("location", self._name), ("offset", offset), ("length", size)):
            tensor.external_data.add(key=key, value=str(value))
        return tensor


def alias(tensor: onnx.TensorProto, name: str, shape: tuple[int, ...]) -> onnx.TensorProto:
    """Return another initializer over the same bytes, in another shape.

    A ``Reshape`` of a constant would be computed when the model is loaded, into memory of its own.
    """
    other = onnx.TensorProto()
    other.CopyFrom(tensor)
    other.name = name
    del other.dims[:]
    other.dims.extend(shape)
    return other
