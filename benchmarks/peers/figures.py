"""What is read from the arrivals of tokens, the same for every engine.

Seconds count from the moment all requests of a cell are sent. With t_1 and t_n the arrivals of a stream's first and
last token, and N its tokens:

- prefill, tokens/s: prompt tokens / t_1. So the choice of the first token, and HTTP where there is HTTP, are in it.
- decode, tokens/s: (N - tokens that came first) / (t_n - t_1).
- total, tokens/s: new tokens of all streams / the last arrival. The time for prompts is in it, their tokens are not.
- gap, ms: time between two arrivals of one stream; one that brings k tokens counts k times a k-th of its gap.
- TTFT, ms: t_1.

A figure that needs two arrivals is ``None`` where all tokens came at once, and is not counted then.
Percentiles are over all streams of one round; medians, lowest and highest are over the rounds.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass

from msgspec import Struct

from benchmarks.peers.lines import Arrivals
from benchmarks.peers.peers import OutputProcessor


class Spread(Struct, frozen=True):
    """A median with the smallest and largest of the rounds it was taken from."""

    median: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure. ``is_time``: less is better."""

    name: str
    unit: str
    read: Callable[[OutputProcessor], float | None]

    @property
    def is_time(self) -> bool:
        return self.unit == "ms"


def spread(values: list[float], digits: int = 2) -> Spread:
    """Summarise the rounds, to so many decimals."""
    return Spread(round(statistics.median(values), digits), round(min(values), digits), round(max(values), digits))


def percentile(values: list[float], share: float) -> float:
    """Return the nearest-rank percentile: the smallest value that at least ``share`` of them do not exceed."""
    ordered = sorted(values)
    rank = -int(-share * len(ordered) // 1)  # rounded up
    return ordered[max(rank, 1) - 1]


def _prefill(answer: OutputProcessor) -> float:
    return (answer.prompt_tokens - (answer.cached_tokens or 0)) / answer.streams[0][0][0]


def _decode(answer: OutputProcessor) -> float | None:
    (first, at_once), (last, _) = answer.streams[0][0], answer.streams[0][-1]
    return (sum(tokens for _, tokens in answer.streams[0]) - at_once) / (last - first) if last > first else None


def _total(answer: OutputProcessor) -> float:
    tokens = sum(count for stream in answer.streams for _, count in stream)
    return tokens / max(stream[-1][0] for stream in answer.streams)


def _gaps(stream: Arrivals) -> list[float]:
    pairs = zip(stream, stream[1:], strict=False)
    return [(after - before) / count * 1e3 for (before, _), (after, count) in pairs for _ in range(count)]


def _gap(share: float) -> Callable[[OutputProcessor], float | None]:
    def read(answer: OutputProcessor) -> float | None:
        gaps = [gap for stream in answer.streams for gap in _gaps(stream)]
        return percentile(gaps, share) if gaps else None

    return read


def _ttft(share: float) -> Callable[[OutputProcessor], float]:
    return lambda answer: percentile([stream[0][0] * 1e3 for stream in answer.streams], share)


PREFILL = Figure("prefill", "tok/s", _prefill)
DECODE = Figure("decode", "tok/s", _decode)
TOTAL = Figure("total", "tok/s", _total)
GAP_P50 = Figure("gap p50", "ms", _gap(0.50))
GAP_P95 = Figure("gap p95", "ms", _gap(0.95))
TTFT_P50 = Figure("TTFT p50", "ms", _ttft(0.50))
TTFT_P95 = Figure("TTFT p95", "ms", _ttft(0.95))
TTFT = Figure("TTFT", "ms", _ttft(0.50))
