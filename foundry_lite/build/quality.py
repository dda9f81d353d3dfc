"""Is the converted model still the source, and what did it lose? Loads it as the engine will, and asks transformers.

Some families convert wrongly without an error, so every import passes here before it is committed. The texts are run
through the engine's own decode path, all of them as rows of one ragged batch, one token a step. The losses decide
between candidates (docs/decisions/0009).
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from foundry_lite.build.export import run_python
from foundry_lite.catalog.recipe import Precision
from foundry_lite.devices import usable_cores
from foundry_lite.engine.ort_runner import OrtRunner
from foundry_lite.engine.text import TextModel
from foundry_lite.errors import CheckFailed
from foundry_lite.store.manifest import Check

TOP1 = "top1_agreement"
KL = "kl_mean"

# Bounds of the share of positions at which the most likely next token is the source's, and of the divergence. They
# refuse what is broken, not what is merely bad: on random weights, which have near-ties everywhere, int4 kept 0 % to
# 99 % and up to 3.7 nats, int8 88 % to 100 % and 0.03 nats (measured on seven models of 0.2 to 500 M parameters), while
# a broken graph agrees almost nowhere.
LEAST_TOP1 = {Precision.FP32: 0.99, Precision.INT8: 0.50, Precision.INT4: 0.02}
MOST_KL = {Precision.FP32: 0.01, Precision.INT8: 1.0, Precision.INT4: 10.0}
WORTH_A_WARNING = 0.90

# A faster way to compute the same model may lose this much more than the slower one, on average: the second figure is
# in nats, and half a percent of the perplexity on the source's own text (docs/decisions/0009).
TOLERATED_RATIO = 1.5
TOLERATED_MORE = 0.005

_SAMPLE = Path(__file__).with_name("sample.txt")
_LONGEST = 128  # tokens of each text that are compared
_NOTHING = 1e-6  # of the mass: what float32 logarithms of a whole vocabulary may be off


@dataclass(frozen=True, slots=True)
class Reference:
    """What the source says of one text: see `reference`."""

    text: str
    tokens: list[int]
    ids: NDArray[np.int64]
    logprobs: NDArray[np.float32]

    @property
    def length(self) -> int:
        """Positions that are compared."""
        return len(self.ids)


@dataclass(frozen=True, slots=True)
class Loss:
    """What a build loses. ``kl`` is in nats: the mean over positions of the divergence from the source."""

    top1: float
    kl: float
    positions: int

    def __str__(self) -> str:
        return f"{TOP1} {self.top1:.1%}, {KL} {self.kl:.4f} of {self.positions}"


@dataclass(frozen=True, slots=True)
class Scores:
    """For each text and position: whether the best token is the source's, and the divergence in nats."""

    hits: list[NDArray[np.bool_]]
    kl: list[NDArray[np.float64]]

    def loss(self, *, after_prompt: bool = False) -> Loss:
        """Average over all positions, or over those from the last one of each text's `prompt_length` on."""
        starts = [prompt_length(len(one)) - 1 if after_prompt else 0 for one in self.kl]
        hits = np.concatenate([one[start:] for one, start in zip(self.hits, starts, strict=True)])
        kl = np.concatenate([one[start:] for one, start in zip(self.kl, starts, strict=True)])
        return Loss(float(hits.mean()), float(kl.mean()), len(kl))


