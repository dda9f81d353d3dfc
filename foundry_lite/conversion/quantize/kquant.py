"""Scales and zero points by a search: of several that a block could have, the one whose rounding costs least.

Round to nearest takes a block's scale from its extremes. Here many are tried, wider and narrower; for each, the
numbers that result are held fixed and the scale is put to its best value (weighted least squares), as llama.cpp's
``make_qkx2_quants`` does. Zero points are whole numbers, as the kernels have them, so they are searched and not
solved for. A weight's error counts the more the larger the weight is, or by the importances that the caller gives.

Blocks are columns ``(block size, blocks)`` here. With numbers *d*, weights *x* and importances *w*, the best scale is
``A / B`` and the error that is left ``sum(w x x) - A A / B``, where ``A = sum(w x d)`` and ``B = sum(w d d)``: so the
search compares ``A A / B`` and needs two sums for each try.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from foundry_lite.conversion.quantize.blocks import Blocks, pack_blocks

_AT_ONCE = 1 << 16  # weights: what stays in the processor's cache through a search
_TINY = np.float32(1e-30)

_Floats = NDArray[np.float32]

# How wide the numbers' range is spread over the block's, in numbers more or fewer than there are; the first is round to
# nearest. Beyond the range the extremes are cut off.
_SPREADS = {
    4: (0.0, -1.5, -1.0, -0.5, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 5.0, 6.0),
    8: (0.0, -1.0, 1.0, 2.0, 4.0, 8.0),
}
_ROUNDS = 2  # of rounding again with the scale that was fitted


@dataclass(frozen=True, slots=True)
class Scales:
    """Of each block: ``scale``, and ``zero``, a whole number; both ``(blocks,)``."""

    scale: _Floats
    zero: _Floats


def quantize(weight: _Floats, bits: int, block: int, *, symmetric: bool) -> Blocks:
    """Quantize a weight ``(inputs, outputs)``; inputs are filled up with zeros to whole blocks."""
    inputs, outputs = weight.shape
    blocks = -(-inputs // block)
    numbers = np.empty((outputs, blocks, block), np.uint8)
    scales, zeros = np.empty((outputs, blocks), np.float32), np.empty((outputs, blocks), np.uint8)
    step = max(1, _AT_ONCE // block)
    for at in range(blocks):
        for start in range(0, outputs, step):
            part = slice(start, start + step)
            here = _rows(weight, at, block, part)
            found = search(here, default_importance(here), bits, symmetric=symmetric)
            numbers[part, at] = nearest(here, found, bits).T
            scales[part, at], zeros[part, at] = found.scale, found.zero
    return pack_blocks(numbers, scales, None if symmetric else zeros, bits)


def _rows(weight: _Floats, at: int, block: int, columns: slice) -> _Floats:
    here = weight[at * block : (at + 1) * block, columns]
    return np.pad(here, ((0, block - len(here)), (0, 0))) if len(here) < block else np.ascontiguousarray(here)


def default_importance(weights: _Floats) -> _Floats:
    """Return what an error of each weight counts when nothing is known of the inputs: large ones more."""
    spread = np.sqrt(np.mean(weights * weights, 0))
    importance: _Floats = np.abs(weights) + spread
    return importance


def nearest(weights: _Floats, scales: Scales, bits: int) -> NDArray[np.uint8]:
    """Return the numbers whose weights are nearest."""
    top = np.float32((1 << bits) - 1)
    numbers: NDArray[np.uint8] = np.clip(np.rint(weights * inverse(scales.scale)) + scales.zero, 0, top).astype(
        np.uint8
    )
    return numbers


def search(weights: _Floats, importance: _Floats, bits: int, *, symmetric: bool) -> Scales:
    """Return the best scale and zero point of each block that the search meets; never worse than round to nearest."""
    top = np.float32((1 << bits) - 1)
    low, high = np.minimum(weights.min(0), 0), np.maximum(weights.max(0), 0)
    best = np.full(weights.shape[1], -1, np.float32)
    found = Scales(np.zeros_like(best), np.full_like(best, (top + 1) / 2 if symmetric else 0))
    fit = _Fit(weights, importance, top)
    for steps, zero in _tries(low, high, bits, symmetric):
        _keep_better(found, best, *fit.at(steps, zero), zero)
    for _ in range(_ROUNDS):
        _keep_better(found, best, *fit.at(inverse(found.scale), found.zero), found.zero)
    return found


def _tries(low: _Floats, high: _Floats, bits: int, symmetric: bool) -> list[tuple[_Floats, _Floats]]:
    """Return the inverses of scales, and zero points, to be tried."""
    top = np.float32((1 << bits) - 1)
    if not symmetric:
        width = high - low
        inverses = [inverse(width) * (top + np.float32(more)) for more in _SPREADS[bits]]
        return [(one, np.clip(np.rint(-low * one), 0, top)) for one in inverses]
    middle = np.full_like(low, (top + 1) / 2)
    extreme = np.where(high > -low, high, low)  # it becomes the lowest number: there is one more of those
    inverses = [inverse(extreme) * -(middle + np.float32(more) / 2) for more in _SPREADS[bits]]
    return [(one, middle) for one in inverses]


class _Fit:
    """Rounds some blocks with a scale, and fits the scale to the numbers; its arrays serve every try."""

    def __init__(self, weights: _Floats, importance: _Floats, top: np.float32) -> None:
        self._weights = weights
        self._importance = importance
        self._weighted = weights * importance
        self._top = top
        self._numbers = np.empty_like(weights)
        self._products = np.empty_like(weights)

    def at(self, steps: _Floats, zero: _Floats) -> tuple[_Floats, _Floats]:
        """Return what of the squares the best scale explains, and that scale."""
        numbers, products = self._numbers, self._products
        np.multiply(self._weights, steps, out=numbers)
        np.rint(numbers, out=numbers)
        np.maximum(numbers, -zero, out=numbers)
        np.minimum(numbers, self._top - zero, out=numbers)
        along = np.multiply(self._weighted, numbers, out=products).sum(0)
        np.multiply(numbers, numbers, out=numbers)
        across = np.multiply(self._importance, numbers, out=numbers).sum(0)
        scale = along / np.maximum(across, _TINY)
        return along * scale, scale


def _keep_better(found: Scales, best: _Floats, gain: _Floats, scale: _Floats, zero: _Floats) -> None:
    better = gain > best
    np.copyto(best, gain, where=better)
    np.copyto(found.scale, scale, where=better)
    np.copyto(found.zero, zero, where=better)


def inverse(values: _Floats) -> _Floats:
    """Return ``1 / values``, and 0 for 0."""
    result: _Floats = np.divide(1, values, out=np.zeros_like(values), where=np.abs(values) > _TINY)
    return result
