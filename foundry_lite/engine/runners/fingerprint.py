"""Fingerprint of a model: what it computed for a few tokens on the processor that its figures were measured on.

Matrix kernels differ by instruction set, and some of them compute something else (docs/decisions/0024). So a folder
carries the numbers that belong to its figures, and a worker on a processor with other kernels compares them before it
serves.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from foundry_lite.catalog.report import FINGERPRINT
from foundry_lite.engine.runners.base import Logits, Runner
from foundry_lite.engine.runners.divergence import divergences, normalizer
from foundry_lite.errors import LoadFailed
from foundry_lite.machine import saturates

_TEXTS, _PROMPT, _STEPS = 3, 24, 4  # texts, tokens of each that are a prompt, and that are decoded after it
_KEPT = 64  # likeliest tokens of a position
# Two processors may differ by a tenth of the loss that the card reports, and a little more, in nats or of the cosine.
# Measured between SSE4.2, AVX2, AVX512 and VNNI: 0.0008 nats in int4, with saturating 8-bit sums 0.008 and more.
RATIO = 0.1
_MORE = 0.005

_Kind = TypeVar("_Kind")


class Positions(Struct, frozen=True):
    """The likeliest tokens at each position, the best first, with their natural logarithms of probability."""

    ids: tuple[tuple[int, ...], ...]
    logprobs: tuple[tuple[float, ...], ...]


class Fingerprint(Struct, frozen=True, omit_defaults=True):
    """The numbers of a model that generates text.

    ``kernels`` as `machine.find_kernels` has it; ``loss`` is the mean divergence from the source that the card reports,
    in nats, 0 where it is not known. ``companion`` was computed with the graph for prompts, ``plain`` without it.
    """

    kernels: str
    loss: float
    texts: tuple[tuple[int, ...], ...]
    plain: Positions
    companion: Positions | None = None


def record(runner: Runner, texts: Sequence[Sequence[int]], loss: float | None, kernels: str) -> Fingerprint | None:
    """Return the fingerprint of a loaded model, whose slots are empty and are so afterwards; ``None`` without texts."""
    usable = tuple(tuple(one[: _PROMPT + _STEPS]) for one in texts if len(one) > _STEPS + 1)[:_TEXTS]
    if not usable:
        return None
    companion = _positions(_sample(runner, usable)) if runner.uses_companion else None
    return Fingerprint(kernels, loss or 0.0, usable, _positions(_sample_plain(runner, usable)), companion)


def settle(runner: Runner, folder: Path, kernels: str) -> str:
    """Compare a loaded model with its fingerprint where its figures come from other kernels than ``kernels``.

    Switches the companion graph off when it computes something else here, and returns a sentence that says so, or that
    nothing can be compared; an empty one when all is well. Raises `LoadFailed` when the model itself computes something
    else.
    """
    found = read(folder, Fingerprint)
    if found is None:
        if not (runner.uses_companion and saturates(kernels)):
            return ""
        runner.drop_companion()
        return f"its prompts are computed without 8-bit kernels, which may be wrong on this processor ({kernels})"
    if found.kernels == kernels:
        return ""
    _check(found, runner)
    most = _MORE + RATIO * found.loss
    plain = _distance(_sample_plain(runner, found.texts), found.plain)
    if not plain <= most:
        raise disagreement(found.kernels, kernels, f"{plain:.4f} nats between them, {most:.4f} is the most")
    if found.companion is None or not runner.uses_companion:
        return f"measured with {found.kernels}; {kernels} computes the same ({plain:.4f} nats apart)"
    fast = _distance(_sample(runner, found.texts), found.companion)
    if fast <= most:
        return f"measured with {found.kernels}; {kernels} computes the same ({max(plain, fast):.4f} nats apart)"
    runner.drop_companion()
    return (
        f"its prompts are computed without 8-bit kernels: on this processor ({kernels}) they are {fast:.4f} nats from "
        f"what was measured ({found.kernels}), {most:.4f} is the most that its figures allow; "
        "import it again on this machine to have them fast"
    )


def read(folder: Path, kind: type[_Kind]) -> _Kind | None:
    """Read a folder's fingerprint; ``None`` where it has none. Raises `LoadFailed` when it cannot be read."""
    path = folder / FINGERPRINT
    if not path.is_file():
        return None
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise unusable(f"cannot be read: {error}") from error