def prompt_length(length: int) -> int:
    """Return how much of a text of ``length`` tokens is its prompt, when prompts are computed apart: half of it."""
    return max(1, length // 2)


async def ask_source(source: Path, scratch: Path) -> tuple[Reference, ...]:
    """Have transformers compute, in float32, what the source says of the sample."""
    texts = [text.strip() for text in _SAMPLE.read_text(encoding="utf-8").split("\n---\n")]
    sample, out = scratch / "sample.json", scratch / "reference.npz"
    sample.write_text(json.dumps({"texts": texts, "longest": _LONGEST}), encoding="utf-8")
    await run_python(["-m", "foundry_lite.build.reference", str(source), str(sample), str(out)], scratch, "reference")
    with np.load(out) as arrays:
        return tuple(
            Reference(text, arrays[f"tokens_{i}"].tolist(), arrays[f"ids_{i}"], arrays[f"logprobs_{i}"])
            for i, text in enumerate(texts)
        )


async def score(built: Path, references: tuple[Reference, ...], *, prefills: bool = False) -> Scores:
    """Run the sample through a built model, token by token; with ``prefills``, the prompts at once.

    Raises `CheckFailed` when its tokenizer is not the source's.
    """
    return await asyncio.to_thread(_score, built, references, prefills)


def check_fidelity(loss: Loss, precision: Precision) -> tuple[Check, ...]:
    """Return what is recorded of an installed model. Raises `CheckFailed` when it is not the source's any more."""
    least, most = LEAST_TOP1[precision], MOST_KL[precision]
    if not is_sound(loss, precision):
        raise CheckFailed(
            f"the converted model predicts the source's next token at {loss.top1:.1%} of {loss.positions} positions "
            f"and diverges by {loss.kl:.3g} nats, where {least:.0%} and {most:g} are needed: the conversion went wrong",
            hint="Try --precision fp32 to see whether it is the quantization, and report the model's family.",
        )
    return _checks(loss, least, most)


def is_sound(loss: Loss, precision: Precision) -> bool:
    """Say whether the loss is within what quantization can explain."""
    return loss.top1 >= LEAST_TOP1[precision] and loss.kl <= MOST_KL[precision]


def check_companion(with_it: Loss, without: Loss) -> tuple[Check, ...]:
    """Return what is recorded of a companion graph. Raises `CheckFailed` when the model loses too much with it."""
    if not is_tolerable(with_it, without):
        raise CheckFailed(
            f"with prompts computed in 8 bits the model loses too much: {with_it}; without, {without}",
            hint="Import it without --fast-prefill.",
        )
    return _checks(with_it, 0.0, _tolerated(without), ".fast_prefill")


def is_tolerable(faster: Loss, slower: Loss) -> bool:
    """Say whether the faster way loses so little more than the slower one that its speed is worth it."""
    return faster.kl <= _tolerated(slower)


def _tolerated(slower: Loss) -> float:
    return TOLERATED_RATIO * slower.kl + TOLERATED_MORE


def _checks(loss: Loss, least: float, most: float, suffix: str = "") -> tuple[Check, ...]:
    return (
        Check(TOP1 + suffix, round(loss.top1, 4), least, loss.positions),
        Check(KL + suffix, round(loss.kl, 6), round(most, 6), loss.positions),
    )


def _score(built: Path, references: tuple[Reference, ...], prefills: bool) -> Scores:
    _compare_tokenizers(TextModel(built), references)
    capacity = max(one.length for one in references) + 1
    runner = OrtRunner(built, threads=usable_cores(), slots=len(references), context_length=capacity)
    lengths = [one.length for one in references]
    scores = Scores([np.zeros(n, bool) for n in lengths], [np.zeros(n) for n in lengths])
    starts = [0 for _ in references]
    if prefills:
        starts = [prompt_length(n) for n in lengths]
        for slot, (one, start) in enumerate(zip(references, starts, strict=True)):
            _note(scores, slot, start - 1, runner.prefill(slot, one.tokens[:start]), one)
    for step in range(max(lengths)):
        slots = [slot for slot, n in enumerate(lengths) if starts[slot] <= step < n]
        rows = runner.decode(slots, [references[slot].tokens[step] for slot in slots]) if slots else ()
        for slot, logits in zip(slots, rows, strict=True):
            _note(scores, slot, step, logits, references[slot])
    return scores


def _note(scores: Scores, slot: int, position: int, logits: NDArray[np.float32], reference: Reference) -> None:
    scores.hits[slot][position] = logits.argmax() == reference.ids[position, 0]
    scores.kl[slot][position] = divergence(logits, reference.ids[position], reference.logprobs[position])


def divergence(logits: NDArray[np.float32], ids: NDArray[np.int64], logprobs: NDArray[np.float32]) -> float:
    """Return the Kullback-Leibler divergence, in nats, of ``logits (vocabulary,)`` from the source.

    Of the source only the likeliest tokens are known; what is left of the mass counts as one token on both sides.
    This never exceeds the divergence over the whole vocabulary.
    """
    ours = logits.astype(np.float64)
    ours = ours - ours.max()
    ours = ours[ids] - np.log(np.exp(ours).sum())
    theirs = logprobs.astype(np.float64)
    known = float((np.exp(theirs) * (theirs - ours)).sum())
    rest, our_rest = 1 - float(np.exp(theirs).sum()), 1 - float(np.exp(ours).sum())
    if rest < _NOTHING:
        return known
    return known + rest * float(np.log(rest / max(our_rest, _NOTHING)))


def _compare_tokenizers(text_model: TextModel, references: tuple[Reference, ...]) -> None:
    for reference in references:
        if text_model.encode_text(reference.text) != reference.tokens:
            raise CheckFailed(
                f"tokenizer.json does not encode {reference.text[:40]!r} as transformers does",
                hint="Save the tokenizer again with the transformers version that trained the model.",
            )
