"""Reproducible mode: which numbers of rows the kernels compute alike, found by trying.

Matrix kernels differ with the number of rows, so the same token may get other logits, in the last bits, alone than in
a batch: a kernel may take rows in pairs, and the odd one out alone. Which numbers of rows are alike depends on the
graph, the library and the processor, so it is measured when the model is loaded: rows of different lengths are decoded
in batches of every size, and their logits compared bit by bit. The runner then decodes only in batches of sizes that
agree, filling up those between and splitting larger ones.
"""

from __future__ import annotations

import numpy as np

from foundry_lite.engine.runner import Logits, Runner
from foundry_lite.errors import LoadFailed

_WIDEST = 4  # from one size to the next: a runner fills up a batch by 3 rows at most
_TRIALS = 2
_LENGTH = 20  # tokens of the longest row


def settle(runner: Runner, most: int) -> tuple[int, ...]:
    """Narrow ``runner.row_counts`` to sizes that compute alike, for up to ``most`` rows; return them.

    Every slot must be empty, and is again afterwards. Raises `LoadFailed` when too few sizes agree, or when prompts
    cannot be computed in chunks.
    """
    if not runner.can_extend:
        raise LoadFailed(
            "prompts of this model cannot be computed in chunks, so it cannot be reproducible",
            hint="Leave FOUNDRY_LITE_REPRODUCIBLE off for it.",
        )
    trials = [_logits_by_size(runner, most, seed) for seed in range(_TRIALS)]
    sets = [_alike(trials, anchor, most) for anchor in range(1, most + 1)]
    usable = [sizes for sizes in sets if all(b - a <= _WIDEST for a, b in zip((0, *sizes), sizes, strict=False))]
    if not usable:
        raise LoadFailed(
            "too few batch sizes of this model compute alike on this machine, so it cannot be reproducible",
            hint="Import it with another --precision or --block-size, or leave FOUNDRY_LITE_REPRODUCIBLE off.",
        )
    best = max(usable, key=lambda sizes: (len(sizes), sizes[-1]))
    runner.row_counts = best
    return best


def _alike(trials: list[list[Logits]], anchor: int, most: int) -> tuple[int, ...]:
    """Return sizes that agree with ``anchor`` and with each other, large ones first taken."""
    found = [anchor]
    for size in range(most, 0, -1):
        if size != anchor and all(_agree(trial, size, other) for trial in trials for other in found):
            found.append(size)
    return tuple(sorted(found))


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


def _agree(by_size: list[Logits], first: int, second: int) -> bool:
    rows = min(first, second)
    return np.array_equal(by_size[first - 1][:rows], by_size[second - 1][:rows])


def _tokens(runner: Runner, seed: int, count: int) -> list[int]:
    drawn: list[int] = np.random.default_rng(seed).integers(0, runner.vocabulary, max(count, 2)).tolist()
    return drawn
