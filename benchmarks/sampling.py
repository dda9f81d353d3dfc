"""What choosing tokens costs: milliseconds a decode step, for all rows, as a share of the step.

    python -m benchmarks.sampling [--vocabulary 151936] [--rows 8] [--rounds 40] [--step-ms 80] [--json FILE]

Each round times every case once, in turn, so that a slow moment of the machine hits all; the first rounds are not
counted. Logits are random: *flat* ones from a normal distribution of deviation 1.5, of which top-p keeps tens of
thousands, *peaked* ones, which fall as a power of the rank, and *sure* ones, where 40 tokens stand out as in a trained
model that knows what it says. Every round has other logits than the one before, as in decoding. Detokenising is timed
with a byte-level vocabulary of the same size, of random tokens of 1 to 8 bytes.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import cycle
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray
from tokenizers import Tokenizer, decoders, models

from foundry_lite import __version__
from foundry_lite import machine as devices
from foundry_lite.bench.figures import Spread
from foundry_lite.engine.sampling.sampler import SequenceSampler, choose
from foundry_lite.engine.text.tokenizer import Detokenizer
from foundry_lite.generation import Sampling

_WARM_UP = 3  # rounds
_SETS = 3  # of logits, each met every third round

PENALTIES = {"presence_penalty": 0.5, "frequency_penalty": 0.5, "repetition_penalty": 1.1}
CASES: dict[str, dict[str, Any]] = {
    "greedy": {"temperature": 0.0},
    "temperature 1": {},
    "temperature 0.8, top-p 0.95": {"temperature": 0.8, "top_p": 0.95},
    "top-k 50": {"top_k": 50},
    "temperature 0.8, top-k 50, top-p 0.95": {"temperature": 0.8, "top_k": 50, "top_p": 0.95},
    "min-p 0.05": {"min_p": 0.05},
    "greedy, penalties": {"temperature": 0.0, **PENALTIES},
    "temperature 0.8, top-p 0.95, penalties": {"temperature": 0.8, "top_p": 0.95, **PENALTIES},
    "greedy, 5 logprobs": {"temperature": 0.0, "top_logprobs": 5},
    "temperature 1, 5 logprobs": {"top_logprobs": 5},
    "temperature 0.8, top-p 0.95, 5 logprobs": {"temperature": 0.8, "top_p": 0.95, "top_logprobs": 5},
    "temperature 0.8, top-p 0.95, grammar": {"temperature": 0.8, "top_p": 0.95, "grammar": True},
}


class Row(Struct, frozen=True):
    """One case: milliseconds for all rows, and the median's share of a decode step."""

    case: str
    ms: Spread
    share: float


class Report(Struct, frozen=True):
    """The figures with their evidence."""

    date: str
    machine: dict[str, str | int]
    versions: dict[str, str]
    vocabulary: int
    rows_of_logits: int
    rounds: int
    step_ms: float
    rows: tuple[Row, ...]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--vocabulary", type=int, default=151_936)
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--step-ms", type=float, default=80.0, help="the decode step that shares are of")
    parser.add_argument("--json", type=Path, help="also write the report there, as in benchmarks/results/")
    arguments = parser.parse_args()
    report = _measure(arguments.vocabulary, arguments.rows, arguments.rounds, arguments.step_ms)
    _print(report)
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=1) + b"\n")


def _measure(vocabulary: int, rows: int, rounds: int, step_ms: float) -> Report:
    steps = _steps(vocabulary, rows)
    taken: dict[str, list[float]] = {case: [] for case in steps}
    for number in range(rounds + _WARM_UP):
        for case, step in steps.items():
            began = time.perf_counter()
            step()
            if number >= _WARM_UP:
                taken[case].append(1000 * (time.perf_counter() - began))
    measured = ((case, statistics.median(times), times) for case, times in taken.items())
    return Report(
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        machine=devices.probe_machine().as_dict(),
        versions={"foundry-lite": __version__, "numpy": np.__version__, "tokenizers": version("tokenizers")},
        vocabulary=vocabulary,
        rows_of_logits=rows,
        rounds=rounds,
        step_ms=step_ms,
        rows=tuple(
            Row(case, Spread(round(median, 4), round(min(times), 4), round(max(times), 4)), round(median / step_ms, 5))
            for case, median, times in measured
        ),
    )


def _steps(vocabulary: int, rows: int) -> dict[str, Callable[[], object]]:
    """Return what is timed, by its name."""
    random = np.random.default_rng(0)
    shape = (_SETS, rows, vocabulary)
    slope = -1.6 * np.log(np.arange(1, vocabulary + 1)) + 18
    forms = {
        "flat": random.normal(0, 1.5, shape),
        "peaked": random.permuted(np.array(np.broadcast_to(slope, shape), order="C"), axis=-1),
        "sure": random.normal(0, 1.5, shape),
    }
    forms["sure"][..., :40] += np.linspace(24, 16, 40)
    steps: dict[str, Callable[[], object]] = {}
    for form, logits in forms.items():
        single = np.ascontiguousarray(logits, np.float32)
        for name, wanted in CASES.items():
            steps[f"{name} ({form})"] = _choosing(single, **wanted)
    steps["detokenise"] = _detokenising(vocabulary, rows)
    return steps


def _choosing(
    logits: NDArray[np.float32], *, grammar: bool = False, top_logprobs: int | None = None, **wanted: Any
) -> Callable[[], object]:
    """Return a step that chooses a token for each row of the next logits."""
    sampling = Sampling(**{"temperature": 1.0, "top_p": 1.0, "top_k": 0, "seed": 0} | wanted)
    rows, vocabulary = logits.shape[1:]
    prompt = range(min(500, vocabulary))
    choosers = [SequenceSampler(sampling, prompt=prompt, choice=row, top_logprobs=top_logprobs) for row in range(rows)]
    mask = np.random.default_rng(1).integers(-(2**31), 2**31, -(-vocabulary // 32), np.int64).astype(np.int32)
    masks = [mask] * rows if grammar else None
    following = cycle(logits)
    return lambda: choose(next(following), choosers, masks)


def _detokenising(vocabulary: int, rows: int) -> Callable[[], object]:
    """Return a step that adds a random token to each of ``rows`` texts."""
    random = np.random.default_rng(2)
    letters = [chr(code) for code in range(0x21, 0x7F)] + ["\u0120"]  # of GPT-2's alphabet
    words = dict.fromkeys(letters)
    while len(words) < vocabulary:
        words["".join(random.choice(letters, random.integers(2, 9)))] = None
    tokenizer = Tokenizer(models.BPE({word: number for number, word in enumerate(words)}, []))
    tokenizer.decoder = decoders.ByteLevel()
    texts = [Detokenizer(tokenizer) for _ in range(rows)]
    tokens = cycle(random.integers(0, vocabulary, 997).tolist())
    return lambda: [text.feed(next(tokens)) for text in texts]


def _print(report: Report) -> None:
    print(f"{report.rows_of_logits} rows at a vocabulary of {report.vocabulary}; ms a step, medians (lowest-highest)")
    for row in report.rows:
        print(f"  {row.case:50} {row.ms.median:7.3f} ({row.ms.low:.3f}-{row.ms.high:.3f})  {100 * row.share:5.2f} %")
    versions = ", ".join(f"{name} {version}" for name, version in report.versions.items())
    print(f"{report.machine['processor']}, {report.machine['cores']} cores; {versions}")
    print(f"medians of {report.rounds} rounds, shares of a step of {report.step_ms:g} ms, {report.date}")


if __name__ == "__main__":
    main()
