"""Packed weights (GPTQ, AWQ) to a folder of floats and the grid that they lie on: run by `dequantize` as a subprocess.

    python -m foundry_lite.conversion.checkpoint.unpack_gptq_awq SOURCE_FOLDER TARGET

One matrix is in memory at a time. Every float is ``scale * (q - zero)`` in float32, which is exact: a scale has 11
bits, an integer at most 9.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from foundry_lite.conversion.formats.safetensors import Array, Tensor, read_raw, read_rows, spans, write
from foundry_lite.conversion.quantize.source_grid import Lattice, write_grid
from foundry_lite.conversion.sources.gptq_awq import (
    Matrix,
    Packing,
    Part,
    can_be_kept,
    find_floats,
    find_matrices,
    read_packing,
)
from foundry_lite.conversion.sources.source_model import Kind
from foundry_lite.conversion.sources.weight_checks import find_weights

# AutoAWQ packs eight outputs into a word in this order, the first into the lowest bits.
_AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)


def main() -> None:
    """Unpack one folder."""
    unpack(Path(sys.argv[1]), Path(sys.argv[2]))


def unpack(folder: Path, target: Path) -> None:
    """Write ``model.safetensors`` in float32, its grid, and a config.json without quantization, into ``target``."""
    packing = read_packing(folder)
    weights = find_weights(folder)
    found = find_matrices(weights, packing)
    floats = find_floats(weights, found)
    matrices = {one.name: one for one in found}
    lattices: dict[str, Lattice] = {}
    layout = {name: ("F32", tensor.shape) for name, (_, tensor) in floats.items()}
    layout |= {name: ("F32", (one.outputs, one.inputs)) for name, one in matrices.items()}
    data = {name: _copied(path, name, tensor) for name, (path, tensor) in floats.items()}
    data |= {name: _unpacked(one, packing, lattices) for name, one in matrices.items()}
    write(target / "model.safetensors", layout, data)
    write_grid(target, lattices)
    config = json.loads((folder / "config.json").read_bytes())
    del config["quantization_config"]
    config.pop("torch_dtype", None)
    config["dtype"] = "float32"
    (target / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True), encoding="utf-8")


def _copied(path: Path, name: str, tensor: Tensor) -> Iterator[Array]:
    for first, last in spans(tensor):
        yield read_rows(path, name, tensor, first, last)


def _unpacked(matrix: Matrix, packing: Packing, lattices: dict[str, Lattice]) -> Iterator[Array]:
    """Yield the matrix as floats ``(outputs, inputs)``; note its lattice, if it is one."""
    whole, zeros = read_integers(matrix, packing)
    scales = read_rows(matrix.scales.path, matrix.name, matrix.scales.tensor)
    group_of = np.arange(matrix.inputs) // matrix.group if matrix.order is None else _words(matrix.order)
    if can_be_kept(matrix, packing):
        middle = 1 << (packing.bits - 1)
        columns = None if (zeros == middle).all() else np.ascontiguousarray(zeros.T)
        lattices[matrix.name] = Lattice(packing.bits, matrix.group, np.ascontiguousarray(scales.T), columns)
    weights = whole.astype(np.float32)
    weights -= zeros[group_of]
    weights *= scales[group_of]
    yield weights.T


def read_integers(matrix: Matrix, packing: Packing) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return the integers ``(inputs, outputs)`` and the zero points ``(groups, outputs)`` of a matrix."""
    bits = packing.bits
    words, packed_zeros = _words(matrix.words), _words(matrix.zeros)
    if packing.kind is Kind.AWQ:
        order = np.argsort(_AWQ_ORDER)
        return _across(words, bits, order), _across(packed_zeros, bits, order)
    whole = _across(np.ascontiguousarray(words.T), bits).T
    zeros = _across(packed_zeros, bits)[:, : matrix.outputs]
    if packing.adds_one:  # as AutoGPTQ reads them: what passes the largest number is 0 again
        zeros = (zeros + np.uint8(1)) & np.uint8((1 << bits) - 1)
    return whole, zeros


def _words(part: Part) -> NDArray[np.uint32]:
    raw = np.concatenate(list(read_raw(*part)))
    return raw.view("<u4").reshape(part.tensor.shape)


def _across(words: NDArray[np.uint32], bits: int, order: NDArray[np.intp] | None = None) -> NDArray[np.uint8]:
    """Split each word of the last axis into its numbers, from the lowest bits upwards."""
    shifts = np.arange(0, 32, bits, dtype=np.uint32)
    if order is not None:
        shifts = shifts[order]
    numbers = np.empty((*words.shape, len(shifts)), np.uint8)
    for place, shift in enumerate(shifts):
        numbers[..., place] = (words >> shift) & np.uint32((1 << bits) - 1)
    return numbers.reshape(*words.shape[:-1], -1)


if __name__ == "__main__":
    main()
