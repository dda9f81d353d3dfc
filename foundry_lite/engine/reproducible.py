"""Reproducible mode: which numbers of rows the kernels compute alike, found by trying.

Matrix kernels differ with the number of rows, so the same token may get other logits, in the last bits, alone than in
a batch. Which numbers of rows are alike depends on the graph, the library and the processor, so it is measured when
the model is loaded: rows of different lengths are decoded in batches of every size, and their logits compared bit by
bit. The runner then decodes only in batches of sizes that agree, filling up smaller ones and splitting larger ones.
"""

from __future__ import annotations

import numpy as np

from foundry_lite.engine.runner import Logits, Runner
from foundry_lite.errors import LoadFailed

_FEWEST = 4  # rows that a batch may have to be filled up to: see `ort_runner`
_TRIALS = 2
_LENGTH = 20  # tokens of the longest row


def settle(runner: Runner, most: int) -> tuple[int, int]:
    """Narrow ``runner.row_counts`` to batches that compute alike, for up to ``most`` rows; return them.

    Every slot must be empty, and is again afterwards. Raises `LoadFailed` when no two sizes agree.
    """
    seen = [_logits_by_size(runner, most, seed) for seed in range(_TRIALS)]
    alike = {
        (low, high)
        for low in range(1, min(_FEWEST, most) + 1)
        for high in range(low, most + 1)
        if all(_agree(trial, low, high) for trial in seen)
    }
    low, high = max(alike, key=lambda span: (span[1] - span[0], span[1]))
    if low == high < most and most > 1:
        raise LoadFailed(
            "no two batch sizes of this model compute alike on this machine, so it cannot be reproducible",
            hint="Import it with another --precision or --block-size, or leave FOUNDRY_LITE_REPRODUCIBLE off.",
        )
    runner.row_counts = (low, high)
    return low, high


def speculates_alike(runner: Runner) -> bool:
    """Say whether verifying several tokens at once gives the bits of decoding them one by one."""
    if not runner.can_verify:
        return False
    tokens = _tokens(runner, 0, _LENGTH)
    prompt, rest = tokens[:-4], tokens[-4:]
    for _ in range(_TRIALS):
        runner.prefill(0, prompt)
        single = [runner.decode([0], [token])[0].copy() for token in rest]
        runner.keep(0, len(prompt))
        together = runner.verify(0, rest)
        after = runner.decode([0], [rest[0]])[0].copy()
        runner.keep(0, len(prompt))
        for token in rest:
            runner.decode([0], [token])
        again = runner.decode([0], [rest[0]])[0].copy()
        runner.keep(0, 0)
        if not (all(np.array_equal(a, b) for a, b in zip(single, together, strict=True)) and (after == again).all()):
            return False
    return True


def _logits_by_size(runner: Runner, most: int, seed: int) -> list[Logits]:
    """Return, for 1 to ``most`` rows, the logits ``(rows, vocabulary)`` of the same step."""
    rows = [_tokens(runner, seed * most + row, 2 + row % (_LENGTH - 2)) for row in range(most)]
    for slot, tokens in enumerate(rows):
        runner.prefill(slot, tokens[:-1])
    found = []
    for size in range(1, most + 1):
        found.append(runner.decode(range(size), [tokens[-1] for tokens in rows[:size]]).copy())
        for slot, tokens in enumerate(rows[:size]):
            runner.keep(slot, len(tokens) - 1)
    for slot in range(most):
        runner.keep(slot, 0)
    return found


def _agree(by_size: list[Logits], low: int, high: int) -> bool:
    return all(np.array_equal(by_size[size - 1], by_size[high - 1][:size]) for size in range(low, high))


def _tokens(runner: Runner, seed: int, count: int) -> list[int]:
    drawn: list[int] = np.random.default_rng(seed).integers(0, runner.vocabulary, max(count, 2)).tolist()
    return drawn