def unusable(reason: str) -> LoadFailed:
    """Return the error for a fingerprint that nothing can be compared with."""
    return LoadFailed(f"{FINGERPRINT} {reason}", hint="Import the model again.")


def are_ids(rows: Sequence[Sequence[int]], vocabulary: int) -> bool:
    """Return whether all numbers are token ids of a vocabulary."""
    return all(0 <= one < vocabulary for row in rows for one in row)


def disagreement(measured: str, here: str, apart: str) -> LoadFailed:
    """Return the error for a model that computes something else here than where it was measured."""
    return LoadFailed(
        f"this processor ({here}) computes something else than the one that the model was measured on ({measured}): "
        f"{apart} that its figures allow",
        hint="Import the model again on this machine.",
    )


def _check(found: Fingerprint, runner: Runner) -> None:
    """Raise `LoadFailed` where a fingerprint cannot be this model's: the runner checks nothing that it is given.

    NumPy would repeat one recorded position for all, and find nothing to differ in positions without tokens.
    """
    lengths = [len(one) for one in found.texts]
    if not lengths or len(lengths) > _TEXTS or min(lengths) <= _STEPS or max(lengths) > _PROMPT + _STEPS:
        raise unusable(f"has texts of {lengths[:8]} tokens, which none has that foundry-lite writes")
    if not are_ids(found.texts, runner.vocabulary):
        raise unusable(f"has tokens beyond the model's vocabulary of {runner.vocabulary}")
    if not 0 <= found.loss < math.inf:
        raise unusable(f"tells a loss of {found.loss}")
    for one in (found.plain, found.companion):
        if one is not None and not _is_recorded(one, len(lengths) * (_STEPS + 1), runner.vocabulary):
            raise unusable("has not the likeliest tokens of each position, with as many logarithms")


def _is_recorded(one: Positions, positions: int, vocabulary: int) -> bool:
    kept = [min(_KEPT, vocabulary)] * positions
    return [*map(len, one.ids)] == kept == [*map(len, one.logprobs)] and are_ids(one.ids, vocabulary)


def _sample_plain(runner: Runner, texts: Sequence[Sequence[int]]) -> Logits:
    """Sample without the companion graph."""
    used, runner.uses_companion = runner.uses_companion, False
    try:
        return _sample(runner, texts)
    finally:
        runner.uses_companion = used


def _sample(runner: Runner, texts: Sequence[Sequence[int]]) -> Logits:
    """Return the logits ``(positions, vocabulary)`` after the prompt of each text and after each token behind it."""
    rows: list[Logits] = []
    for tokens in texts:
        rows.append(runner.prefill(0, tokens[:-_STEPS]).copy())
        rows += [runner.decode([0], [token])[0].copy() for token in tokens[-_STEPS:]]
        runner.keep(0, 0)
    return np.stack(rows)


def _positions(logits: Logits) -> Positions:
    kept = min(_KEPT, logits.shape[1])
    ids = np.argsort(-logits, axis=1, kind="stable")[:, :kept]
    logprobs = np.take_along_axis(logits, ids, 1) - normalizer(logits)[:, None]
    rounded = tuple(tuple(round(float(one), 6) for one in row) for row in logprobs)
    return Positions(tuple(tuple(row) for row in ids.tolist()), rounded)


def _distance(logits: Logits, recorded: Positions) -> float:
    """Return the mean divergence of logits from recorded positions, in nats; not a number where the logits are none."""
    ids: NDArray[np.int64] = np.array(recorded.ids, np.int64)
    with np.errstate(all="ignore"):
        return float(divergences(logits, ids, np.array(recorded.logprobs, np.float32)).mean())
