"""GPTQ: each weight's rounding error is made good by the weights after it, as far as calibration texts show.

What counts is not a weight's error but the product's. With errors ``e`` of one output's weights and
``H = X^T X`` of the inputs, that is ``e^T H e = |C e|^2``, where ``C`` is lower triangular with ``H = C^T C``. Row *j*
of ``C e`` has the errors up to *j* only: so the weights are rounded in order, and each is first moved by what
``sum(C_ji e_i) / C_jj`` of the errors before it asks for. This gives the numbers of GPTQ as it was published
(Frantar et al., 2022), which updates all later weights instead, without an inverse and with one Cholesky decomposition.

A block's scale and zero point are found when it is reached, by `kquant`'s search, over the moved weights.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from foundry_lite.conversion.quantize import kquant
from foundry_lite.conversion.quantize.blocks import Blocks, pack_blocks

_DAMPING = 0.01  # of the mean of the diagonal, added to it: what the texts do not show is taken to be a little of all
_MORE_DAMPING = 10.0  # times, when the matrix is not positive definite in float32
_ATTEMPTS = 6

_Floats = NDArray[np.float32]


class GptqSolver:
    """GPTQ solver: from the Hessian of a matrix's inputs, made once, it quantizes any columns of its outputs."""

    def __init__(self, hessian: _Floats) -> None:
        """Take ``X^T X (inputs, inputs)``, which is changed."""
        root = _lower_root(hessian)
        diagonal = np.diagonal(root).copy()
        self.importance: _Floats = diagonal * diagonal  # what is left of an input's weight, once those after it help
        root /= diagonal[:, None]
        self._moves = root

    def quantize(self, weight: _Floats, bits: int, block: int, *, symmetric: bool) -> Blocks:
        """Quantize some columns ``(inputs, outputs)``; inputs are filled up with zeros to whole blocks."""
        inputs, outputs = weight.shape
        blocks = -(-inputs // block)
        numbers = np.empty((outputs, blocks, block), np.uint8)
        scales, zeros = np.empty((outputs, blocks), np.float32), np.empty((outputs, blocks), np.uint8)
        errors = np.zeros((blocks * block, outputs), np.float32)
        for at in range(blocks):
            rows = slice(at * block, min(inputs, (at + 1) * block))
            pushed = self._moves[rows, : rows.start] @ errors[: rows.start]  # by the errors of the blocks before
            # Where the block's weights would go if none of them were rounded: what its scale has to fit.
            moved = weight[rows] - np.linalg.solve(self._moves[rows, rows], pushed)
            found = self._scales(moved, rows, bits, block, symmetric=symmetric)
            whole = self._round(weight[rows], pushed, found, rows, bits, errors)
            numbers[:, at, : len(whole)] = whole.T
            numbers[:, at, len(whole) :] = found.zero[:, None]
            scales[:, at], zeros[:, at] = found.scale, found.zero
        return pack_blocks(numbers, scales, None if symmetric else zeros, bits)

    def _scales(self, moved: _Floats, rows: slice, bits: int, block: int, *, symmetric: bool) -> kquant.Scales:
        count = np.broadcast_to(self.importance[rows, None], moved.shape)
        if len(moved) < block:
            fill = ((0, block - len(moved)), (0, 0))
            moved, count = np.pad(moved, fill), np.pad(count, fill)
        return kquant.search(moved, count, bits, symmetric=symmetric)

    def _round(
        self, weight: _Floats, pushed: _Floats, found: kquant.Scales, rows: slice, bits: int, errors: _Floats
    ) -> NDArray[np.uint8]:
        """Round the rows of one block, in order; fill in their errors."""
        numbers = np.empty(weight.shape, np.uint8)
        inverse, top = kquant.inverse(found.scale), np.float32((1 << bits) - 1)
        for row in range(len(weight)):
            at = rows.start + row
            target = weight[row] - pushed[row]
            if row:
                target -= self._moves[at, rows.start : at] @ errors[rows.start : at]
            whole = np.clip(np.rint(target * inverse) + found.zero, 0, top)
            errors[at] = (whole - found.zero) * found.scale - weight[row]
            numbers[row] = whole
        return numbers


def _lower_root(hessian: _Floats) -> _Floats:
    """Return lower triangular ``C`` with ``hessian = C^T C``, damped as little as makes that possible."""
    diagonal = np.einsum("ii->i", hessian)
    diagonal[diagonal == 0] = 1.0  # an input that is always zero: any weight will do
    damping = _DAMPING * float(diagonal.mean())
    for _ in range(_ATTEMPTS):
        diagonal += damping
        try:
            root: _Floats = np.linalg.cholesky(hessian[::-1, ::-1]).T[::-1, ::-1]
        except np.linalg.LinAlgError:
            damping *= _MORE_DAMPING
        else:
            return np.ascontiguousarray(root)
    return np.diag(np.sqrt(diagonal))  # the errors of one weight then move no other: round to nearest
