"""Integers that a source came with: the scales and zero points of its weights, so that none is rounded twice.

`prepare` writes `grid.safetensors` beside the float weights: for a quantized tensor ``NAME`` (as Hugging Face calls the
weight) ``NAME.scales`` float32 (outputs, blocks), and unless it is symmetric ``NAME.zeros`` uint8 (outputs, blocks);
``bits`` and ``block_size`` stand in the metadata of the file. Every float weight is then exactly
``scale * (q - zero)`` with a whole number ``0 <= q < 2 ** bits``; a symmetric one has the zero ``2 ** (bits - 1)``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

GRID = "grid.safetensors"


@dataclass(frozen=True, slots=True)
class Lattice:
    """The scales of one matrix of a graph: ``scales (outputs, blocks)``, ``zeros`` the same shape or ``None``."""

    bits: int
    block_size: int
    scales: NDArray[np.float32]
    zeros: NDArray[np.uint8] | None


class Grid:
    """All lattices of a source, found by the builder's names of the graph's nodes."""

    def __init__(self, lattices: dict[str, Lattice]) -> None:
        self._lattices = lattices

    def find(self, node: str) -> Lattice | None:
        """Return the lattice of a product such as ``/model/layers.0/attn/qkv_proj/MatMul``; parts are put together."""
        return self._lattices.get(node)


def read_grid(prepared: Path) -> Grid | None:
    """Return the grid of a prepared folder, or ``None`` when it has none."""
    if not (prepared / GRID).is_file():
        return None
    raise NotImplementedError
