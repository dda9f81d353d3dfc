"""Quantization algorithms for a matrix, behind one interface: `Rounding.form`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from foundry_lite.catalog.recipe import Algorithm, Recipe
from foundry_lite.conversion.quantize import kquant
from foundry_lite.conversion.quantize.activations import Walk
from foundry_lite.conversion.quantize.blocks import Blocks, quantize_blocks
from foundry_lite.conversion.quantize.gptq import GptqSolver
from foundry_lite.conversion.quantize.source_grid import Grid, Lattice, pack

_Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Form:
    """Quantization format of one matrix; ``run(weight, first)`` quantizes columns, numbered from ``first`` on."""

    bits: int
    block: int
    run: Callable[[_Floats, int], Blocks]


class Rounding(Protocol):
    """Chooses a quantization format for each matrix, called in the order of the graph."""

    def form(self, node: str, given: str, bits: int) -> Form:
        """Return the format of the matrix of ``node``, which multiplies ``given``; that is empty for an embedding."""


class Nearest:
    """Round to nearest, or the search for the best scales."""

    def __init__(self, recipe: Recipe) -> None:
        self._block = recipe.block_size or 32
        self._symmetric = recipe.symmetric
        self._quantize = quantize_blocks if recipe.algorithm is not Algorithm.K_QUANT else kquant.quantize

    def form(self, node: str, given: str, bits: int) -> Form:
        return Form(bits, self._block, lambda weight, _: self._round(weight, bits))

    def _round(self, weight: _Floats, bits: int) -> Blocks:
        return self._quantize(weight, bits, self._block, symmetric=self._symmetric)


class Kept:
    """The source's own integers where it has them; the rest is rounded to nearest."""

    def __init__(self, recipe: Recipe, grid: Grid) -> None:
        self._grid = grid
        self._rest = Nearest(recipe)

    def form(self, node: str, given: str, bits: int) -> Form:
        lattice = self._grid.find(node)
        if lattice is None:
            return self._rest.form(node, given, bits)
        return Form(lattice.bits, lattice.block_size, lambda weight, first: _keep(weight, first, lattice))


def _keep(weight: _Floats, first: int, lattice: Lattice) -> Blocks:
    return Blocks(*pack(weight, lattice.columns(first, first + weight.shape[1])))


class Calibrated:
    """GPTQ, with what ``hessians`` finds; an embedding of its own, which multiplies nothing, is searched for."""

    def __init__(self, recipe: Recipe, hessians: Hessians) -> None:
        self._block = recipe.block_size or 32
        self._symmetric = recipe.symmetric
        self._hessians = hessians
        self._last: tuple[str, GptqSolver] | None = None  # matrices beside each other multiply the same

    def form(self, node: str, given: str, bits: int) -> Form:
        if not given:
            return Form(bits, self._block, lambda weight, _: self._search(weight, bits))
        if self._last is None or self._last[0] != given:
            self._last = None  # two of them would be in memory
            self._last = given, GptqSolver(self._hessians.take(given))
        propagation = self._last[1]
        return Form(
            bits,
            self._block,
            lambda weight, _: propagation.quantize(weight, bits, self._block, symmetric=self._symmetric),
        )

    def _search(self, weight: _Floats, bits: int) -> Blocks:
        return kquant.quantize(weight, bits, self._block, symmetric=self._symmetric)


class Hessians:
    """``X^T X`` of the values that a walk meets, handed out in the order of the graph and then forgotten."""

    def __init__(self, make_walk: Callable[[Sequence[str]], Walk], names: Sequence[str]) -> None:
        self._sums: dict[str, _Floats] = {}
        self._complete: set[str] = set()
        self._steps: Iterator[set[str]] = make_walk(names).run(self._add)

    def take(self, name: str) -> _Floats:
        """Return the sum for a value over all texts and tokens, ``(width, width)``; it is the caller's then."""
        while name not in self._complete:
            self._complete |= next(self._steps)
        return self._sums.pop(name)

    def _add(self, name: str, value: NDArray[Any]) -> None:
        rows = value.reshape(-1, value.shape[-1]).astype(np.float32, copy=False)
        if name in self._sums:
            self._sums[name] += rows.T @ rows
        else:
            self._sums[name] = rows.T @ rows
