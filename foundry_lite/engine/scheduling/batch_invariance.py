"""Reproducible mode: the batch sizes that the kernels compute alike, found by measuring.

Matrix kernels differ with the number of rows, so the same token may get other logits, in the last bits, alone than in
a batch: a kernel may take rows in pairs, and the odd one out alone. Which numbers of rows are alike depends on the
graph, the library and the processor, so it is measured when the model is loaded: the same rows, of different lengths,
are decoded in batches of every size and at several positions in the batch, and their logits compared bit by bit. The
runner then decodes only in batches of sizes that agree, filling up those between and splitting larger ones.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from typing import TypeAlias

import numpy as np

from foundry_lite.engine.runners.base import Runner
from foundry_lite.errors import LoadFailed

_Seen: TypeAlias = dict[int, dict[int, set[bytes]]]  # batch size → sequence → hashes of its logits

_WIDEST = 4  # from one size to the next: a runner fills up a batch by 3 rows at most
_TRIALS = 2
_LENGTH = 20  # tokens of the longest row


def settle(runner: Runner, most: int) -> tuple[int, ...]:
    """Narrow ``runner.row_counts`` to sizes that compute alike, for up to ``most`` rows; return them.

    The runner must have twice ``most`` slots, all empty; they are again afterwards. Raises `LoadFailed` when too few
    sizes agree, or when prompts cannot be computed in chunks.
    """
    if not runner.can_extend:
        raise LoadFailed(
            "prompts of this model cannot be computed in chunks, so it cannot be reproducible",
            hint="Leave FOUNDRY_LITE_REPRODUCIBLE off for it.",
        )
    if not runner.can_copy:
        return tuple(runner.row_counts)  # such a runner decodes every row by itself
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


def _alike(trials: list[_Seen], anchor: int, most: int) -> tuple[int, ...]:
    """Return sizes that agree with ``anchor``, with each other and with themselves, large ones first taken."""
    found: list[int] = []
    for size in (anchor, *range(most, 0, -1)):
        if size not in found and all(_agree(trial, size, other) for trial in trials for other in (size, *found)):
            found.append(size)
    return tuple(sorted(found))


def speculates_alike(runner: Runner) -> bool:
    """Return whether `Runner.verify` of several tokens gives the same bits as decoding them one by one."""
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


def _logits_by_size(runner: Runner, most: int, seed: int) -> _Seen:
    """Return the hashes of each sequence's logits, by batch size (1 to ``most``), at several positions in the batch."""
    sequences = [_tokens(runner, seed * most + row, 2 + row % (_LENGTH - 2)) for row in range(most)]
    for row, tokens in enumerate(sequences):
        runner.prefill(most + row, tokens[:-1])
    seen: _Seen = defaultdict(lambda: defaultdict(set))
    for shift in sorted({0, 1 % most, most // 2, most - 1}):
        standing = [(slot + shift) % most for slot in range(most)]  # which sequence stands in which slot
        for slot, row in enumerate(standing):
            runner.copy(most + row, slot, len(sequences[row]) - 1)
        for size in range(1, most + 1):
            logits = runner.decode(range(size), [sequences[row][-1] for row in standing[:size]])
            for slot, row in enumerate(standing[:size]):
                seen[size][row].add(hashlib.sha256(logits[slot]).digest())
                runner.keep(slot, len(sequences[row]) - 1)
    for slot in range(2 * most):
        runner.keep(slot, 0)
    return seen


def _agree(seen: _Seen, first: int, second: int) -> bool:
    """Return whether every sequence in batches of both sizes got the same logits at every position."""
    shared = seen[first].keys() & seen[second].keys()
    return all(len(seen[first][row] | seen[second][row]) == 1 for row in shared)


def _tokens(runner: Runner, seed: int, count: int) -> list[int]:
    drawn: list[int] = np.random.default_rng(seed).integers(0, runner.vocabulary, max(count, 2)).tolist()
    return drawn
