"""Logits to tokens: greedy, or drawn from what bias, penalties, grammar, temperature, top-k, top-p and min-p leave.

The order is OpenAI's and vLLM's: bias, penalties, forbidden tokens, temperature, top-k, top-p over what is left, min-p.
One uniform number is drawn a token, from a generator of the answer's own, and a row's token depends on nothing but its
logits, its chooser and its mask: a seed gives the same draws whoever else is being served.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from foundry_lite.engine.runners.base import Logits
from foundry_lite.engine.sampling.logprobs import likeliest, log_normaliser, logprobs_of
from foundry_lite.engine.sampling.penalties import Penalties, apply_mask, forbid
from foundry_lite.engine.sampling.top_k_top_p import Filters, Scratch, pick, pick_sorted
from foundry_lite.generation import Sampling

_SORTED = 4096  # vocabularies up to here are sorted, all rows at once


class Choice(NamedTuple):
    """A chosen token; where asked for, its logprob and the likeliest tokens with theirs, of the logits as they came."""

    token: int
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()


class SequenceSampler:
    """Sampler of one sequence, and what its choices depend on: random numbers, and the tokens so far.

    ``sampling`` has its temperature, top_p and top_k; without a seed the draws are random. ``choice`` tells the answers
    to one request apart. The ``prompt`` counts for the repetition penalty alone.
    """

    __slots__ = ("_allowed_end", "_filters", "_made", "_penalties", "_random", "eos_ids", "is_plain", "top_logprobs")

    def __init__(
        self,
        sampling: Sampling,
        *,
        prompt: Sequence[int] = (),
        eos_ids: frozenset[int] = frozenset(),
        choice: int = 0,
        top_logprobs: int | None = None,
    ) -> None:
        assert sampling.temperature is not None and sampling.top_p is not None and sampling.top_k is not None
        self._filters = Filters(sampling.temperature, sampling.top_k, sampling.top_p, sampling.min_p or 0.0)
        seed = secrets.randbits(64) if sampling.seed is None else sampling.seed % 2**64
        self._random = np.random.Generator(np.random.Philox(key=np.array([seed, choice], np.uint64)))
        self._penalties = Penalties(sampling, prompt)
        self._made = 0
        self._allowed_end = (sampling.min_tokens or 0) if eos_ids else 0  # tokens before an end of turn
        self.eos_ids = eos_ids
        self.top_logprobs = top_logprobs
        self.is_plain = self._has_nothing_to_apply()

    @property
    def is_greedy(self) -> bool:
        return 0.0 in (self._filters.temperature, self._filters.top_p)

    @property
    def filters(self) -> Filters:
        return self._filters

    def uniform(self) -> float:
        """Draw the random number of the next token, at least 0 and below 1."""
        return self._random.random()

    def adjust(self, logits: Logits, mask: NDArray[np.int32] | None) -> Logits:
        """Return the logits with bias, penalties and forbidden tokens; the same array when there is nothing to do."""
        ends_too_early = self._made < self._allowed_end
        if self._penalties.is_idle and not ends_too_early and mask is None:
            return logits
        adjusted = logits.copy()
        self._penalties.apply(adjusted)
        if ends_too_early:
            forbid(adjusted, self.eos_ids)
        if mask is not None:
            apply_mask(adjusted, mask)
        return adjusted

    def note(self, token: int) -> None:
        """Take the token into account that was chosen."""
        self._made += 1
        self._penalties.note(token)
        if self._made == self._allowed_end:
            self.is_plain = self._has_nothing_to_apply()

    def _has_nothing_to_apply(self) -> bool:
        """Return whether the highest logit is the next token, and nothing else of it is wanted."""
        needs_more = self.top_logprobs is not None or self._made < self._allowed_end
        return self.is_greedy and self._penalties.is_idle and not needs_more


class _Row(NamedTuple):
    """A row of logits on its way: as they came (finite or impossible), as they are chosen from, and the choice."""

    raw: Logits
    raw_best: float  # the highest of them
    adjusted: Logits
    best: int  # the token with the highest of those
    is_settled: bool  # the best is the choice


def choose(
    logits: Logits, choosers: Sequence[SequenceSampler], masks: Sequence[NDArray[np.int32] | None] | None = None
) -> list[Choice]:
    """Choose one token for each row of logits ``(rows, vocabulary)``, which stay as they are, and note it.

    A mask allows token 32 w + i by bit i of its word w; ``None`` allows all. A row of which nothing is a finite number
    or allowed ends the sequence where it can. Among equals, the lowest id comes first.
    """
    best: list[int] = logits.argmax(axis=-1).tolist()
    unmasked = masks is None or all(mask is None for mask in masks)
    if unmasked and all(chooser.is_plain for chooser in choosers) and _all_finite(logits, best):
        return [Choice(token) for token in best]
    with np.errstate(all="ignore"):  # what is too large becomes infinite, and is dealt with
        each = zip(np.ascontiguousarray(logits, np.float32), best, choosers, masks or [None] * len(best), strict=True)
        rows = [_settle(*row) for row in each]
        return _choices(rows, choosers)


def _all_finite(logits: Logits, best: list[int]) -> bool:
    return all(math.isfinite(row[token]) for row, token in zip(logits, best, strict=True))


def _settle(raw: Logits, best: int, chooser: SequenceSampler, mask: NDArray[np.int32] | None) -> _Row:
    """Apply all that comes before drawing; choose at once where there is no need to draw."""
    is_broken = not math.isfinite(raw[best])
    if is_broken:
        raw = _finite(raw)
        best = int(raw.argmax())
    raw_best = float(raw[best])
    adjusted = chooser.adjust(raw, mask)
    if adjusted is not raw:
        best = int(adjusted.argmax())
    if is_broken or not math.isfinite(adjusted[best]):
        return _Row(raw, raw_best, adjusted, _rescue(raw, adjusted, chooser.eos_ids), is_settled=True)
    return _Row(raw, raw_best, adjusted, best, is_settled=chooser.is_greedy)


def _finite(logits: Logits) -> Logits:
    """Return the logits with everything that is no finite number made impossible."""
    return np.where(np.isfinite(logits), logits, np.float32(-np.inf))


def _rescue(raw: Logits, adjusted: Logits, eos_ids: Iterable[int]) -> int:
    """Choose where there is nothing to draw from: one broken row must not cost the others their worker."""
    adjusted = _finite(adjusted)
    best = int(adjusted.argmax())
    if math.isfinite(adjusted[best]):
        return best
    ends = sorted(token for token in eos_ids if 0 <= token < len(raw))
    return max(ends, key=raw.__getitem__) if ends else int(raw.argmax())


def _choices(rows: list[_Row], choosers: Sequence[SequenceSampler]) -> list[Choice]:
    scratch = Scratch(len(rows[0].raw))
    drawn = iter(_draw(rows, choosers, scratch))
    choices = []
    for row, chooser in zip(rows, choosers, strict=True):
        token = row.best if row.is_settled else next(drawn)
        chooser.note(token)
        choices.append(Choice(token, *_told(token, row, chooser.top_logprobs, scratch)))
    return choices


def _draw(rows: list[_Row], choosers: Sequence[SequenceSampler], scratch: Scratch) -> list[int]:
    """Draw the tokens of the rows that have none yet. Every row that is not greedy spends its random number."""
    uniforms = [0.0 if chooser.is_greedy else chooser.uniform() for chooser in choosers]
    each = zip(rows, choosers, uniforms, strict=True)
    draws = [(row.adjusted, row.best, chooser.filters, uniform) for row, chooser, uniform in each if not row.is_settled]
    if draws and scratch.vocabulary <= _SORTED:
        logits, _, filters, numbers = zip(*draws, strict=True)
        return pick_sorted(np.stack(logits), filters, numbers)
    return [pick(*draw, scratch) for draw in draws]


def _told(
    token: int, row: _Row, wanted: int | None, scratch: Scratch
) -> tuple[float | None, tuple[tuple[int, float], ...]]:
    if wanted is None:
        return None, ()
    best = likeliest(row.raw, wanted)
    normaliser = log_normaliser(row.raw, row.raw_best, scratch)
    chosen, *others = logprobs_of(row.raw, [token, *best], normaliser)
    return chosen, tuple(zip(best, others, strict=True))
