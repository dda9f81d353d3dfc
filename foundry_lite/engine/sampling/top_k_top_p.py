"""Draws from large rows of logits without sorting them: what cannot be drawn is put aside first.

All filters keep a prefix of one order: higher logit first, lower id among equals. So only the length of the prefix is
to be found, and every cut below it is safe. Sums over the whole row are made in float32 by columns (`COLUMN` tokens a
whole vocabulary apart, which is one addition of long arrays) and then in float64; what lies near a cut is summed in
float64. Each row is computed by itself, or by operations that treat a row the same whatever stands beside it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from foundry_lite.engine.runners.base import Logits

Ids: TypeAlias = NDArray[np.intp]
Floats: TypeAlias = NDArray[np.floating[Any]]

COLUMN = 64  # tokens a column; adding so few in float32 costs a relative 1e-6 at worst
_EXPLICIT = 4096  # this many candidates are sorted sooner than summed over the row in two parts
_FEW = 512  # candidates that are sorted at once
_DEPTH = 18.0  # e to the minus 18, for each of 150,000 tokens: 0.2 % of the best token's weight
_STRIDE = 48  # one token in so many is sampled to find where a cut by mass will lie
_SIGMAS = 3.5  # how unlikely it is that the sample misleads; then the whole row is sorted
SAFE = (-40.0, 60.0)  # exponents of the best token for which float32 neither overflows nor loses what matters


class Filters(NamedTuple):
    """Sampling filters: ``temperature`` is above 0; 0 keeps all tokens for ``top_k`` and ``min_p``, 1 for ``top_p``."""

    temperature: float
    top_k: int
    top_p: float
    min_p: float


class Cut(NamedTuple):
    """A cut: the two logits between which a share of the mass ends.

    ``heaviest`` is what no token of those between weighs more than, ``kept`` about how many tokens are above ``low``.
    """

    low: float
    high: float
    heaviest: float
    kept: float


class Scratch:
    """Memory for the weights of one row, used by one row after the other."""

    def __init__(self, vocabulary: int) -> None:
        self.vocabulary = vocabulary

    def exponentials(self, logits: Logits, scale: float = 1.0, offset: float = 0.0) -> NDArray[np.float32]:
        """Return exp((logits - offset) * scale), filled up with zeros to whole columns; the next call overwrites it."""
        weights = self._weights[: self.vocabulary]
        if offset:
            logits = np.subtract(logits, np.float32(offset), out=weights)
        if scale != 1.0:
            logits = np.multiply(logits, np.float32(scale), out=weights)
        np.exp(logits, out=weights)
        return self._weights

    def above(self, logits: Logits, bound: float) -> NDArray[np.float32]:
        """Return the last exponentials, but 0 where the logits do not exceed ``bound``; the next call overwrites it."""
        np.greater(logits, np.float32(bound), out=self._above[: self.vocabulary])
        return np.multiply(self._above, self._weights, out=self._above)

    @cached_property
    def _weights(self) -> NDArray[np.float32]:
        return np.zeros(-(-self.vocabulary // COLUMN) * COLUMN, np.float32)

    @cached_property
    def _above(self) -> NDArray[np.float32]:
        return np.zeros_like(self._weights)


def candidates(logits: Logits, count: int) -> Ids:
    """Return the ids, in their order, of the ``count`` best and of what is as good as the last of them, or a few more.

    What is minus infinity is no candidate.
    """
    bound = max(_reached_by(logits, count), float(np.finfo(np.float32).min))
    return np.flatnonzero(logits >= np.float32(bound))


def _reached_by(logits: Logits, count: int) -> float:
    """Return a value that at least ``count`` of the logits reach, and not many more do."""
    columns = max(1024, 4 * count)
    length = len(logits) // columns
    if length < 2:
        return float(np.partition(logits, -count)[-count]) if count < len(logits) else -math.inf
    best = logits[: length * columns].reshape(length, columns).max(axis=0)  # of each column; so many reach the bound
    return float(np.partition(best, -count)[-count])


def pick_sorted(
    logits: Floats, filters: Sequence[Filters], uniforms: Sequence[float], totals: Sequence[float] | None = None
) -> list[int]:
    """Draw from each row of ``(rows, tokens)``; return columns.

    ``totals`` is the mass, relative to the row's best token, that ``top_p`` is a share of, where the row is not all.
    """
    temperature, top_k, top_p, min_p = np.array(filters, np.float64).T[:, :, None]
    ordered = np.sort(logits, axis=1)[:, ::-1]
    weights = np.exp(np.subtract(ordered, ordered[:, :1], dtype=np.float64) / temperature)
    mass = np.cumsum(weights, axis=1)
    rows, size = np.arange(len(mass)), mass.shape[1]
    kept = np.where(top_k > 0, np.minimum(top_k, size), size)[:, 0].astype(np.intp)
    total = mass[rows, kept - 1] if totals is None else np.array(totals)
    kept = np.minimum(kept, np.count_nonzero(mass < top_p * total[:, None], axis=1) + 1)  # reaching it belongs to it
    if min_p.any():
        kept = np.minimum(kept, np.count_nonzero(weights >= min_p, axis=1))
    target = np.array(uniforms) * mass[rows, kept - 1]
    places = np.minimum(np.count_nonzero(mass <= target[:, None], axis=1), kept - 1)
    values = ordered[rows, places]
    ranks = places - np.count_nonzero(ordered > values[:, None], axis=1)  # among equals, the lower column comes first
    return [int(np.flatnonzero(row == value)[rank]) for row, value, rank in zip(logits, values, ranks, strict=True)]


def pick(logits: Logits, best: int, filters: Filters, uniform: float, scratch: Scratch) -> int:
    """Draw a token from one large row ``(vocabulary,)``; its ``best`` token is known, and its logit is finite."""
    temperature, top_k, top_p, min_p = filters
    highest = float(logits[best])
    if 0 < top_k < len(logits):
        return _pick_of(candidates(logits, top_k), logits, filters, uniform)
    if min_p > 0.0:
        cut = highest + temperature * math.log(min_p)
        ids = np.flatnonzero(logits >= np.float32(cut - 1e-5 * (1.0 + abs(cut))))  # a few more do not matter
        total = None if top_p >= 1.0 else _Row(logits, highest, temperature, scratch).relative
        return _pick_of(ids, logits, filters, uniform, total)
    if top_p < 1.0 and (token := _pick_peaked(logits, highest, filters, uniform)) is not None:
        return token
    row = _Row(logits, highest, temperature, scratch)
    if top_p >= 1.0:
        return row.all.pick_at(uniform * row.all.total)
    return _pick_top_p(row, filters, uniform)


def _pick_peaked(logits: Logits, highest: float, filters: Filters, uniform: float) -> int | None:
    """Draw where few tokens have nearly all the mass, without weighing the others; ``None`` where that is not so.

    What lies `_DEPTH` temperatures below the best weighs at most ``rest`` together. The more the whole weighs, the more
    tokens are kept; so if nothing and all of it lead to the same token, so does what it really weighs.
    """
    is_near = logits > np.float32(highest - _DEPTH * filters.temperature)
    if not 0 < np.count_nonzero(is_near) <= _FEW:
        return None
    ids = np.flatnonzero(is_near)
    near = logits[ids]
    mass = float(np.exp((near.astype(np.float64) - highest) / filters.temperature).sum())
    rest = (len(logits) - len(ids)) * math.exp(-_DEPTH) * (1.0 + 1e-3)  # the bound is rounded
    if filters.top_p * (mass + rest) > mass:
        return None
    first, second = pick_sorted(np.stack([near, near]), [filters] * 2, [uniform] * 2, [mass, mass + rest])
    return int(ids[first]) if first == second else None


def _pick_of(ids: Ids, logits: Logits, filters: Filters, uniform: float, total: float | None = None) -> int:
    (place,) = pick_sorted(logits[ids][None], [filters], [uniform], None if total is None else [total])
    return int(ids[place])


def _pick_top_p(row: _Row, filters: Filters, uniform: float) -> int:
    needed = filters.top_p * row.all.total
    cut = row.cut_near(row.all.total - needed)
    token = None
    if cut.kept > _EXPLICIT:
        token = _pick_in_parts(row, cut, needed, uniform)
    else:
        ids = np.flatnonzero(row.logits > np.float32(cut.low))
        if float(row.all.weights[ids].sum(dtype=np.float64)) >= needed:
            return _pick_of(ids, row.logits, filters, uniform, row.relative)
    if token is None:  # the sample misled
        (token,) = pick_sorted(row.logits[None], [filters], [uniform])
    return token


def _pick_in_parts(row: _Row, cut: Cut, needed: float, uniform: float) -> int | None:
    """Draw from all tokens above the cut and, after them, as many of those in it as reach the mass needed.

    Return ``None`` when the last token to be kept is not in the cut.
    """
    inner = row.above(cut.high)
    if inner.total >= needed:
        return None
    # What is kept weighs what is needed or up to one token more. Mostly the draw is the same for both: done.
    most = uniform * (needed + cut.heaviest)
    if most < inner.total:
        token = inner.pick_at(most)
        if inner.pick_at(uniform * needed) == token:
            return token
    edge = np.flatnonzero((row.logits > np.float32(cut.low)) & (row.logits <= np.float32(cut.high)))
    values = row.logits[edge]
    ordered = np.sort(values)[::-1]
    mass = inner.total + np.cumsum(row.weigh(ordered))
    if not len(mass) or mass[-1] < needed:
        return None
    kept = int(np.searchsorted(mass, needed)) + 1
    target = uniform * float(mass[kept - 1])
    if target < inner.total:
        return inner.pick_at(target)
    place = min(int(np.searchsorted(mass, target, side="right")), kept - 1)
    return int(edge[_at_place(values, ordered, place)])


class _Columns:
    """Weights and their sums; a column is what stands a ``COLUMN``th of the row apart."""

    def __init__(self, weights: NDArray[np.float32]) -> None:
        self.weights = weights
        self._sums = weights.reshape(COLUMN, -1).sum(axis=0)
        self.total = float(self._sums.sum(dtype=np.float64))

    def pick_at(self, target: float) -> int:
        """Return the token at which the running sum, column after column, exceeds ``target``."""
        sums = np.cumsum(self._sums, dtype=np.float64)
        column = _exceeding(sums, target)
        before = float(sums[column - 1]) if column else 0.0
        inside = np.cumsum(self.weights.reshape(COLUMN, -1)[:, column], dtype=np.float64)
        return _exceeding(inside, target - before) * len(sums) + column


class _Row:
    """A row of logits and its weights, exp((logits - offset) / temperature)."""

    def __init__(self, logits: Logits, best: float, temperature: float, scratch: Scratch) -> None:
        self.logits = logits
        self._scratch = scratch
        self._scale = min(1.0 / temperature, 1e30)
        self._offset = 0.0 if SAFE[0] < best * self._scale < SAFE[1] else best
        self.all = _Columns(scratch.exponentials(logits, self._scale, self._offset))
        self.relative = self.all.total * math.exp((self._offset - best) * self._scale)  # to the weight of the best

    def above(self, bound: float) -> _Columns:
        """Return the weights of the tokens above ``bound`` alone."""
        return _Columns(self._scratch.above(self.logits, bound))

    def weigh(self, logits: Logits) -> NDArray[np.float64]:
        """Return the weights of some logits in float64."""
        return np.exp((logits.astype(np.float64) - self._offset) * self._scale)

    def cut_near(self, tail: float) -> Cut:
        """Return the cut where the tokens end that weigh ``tail`` together, counted from the lowest.

        This is an estimate from a sample of the row, which estimates small weights best: there are many of them.
        """
        sample = np.sort(self.logits[::_STRIDE])
        share = len(self.logits) / len(sample)
        weights = self.weigh(sample)
        mass = np.cumsum(weights)
        noise = _SIGMAS * share * np.sqrt(weights * mass)  # at least the root of the sum of squares
        mass *= share
        too_many = min(int(np.searchsorted(mass + noise, tail, side="right")), len(sample) - 1)
        low = int(np.searchsorted(sample, sample[too_many]))  # whatever equals there are, all are above the cut
        enough = mass - noise >= tail
        high = int(enough.argmax())
        return Cut(
            low=float(sample[low - 1]) if low else -math.inf,
            high=float(sample[high]) if enough[high] else math.inf,
            heaviest=float(weights[high]) * (1.0 + 1e-5) if enough[high] else math.inf,
            kept=(len(sample) - low) * share,
        )


def _exceeding(mass: NDArray[np.float64], target: float) -> int:
    """Return the first index where the running sum exceeds ``target``; rounding may ask beyond the last that counts."""
    place = int(np.searchsorted(mass, target, side="right"))
    return place if place < len(mass) else int(np.searchsorted(mass, mass[-1]))


def _at_place(logits: Floats, ordered: Floats, place: int) -> int:
    """Return the index of what stands at ``place`` of the order; among equals, the lower index comes first."""
    value = ordered[place]
    better = int(np.count_nonzero(ordered[:place] > value))
    return int(np.flatnonzero(logits == value)[place - better])
