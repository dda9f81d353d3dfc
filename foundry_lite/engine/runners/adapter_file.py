"""LoRA adapters on disk: onnxruntime's own adapter format, one array for each graph input that the adapter replaces.

Source: ``onnxruntime.AdapterFormat`` (a flatbuffer, as ``og.Adapters`` of onnxruntime-genai reads it too).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from foundry_lite.errors import LoadFailed

_VERSION = 1  # of what the parameters mean: `lora.<layer>.<node>.A` and `.B`, the scaling within B
_AGAIN = "Import the adapter again with --force."


def read(path: Path) -> dict[str, NDArray[np.float32]]:
    """Read the matrices of an adapter, by the names of the graph's inputs. Raises `LoadFailed`."""
    try:
        file = ort.AdapterFormat.read_adapter(str(path))
        version = file.get_adapter_version()
        arrays = {name: np.array(value.numpy(), np.float32) for name, value in file.get_parameters().items()}
    except Exception as error:
        raise LoadFailed(f"{path.name} cannot be read as an adapter", hint=_AGAIN) from error
    if version != _VERSION:
        raise LoadFailed(f"{path.name} has adapter version {version}, this version reads {_VERSION}", hint=_AGAIN)
    return arrays


def check(
    label: str, arrays: Mapping[str, NDArray[np.float32]], inputs: Mapping[str, Sequence[int | str | None]]
) -> None:
    """Compare an adapter with the optional inputs of a graph, by name, whose free sizes have names.

    Raises `LoadFailed`: once a graph runs, what does not fit would cost everybody's requests.
    """
    for name, array in arrays.items():
        if name not in inputs:
            raise LoadFailed(f"{label} adapts {name}, which this model has no place for", hint=_AGAIN)
        if [size for size in inputs[name] if isinstance(size, int)] != _fixed(inputs[name], array.shape):
            raise LoadFailed(f"{label}: {name} has the shape {array.shape}, this model needs {tuple(inputs[name])}")
    ranks: dict[str, int] = {}
    for name, sizes in inputs.items():
        given = arrays[name].shape if name in arrays else (1,) * len(sizes)  # the defaults have rank 1
        for size, actual in zip(sizes, given, strict=True):
            if isinstance(size, str) and ranks.setdefault(size, actual) != actual:
                raise LoadFailed(f"{label}: {name} has the rank {actual}, its other half {ranks[size]}", hint=_AGAIN)


def _fixed(sizes: Sequence[int | str | None], actual: tuple[int, ...]) -> list[int]:
    if len(sizes) != len(actual):
        return []
    return [there for size, there in zip(sizes, actual, strict=True) if isinstance(size, int)]


def write(path: Path, arrays: Mapping[str, NDArray[np.float32]]) -> None:
    """Write the matrices of an adapter."""
    # Kept until the file is written: the format takes the values' memory, and keeps neither them nor their arrays.
    values = {name: ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(one)) for name, one in arrays.items()}
    file = ort.AdapterFormat()
    file.set_adapter_version(_VERSION)
    file.set_model_version(_VERSION)
    file.set_parameters(values)
    file.export_adapter(str(path))
