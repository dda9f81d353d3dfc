"""Loss of a built model against its reference on given texts, run by the engine's own runner as a ragged batch.

At each position the logits are compared with the reference: the likeliest token, the KL divergence, and the loss of the
token that really follows. A faster way to compute the same model may lose a little more (docs/decisions/0009).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foundry_lite.catalog.report import TextLoss
from foundry_lite.conversion.evaluate.reference import Passage
from foundry_lite.engine.runners.base import Logits, Runner
from foundry_lite.engine.runners.divergence import divergences, normalizer
from foundry_lite.errors import CheckFailed

_CHUNK = 128  # tokens of a prompt that are computed at once, as the engine's scheduler does
_STEEPEST = 700.0  # nats: a float64 holds no exponential of much more


@dataclass(frozen=True, slots=True)
class Scores:
    """Loss figures, one for each position, texts concatenated. Without a reference, only ``losses`` are meaningful."""

    hits: NDArray[np.bool_]
    divergences: NDArray[np.float64]
    losses: NDArray[np.float64]
    source_losses: NDArray[np.float64]

    def summary(self, *, has_source: bool) -> TextLoss:
        """Return the averages. Raises `CheckFailed` when the model's logits are not finite."""
        if not np.isfinite(self.losses).all():
            bad = int((~np.isfinite(self.losses)).sum())
            raise CheckFailed(
                f"the model gives no numbers at {bad} of {len(self.losses)} positions",
                hint="Its weights or activations do not fit the number format: try int8, bf16 or fp32.",
            )
        known = TextLoss(len(self.losses), _perplexity(self.losses))
        if not has_source:
            return known
        return TextLoss(
            positions=known.positions,
            perplexity=known.perplexity,
            source_perplexity=_perplexity(self.source_losses),
            kl_mean=round(float(self.divergences.mean()), 6),
            kl_p99=round(float(np.percentile(self.divergences, 99)), 6),
            top1=round(float(self.hits.mean()), 6),
        )


def score(
    runner: Runner, passages: Sequence[Passage], *, skips_half: bool = False, prefills: bool = True, rows: int = 0
) -> Scores:
    """Run the passages, at most ``rows`` of them together (0: as many as the runner has slots).

    What lies before the first position that counts is computed at once, as a prompt is, or, without ``prefills``,
    token by token as well. With ``skips_half`` only positions in the second half of each text count.
    """
    size = rows or runner.slots
    usable = [one for one in passages if len(one.tokens) - 1 > one.first]
    done = [_Row(one, _halfway(one) if skips_half else one.first) for one in usable]
    for low in range(0, len(done), size):
        _run(runner, done[low : low + size], prefills=prefills)
    return Scores(
        hits=_join([one.hits for one in done], bool),
        divergences=_join([one.divergences for one in done], float),
        losses=_join([one.losses for one in done], float),
        source_losses=_join([one.passage.losses[one.start - one.passage.first :] for one in done], float),
    )


@dataclass(slots=True)
class _Row:
    """Sequence of one passage while it runs, with its figures; positions from ``start`` on count."""

    passage: Passage
    start: int
    hits: list[bool] = field(default_factory=list)
    divergences: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)

    @property
    def last(self) -> int:
        """The last position that predicts something."""
        return len(self.passage.tokens) - 2


def _halfway(passage: Passage) -> int:
    return max(passage.first, len(passage.tokens) // 2 - 1)


def _run(runner: Runner, rows: Sequence[_Row], *, prefills: bool) -> None:
    """Run rows in the slots 0, 1, …, which are empty, and are so again afterwards."""
    positions = [one.start + 1 if prefills else 0 for one in rows]  # the next token that each of them takes
    for slot, row in enumerate(rows if prefills else ()):
        _note([row], _prefill(runner, slot, row.passage.tokens[: row.start + 1])[None, :], [row.start])
    while slots := [slot for slot, row in enumerate(rows) if positions[slot] <= row.last]:
        logits = runner.decode(slots, [rows[slot].passage.tokens[positions[slot]] for slot in slots])
        counted = [place for place, slot in enumerate(slots) if positions[slot] >= rows[slot].start]
        if counted:
            seen = [slots[place] for place in counted]
            _note([rows[slot] for slot in seen], logits[counted], [positions[slot] for slot in seen])
        for slot in slots:
            positions[slot] += 1
    for slot in range(len(rows)):
        runner.keep(slot, 0)


def _prefill(runner: Runner, slot: int, tokens: list[int]) -> Logits:
    size = _CHUNK if runner.can_extend else len(tokens)
    pieces = [tokens[low : low + size] for low in range(0, len(tokens), size)]
    for piece in pieces[:-1]:
        runner.prefill(slot, piece)
    return runner.prefill(slot, pieces[-1])


def _note(rows: Sequence[_Row], logits: Logits, positions: Sequence[int]) -> None:
    """Compare the logits of one position of each row."""
    follow = np.array([row.passage.tokens[at + 1] for row, at in zip(rows, positions, strict=True)])
    losses = normalizer(logits) - logits[np.arange(len(rows)), follow]
    places = [at - row.passage.first for row, at in zip(rows, positions, strict=True)]
    best = logits.argmax(1)
    for index, row in enumerate(rows):
        row.losses.append(float(losses[index]))
    if not rows[0].passage.ids.size:
        return  # there is no source
    ids = np.stack([row.passage.ids[place] for row, place in zip(rows, places, strict=True)])
    logprobs = np.stack([row.passage.logprobs[place] for row, place in zip(rows, places, strict=True)])
    found = divergences(logits, ids, logprobs)
    for index, row in enumerate(rows):
        row.hits.append(bool(best[index] == ids[index, 0]))
        row.divergences.append(float(found[index]))


def _perplexity(losses: NDArray[np.float64]) -> float:
    return round(float(np.exp(min(float(losses.mean()), _STEEPEST))), 6)


def _join(parts: Sequence[Sequence[float] | NDArray[np.float32]], kind: type) -> NDArray[Any]:
    return np.concatenate([np.asarray(part, kind) for part in parts]) if parts else np.zeros(0, kind)
