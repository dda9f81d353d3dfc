"""The search for scales: never worse than round to nearest, and better by figures."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from foundry_lite.conversion.quantize import kquant
from foundry_lite.conversion.quantize.blocks import quantize_blocks, restore
from tests.unit.test_quantize import multiply

BLOCK = 32


def weighted_error(weight: NDArray[np.float32], restored: NDArray[np.float32], block: int) -> float:
    """What the search minimises, over all blocks."""
    total = 0.0
    for start in range(0, len(weight), block):
        rows = slice(start, start + block)
        off = (restored[rows] - weight[rows]).astype(np.float64)
        total += float((kquant.default_importance(weight[rows]) * off * off).sum())
    return total


# Measured: 0.79 to 0.92 for these; the wider a block, the less is left to find.
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize(("block", "most"), [(16, 0.90), (32, 0.93), (128, 0.95), (256, 0.95)])
def test_the_weighted_error_is_clearly_smaller(block: int, most: float, symmetric: bool) -> None:
    weight = np.random.default_rng(1).standard_t(6, (512, 96)).astype(np.float32)
    rounded = quantize_blocks(weight, 4, block, symmetric=symmetric)
    searched = kquant.quantize(weight, 4, block, symmetric=symmetric)
    error, plain = (weighted_error(weight, restore(one, 4), block) for one in (searched, rounded))
    assert error < most * plain


FLOATS = st.floats(-100, 100, width=16)  # below, their squares are no float32


@given(arrays.arrays(np.float32, (BLOCK, 3), elements=FLOATS), st.sampled_from([4, 8]), st.booleans())
def test_no_block_is_worse_than_rounded_to_nearest(weight: NDArray[np.float32], bits: int, symmetric: bool) -> None:
    rounded = restore(quantize_blocks(weight, bits, BLOCK, symmetric=symmetric), bits)
    searched = restore(kquant.quantize(weight, bits, BLOCK, symmetric=symmetric), bits)
    scale = float(np.abs(weight).max()) or 1.0
    for column in range(3):
        one = slice(column, column + 1)
        plain, ours = (weighted_error(weight[:, one], made[:, one], BLOCK) for made in (rounded, searched))
        assert ours <= plain * 1.001 + 1e-5 * scale**3


@pytest.mark.parametrize("symmetric", [True, False])
def test_a_block_of_zeros_stays_zero(symmetric: bool) -> None:
    assert not restore(kquant.quantize(np.zeros((40, 3), np.float32), 4, BLOCK, symmetric=symmetric), 4).any()


@pytest.mark.parametrize("bits", [4, 8])
def test_weights_on_a_lattice_are_found_again(bits: int) -> None:
    random = np.random.default_rng(2)
    numbers = random.integers(0, 1 << bits, (64, 8))
    numbers[::BLOCK], numbers[1::BLOCK] = 0, (1 << bits) - 1  # each block uses its whole range
    weight = ((numbers - 5) * np.float32(0.25)).astype(np.float32)
    assert restore(kquant.quantize(weight, bits, BLOCK, symmetric=False), bits) == pytest.approx(weight, rel=1e-5)


@pytest.mark.parametrize("symmetric", [True, False])
def test_the_kernel_reads_it(symmetric: bool) -> None:
    random = np.random.default_rng(3)
    weight, row = random.standard_normal((80, 24), np.float32), random.standard_normal((1, 80), np.float32)
    made = kquant.quantize(weight, 4, BLOCK, symmetric=symmetric)
    assert multiply(row, made, 4, BLOCK, 80) == pytest.approx(row @ restore(made, 4)[:80], abs=1e-3)
