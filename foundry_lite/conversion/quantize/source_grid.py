"""Integers that a source came with: the scales and zero points of its weights, so that none is rounded twice.

`prepare` writes `grid.safetensors` beside the float weights: for a quantized tensor ``NAME`` (as Hugging Face calls the
weight) ``NAME.scales`` float32 (outputs, blocks), unless it is symmetric ``NAME.zeros`` uint8 (outputs, blocks), and
``NAME.form`` int32: its bits and the size of its blocks. Every float weight is then exactly
``scale * (q - zero)`` with a whole number ``0 <= q < 2 ** bits``; a symmetric one has the zero ``2 ** (bits - 1)``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foundry_lite.conversion.formats.safetensors import Tensor, read_header, read_raw, read_rows, write
from foundry_lite.conversion.lora.targets import FUSED
from foundry_lite.errors import BuildFailed

GRID = "grid.safetensors"

_NODE = re.compile(r"/(?:model/)?(?P<layer>layers\.\d+)/(?P<part>attn|mlp)/(?P<name>\w+_proj)/MatMul")
_MODULE = {"attn": "self_attn", "mlp": "mlp"}
_HEAD, _EMBEDDING = "lm_head.weight", "model.embed_tokens.weight"
_KINDS = {(4, "f"): "F32", (1, "u"): "U8", (4, "i"): "I32"}  # of numpy → of safetensors
_PIECE = 1 << 22  # weights that are packed at a time
_UNUSED = 8  # the upper half of the last byte, as onnxruntime's quantizer leaves it
_EXACT = 1e-6  # of the largest weight of a matrix: what float32 may lose on the way


@dataclass(frozen=True, slots=True)
class Lattice:
    """The scales of one matrix of a graph: ``scales (outputs, blocks)``, ``zeros`` the same shape or ``None``.

    A scale may be negative (GGUF has such), and 0 where a block has no weight.
    """

    bits: int
    block_size: int
    scales: NDArray[np.float32]
    zeros: NDArray[np.uint8] | None

    @property
    def middle(self) -> int:
        """The zero point of a symmetric matrix."""
        return 1 << (self.bits - 1)

    def columns(self, start: int, stop: int) -> Lattice:
        """Return the lattice of some outputs."""
        zeros = None if self.zeros is None else self.zeros[start:stop]
        return Lattice(self.bits, self.block_size, self.scales[start:stop], zeros)


class Grid:
    """All lattices of a source, by the names of its weights; found by the builder's names of the graph's nodes."""

    def __init__(self, lattices: Mapping[str, Lattice]) -> None:
        self._lattices = lattices

    def find(self, node: str) -> Lattice | None:
        """Return the lattice of a product such as ``/model/layers.0/attn/qkv_proj/MatMul``; parts are put together.

        Also that of ``/lm_head/MatMul`` and of the look-up ``/model/embed_tokens/Gather``. ``None`` when the source has
        none for it, or when its parts have different ones.
        """
        for names in _weights_of(node):
            parts = [self._lattices.get(name) for name in names]
            found = [part for part in parts if part is not None]
            if found and len(found) == len(parts):
                return _side_by_side(found)
        return None


def read_grid(prepared: Path) -> Grid | None:
    """Return the grid of a prepared folder, or ``None`` when it has none. Lattices are read on demand."""
    path = prepared / GRID
    return Grid(_Lattices(path)) if path.is_file() else None


def write_grid(prepared: Path, lattices: Mapping[str, Lattice]) -> None:
    """Write `grid.safetensors` for a folder; nothing when there is no lattice."""
    arrays: dict[str, NDArray[Any]] = {}
    for name, one in lattices.items():
        arrays[f"{name}.scales"] = one.scales
        arrays[f"{name}.form"] = np.array([one.bits, one.block_size], np.int32)
        if one.zeros is not None:
            arrays[f"{name}.zeros"] = one.zeros
    if arrays:
        layout = {name: (_KINDS[array.dtype.itemsize, array.dtype.kind], array.shape) for name, array in arrays.items()}
        write(prepared / GRID, layout, {name: [array] for name, array in arrays.items()})


def pack(
    weight: NDArray[np.float32], lattice: Lattice
) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.uint8] | None]:
    """Return a weight ``(inputs, outputs)`` in the layout of ``MatMulNBits``, with the integers that it came with.

    These are ``packed (outputs, blocks, bytes)``, ``scales (outputs, blocks)``, and the packed zero points, or ``None``
    when it is symmetric. Raises `BuildFailed` when a weight does not lie on the lattice: nothing is ever rounded here.
    """
    inputs, outputs = weight.shape
    blocks = lattice.scales.shape[1]
    filled = blocks * lattice.block_size
    if lattice.scales.shape[0] != outputs or not filled - lattice.block_size < inputs <= filled:
        raise BuildFailed(f"a matrix of {inputs} x {outputs} has {lattice.scales.shape} scales from its source")
    packed = np.empty((outputs, blocks, lattice.block_size * lattice.bits // 8), np.uint8)
    step = max(1, _PIECE // filled)
    for start in range(0, outputs, step):
        stop = min(start + step, outputs)
        packed[start:stop] = _pack_rows(weight[:, start:stop].T, lattice.columns(start, stop))
    zeros = None if lattice.zeros is None else _to_bytes(lattice.zeros, lattice.bits)
    return packed, lattice.scales, zeros


def _pack_rows(weights: NDArray[np.float32], lattice: Lattice) -> NDArray[np.uint8]:
    outputs, blocks = lattice.scales.shape
    rows = np.zeros((outputs, blocks * lattice.block_size), np.float32)
    rows[:, : weights.shape[1]] = weights
    rows = rows.reshape(outputs, blocks, lattice.block_size)
    scales = lattice.scales[:, :, None]
    steps = np.divide(rows, scales, out=np.zeros_like(rows), where=scales != 0)
    np.rint(steps, out=steps)
    _require_exact(rows, scales * steps)
    steps += np.float32(lattice.middle) if lattice.zeros is None else lattice.zeros[:, :, None].astype(np.float32)
    if steps.min(initial=0) < 0 or steps.max(initial=0) >= 1 << lattice.bits:
        raise BuildFailed(f"a weight needs more than the {lattice.bits} bits that its source says it has")
    return _to_bytes(steps.astype(np.uint8), lattice.bits)


def _require_exact(weights: NDArray[np.float32], kept: NDArray[np.float32]) -> None:
    np.subtract(kept, weights, out=kept)
    off = float(np.abs(kept, out=kept).max(initial=0))
    most = float(np.abs(weights).max(initial=0))
    if not off <= _EXACT * most:
        raise BuildFailed(f"a weight is {off:.3g} away from the integers that its source came with (largest: {most:g})")


def _to_bytes(whole: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    """Pack 4-bit numbers two to a byte along the last axis, the first in the lower half; 8-bit ones are bytes."""
    if bits == 8:
        return whole
    if whole.shape[-1] % 2:
        whole = np.concatenate([whole, np.full((*whole.shape[:-1], 1), _UNUSED, np.uint8)], -1)
    return np.bitwise_or(whole[..., 0::2], np.left_shift(whole[..., 1::2], 4, dtype=np.uint8), dtype=np.uint8)


def _weights_of(node: str) -> Iterator[list[str]]:
    """Yield the names of the weights that a node may have been made of, in the order of its columns."""
    yield [node]
    if node == "/lm_head/MatMul":
        yield [_HEAD]
        yield [_EMBEDDING]  # a head that is the embedding
    elif node == "/model/embed_tokens/Gather":
        yield [_EMBEDDING]
    elif match := _NODE.fullmatch(node):
        stem = f"model.{match['layer']}.{_MODULE[match['part']]}"
        yield [f"{stem}.{match['name']}.weight"]
        if match["name"] in FUSED:
            yield [f"{stem}.{name}.weight" for name in FUSED[match["name"]]]


def _side_by_side(parts: list[Lattice]) -> Lattice | None:
    first = parts[0]
    if any((one.bits, one.block_size) != (first.bits, first.block_size) for one in parts):
        return None
    if any(one.scales.shape[1] != first.scales.shape[1] for one in parts):
        return None
    scales = np.concatenate([one.scales for one in parts])
    if all(one.zeros is None for one in parts):
        return Lattice(first.bits, first.block_size, scales, None)
    zeros = [np.full(one.scales.shape, one.middle, np.uint8) if one.zeros is None else one.zeros for one in parts]
    return Lattice(first.bits, first.block_size, scales, np.concatenate(zeros))


class _Lattices(Mapping[str, Lattice]):
    """The lattices in a file, each read on demand: in memory they would be an eighth of the weights."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._tensors = read_header(path)

    def __getitem__(self, name: str) -> Lattice:
        scales, form, zeros = (self._tensors.get(f"{name}.{part}") for part in ("scales", "form", "zeros"))
        if scales is None or form is None:
            raise KeyError(name)
        bits, block_size = (int(one) for one in self._read(form).view("<i4"))
        return Lattice(
            bits,
            block_size,
            read_rows(self._path, name, scales),
            None if zeros is None else self._read(zeros).reshape(zeros.shape),
        )

    def __iter__(self) -> Iterator[str]:
        return (name.removesuffix(".form") for name in self._tensors if name.endswith(".form"))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def _read(self, tensor: Tensor) -> NDArray[np.uint8]:
        return np.concatenate(list(read_raw(self._path, tensor)))
