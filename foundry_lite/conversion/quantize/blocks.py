"""Float weights to few bits, the two ways that onnxruntime's CPU kernels multiply with.

*Blocks*: each ``block`` weights of a column along the inputs share a scale (``MatMulNBits``); the arithmetic of
`quantize_blocks` is that of onnxruntime's own quantizer, so the bytes are those that its tools write. *Columns*:
8 bits, one scale for each output (``MatMulIntegerToFloat``), small enough for processors whose kernels add two products
in 16 bits (docs/decisions/0024). A weight is ``(inputs, outputs)``, as ``MatMul`` has it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnxruntime.capi._pybind_state import quantize_matmul_4bits, quantize_matmul_8bits

_LARGEST_PAIR = 127  # rounding adds at most 1, and 255 * 128 is the last such product below 2 ** 15
_TINY = np.float32(1e-12)  # instead of a scale of zero, for columns without a weight


@dataclass(frozen=True, slots=True)
class Blocks:
    """``packed (outputs, blocks, bytes)``, ``scales (outputs, blocks)``, and ``zeros`` unless symmetric."""

    packed: NDArray[np.uint8]
    scales: NDArray[np.float32]
    zeros: NDArray[np.uint8] | None


def quantize_blocks(weight: NDArray[np.float32], bits: int, block: int, *, symmetric: bool) -> Blocks:
    """Quantize to 4 or 8 bits; inputs are filled up with zeros to whole blocks."""
    inputs, outputs = weight.shape
    blocks, per_byte = -(-inputs // block), 8 // bits
    if blocks * block > inputs:
        weight = np.pad(weight, ((0, blocks * block - inputs), (0, 0)))
    packed = np.zeros((outputs, blocks, block // per_byte), np.uint8)
    scales = np.zeros((outputs, blocks), np.float32)
    zeros = np.zeros((outputs, -(-blocks // per_byte)), np.uint8)
    run = quantize_matmul_4bits if bits == 4 else quantize_matmul_8bits
    run(packed, weight, scales, zeros, block, outputs, blocks * block, symmetric)
    return Blocks(packed, scales, None if symmetric else zeros)


def pack_blocks(
    numbers: NDArray[np.uint8], scales: NDArray[np.float32], zeros: NDArray[np.uint8] | None, bits: int
) -> Blocks:
    """Put numbers ``(outputs, blocks, block)`` and zero points ``(outputs, blocks)`` into bytes, the first one low."""
    return Blocks(_pack(numbers, bits), scales, None if zeros is None else _pack(zeros, bits))


def restore(blocks: Blocks, bits: int) -> NDArray[np.float32]:
    """Return the weight ``(padded inputs, outputs)`` that the kernels multiply with."""
    outputs, count = blocks.scales.shape
    numbers = _unpack(blocks.packed, bits).astype(np.float32)
    middle: NDArray[Any] = np.full((outputs, count), 1 << (bits - 1), np.float32)
    zeros = middle if blocks.zeros is None else _unpack(blocks.zeros, bits)[:, :count].astype(np.float32)
    weight: NDArray[np.float32] = (numbers - zeros[..., None]) * blocks.scales[..., None]
    return weight.reshape(outputs, -1).T


def quantize_columns(weight: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Return the weight as signed 8-bit integers, of the same shape, and the scale of each output.

    Without VNNI, x86 multiplies unsigned activations by these with ``vpmaddubsw``: the products of the inputs ``2i``
    and ``2i + 1`` are added in 16 bits and saturate. So the magnitudes of two such neighbours add up to at most 128,
    which no pair of activations of up to 255 can overflow: the result is exact on every processor.
    """
    magnitude = np.abs(weight)
    pairs = magnitude[0 : len(weight) // 2 * 2 : 2] + magnitude[1::2]
    alone = magnitude[-1] if len(weight) % 2 else np.zeros(weight.shape[1], np.float32)  # it has no neighbour
    largest = np.maximum(alone, pairs.max(0, initial=0))
    scales = np.maximum(largest / np.float32(_LARGEST_PAIR), _TINY).astype(np.float32)
    return np.rint(weight / scales).astype(np.int8), scales


def _pack(numbers: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    if bits == 8:
        return numbers
    if numbers.shape[-1] % 2:
        numbers = np.concatenate([numbers, np.zeros_like(numbers[..., :1])], -1)
    return np.bitwise_or(numbers[..., ::2], np.left_shift(numbers[..., 1::2], 4, dtype=np.uint8), dtype=np.uint8)


def _unpack(packed: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    if bits == 8:
        return packed
    return np.stack([packed & 15, packed >> 4], -1).reshape(*packed.shape[:-1], -1)
