"""Figures of a benchmark: medians and spreads of requests and rounds. Definitions: `benchmark`."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from msgspec import Struct

from foundry_lite.catalog.report import Pressure


class Spread(Struct, frozen=True):
    """A median with the smallest and largest value it was taken from."""

    median: float
    low: float
    high: float


class Latency(Struct, frozen=True):
    """A median and a 95th percentile, with the smallest and largest value; milliseconds."""

    median: float
    p95: float
    low: float
    high: float


class Row(Struct, frozen=True):
    """The figures of one combination. ``requests`` is how many are behind them; the gaps are between tokens.

    ``cached_tokens`` are the most of any prompt that were reused, not computed: where it is not 0, TTFT is that of the
    rest. ``pressure`` is that of the most disturbed of the rounds.
    """

    prompt_tokens: int
    new_tokens: int
    concurrency: int
    requests: int
    ttft_ms: Latency
    gap_ms: Latency | None
    prefill_tokens_per_s: Spread
    decode_tokens_per_s: Spread
    system_tokens_per_s: Spread
    cached_tokens: int = 0
    pressure: Pressure | None = None


@dataclass(frozen=True, slots=True)
class Sample:
    """Timings of one benchmark request, in seconds, and the gaps between its tokens."""

    ttft: float
    prefill: float
    decode: float
    ended: float
    cached: int
    gaps: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Round:
    """Benchmark round of one combination: ``seconds`` from the first request to the last token, with its pressure."""

    seconds: float
    samples: tuple[Sample, ...]
    pressure: Pressure


def token_gaps(arrivals: Sequence[tuple[float, int]]) -> tuple[float, ...]:
    """Return the gaps between the tokens of one stream, in seconds, from the times at which how many arrived.

    k tokens that arrive together are k gaps, each a kth of the time since those before them. Those of the first
    arrival have nothing before them.
    """
    gaps: list[float] = []
    for (before, _), (now, tokens) in itertools.pairwise(arrivals):
        gaps += [(now - before) / tokens] * tokens
    return tuple(gaps)


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value below which ``share`` (0 to 1) of ``values`` lie, interpolated linearly; 0.5 is the median."""
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def summarise(cell: tuple[int, int], new_tokens: int, rounds: Sequence[Round]) -> Row:
    """Return the figures of one combination ``(prompt tokens, streams)`` from its rounds."""
    prompt_tokens, streams = cell
    samples = [sample for one in rounds for sample in one.samples]
    return Row(
        prompt_tokens=prompt_tokens,
        new_tokens=new_tokens,
        concurrency=streams,
        requests=len(samples),
        ttft_ms=_latency([sample.ttft for sample in samples]),
        gap_ms=_latency(gaps) if (gaps := [gap for sample in samples for gap in sample.gaps]) else None,
        prefill_tokens_per_s=_spread([(prompt_tokens - sample.cached) / sample.prefill for sample in samples]),
        decode_tokens_per_s=_spread([(new_tokens - 1) / sample.decode for sample in samples]),
        system_tokens_per_s=_spread([streams * new_tokens / one.seconds for one in rounds]),
        cached_tokens=max(sample.cached for sample in samples),
        pressure=max((one.pressure for one in rounds), key=lambda one: one.taken),
    )


def _spread(values: list[float]) -> Spread:
    return Spread(round(percentile(values, 0.5), 2), round(min(values), 2), round(max(values), 2))


def _latency(seconds: list[float]) -> Latency:
    figures = (percentile(seconds, 0.5), percentile(seconds, 0.95), min(seconds), max(seconds))
    return Latency(*(round(figure * 1e3, 3) for figure in figures))
