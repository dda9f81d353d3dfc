"""What a model costs on this machine: time to first token, speed of prefill and decode, memory of the worker.

Definitions, on one monotonic clock in the process that asks:

- TTFT: from handing the request to the engine to its first token.
- prefill: prompt tokens / the time the model itself took for them, as the worker measured it.
- decode: 1 / TPOT, where TPOT of a request is (last token - first token) / (tokens - 1); the median over requests.
- system: all new tokens / (first request begun to last token), over one round of ``concurrency`` requests.
- peak memory: the highest resident memory of the worker process since it was started, as the kernel counts it.

Prompts are random tokens of exact length, another one for each request, so that nothing can be reused; the end of turn
is ignored, so that each request makes exactly the tokens asked for. The warm-up round is run and not counted.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version

from msgspec import Struct

from foundry_lite import __version__, devices
from foundry_lite.engine.engine import Engine, EngineOptions, load_engine
from foundry_lite.errors import InvalidRequest
from foundry_lite.generation import GenerationRequest, Sampling, Timings, Tokens
from foundry_lite.store.store import Artifact

_FIRST_PLAIN_TOKEN = 256  # below lie control tokens and bytes in most vocabularies


@dataclass(frozen=True, slots=True)
class Workload:
    """What is run: every combination of prompt length and concurrency, ``rounds`` times in turn."""

    prompt_tokens: tuple[int, ...] = (128, 512)
    new_tokens: int = 64
    concurrency: tuple[int, ...] = (1, 4)
    rounds: int = 5
    seed: int = 0


class Spread(Struct, frozen=True):
    """A median with the smallest and largest value it was taken from."""

    median: float
    low: float
    high: float


class Row(Struct, frozen=True):
    """The figures of one combination. ``requests`` is how many are behind them."""

    prompt_tokens: int
    new_tokens: int
    concurrency: int
    requests: int
    ttft_ms: Spread
    prefill_tokens_per_s: Spread
    decode_tokens_per_s: Spread
    system_tokens_per_s: Spread


class BenchReport(Struct, frozen=True):
    """A benchmark with its evidence: model, machine, versions, date."""

    model: str
    date: str
    machine: dict[str, str | int]
    versions: dict[str, str]
    threads: int
    load_seconds: float
    loaded_bytes: int | None
    peak_bytes: int | None
    rounds: int
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class _Sample:
    ttft: float
    prefill: float
    decode: float
    ended: float


async def measure(
    artifact: Artifact, options: EngineOptions, workload: Workload, report: Callable[[str], None]
) -> BenchReport:
    """Run the workload on a worker of its own. Raises `InvalidRequest` when a prompt does not fit the context."""
    began = time.monotonic()
    engine = await load_engine(artifact.folder, options)
    load_seconds = time.monotonic() - began
    try:
        _require_fit(engine, workload)
        loaded = devices.resident_memory_bytes(engine.pid)
        rows = await _measure_rows(engine, workload, report)
        peak = devices.peak_memory_bytes(engine.pid)
    finally:
        await engine.close()
    return BenchReport(
        model=str(artifact.ref),
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        machine=devices.probe_machine().as_dict(),
        versions={"foundry-lite": __version__, "onnxruntime": version("onnxruntime")},
        threads=options.threads or devices.usable_cores(),
        load_seconds=round(load_seconds, 3),
        loaded_bytes=loaded,
        peak_bytes=peak,
        rounds=workload.rounds,
        rows=rows,
    )


def _require_fit(engine: Engine, workload: Workload) -> None:
    longest = max(workload.prompt_tokens) + workload.new_tokens
    if longest > engine.context_length:
        raise InvalidRequest(
            f"{max(workload.prompt_tokens)} prompt tokens and {workload.new_tokens} new ones do not fit the context "
            f"of {engine.context_length}",
            "prompt_tokens",
        )


async def _measure_rows(engine: Engine, workload: Workload, report: Callable[[str], None]) -> tuple[Row, ...]:
    cells = [(prompt, streams) for prompt in workload.prompt_tokens for streams in workload.concurrency]
    rounds: dict[tuple[int, int], list[tuple[float, list[_Sample]]]] = {cell: [] for cell in cells}
    source = random.Random(workload.seed)
    for number in range(workload.rounds + 1):  # the cells alternate, so that a slow minute of the machine hits all
        for prompt, streams in cells:
            name = "warm-up" if number == 0 else f"round {number}/{workload.rounds}"
            report(f"{name}: {prompt} prompt tokens, {streams} at once")
            result = await _run_round(engine, source, prompt, workload.new_tokens, streams)
            if number > 0:
                rounds[prompt, streams].append(result)
    return tuple(_summarise(cell, workload.new_tokens, rounds[cell]) for cell in cells)


async def _run_round(
    engine: Engine, source: random.Random, prompt_tokens: int, new_tokens: int, streams: int
) -> tuple[float, list[_Sample]]:
    highest = engine.vocabulary - 1
    lowest = min(_FIRST_PLAIN_TOKEN, highest)
    requests = [
        GenerationRequest(
            prompt=Tokens(tuple(source.randint(lowest, highest) for _ in range(prompt_tokens))),
            sampling=Sampling(temperature=0.0),
            max_new_tokens=new_tokens,
            ignore_eos=True,
        )
        for _ in range(streams)
    ]
    began = time.monotonic()
    samples = await asyncio.gather(*(_run_one(engine, request) for request in requests))
    return max(sample.ended for sample in samples) - began, list(samples)


async def _run_one(engine: Engine, request: GenerationRequest) -> _Sample:
    began = time.monotonic()
    first, timings = None, Timings(0, 0, 0)
    async with await engine.begin(request) as generation:
        async for batch in generation.batches():
            first = first or time.monotonic()
            timings = batch[-1].timings or timings
    ended = time.monotonic()
    return _Sample((first or ended) - began, timings.prefill, ended - (first or ended), ended)


def _summarise(cell: tuple[int, int], new_tokens: int, rounds: list[tuple[float, list[_Sample]]]) -> Row:
    prompt_tokens, streams = cell
    samples = [sample for _, round_samples in rounds for sample in round_samples]
    return Row(
        prompt_tokens=prompt_tokens,
        new_tokens=new_tokens,
        concurrency=streams,
        requests=len(samples),
        ttft_ms=_spread([sample.ttft * 1e3 for sample in samples]),
        prefill_tokens_per_s=_spread([prompt_tokens / sample.prefill for sample in samples]),
        decode_tokens_per_s=_spread([(new_tokens - 1) / sample.decode for sample in samples]),
        system_tokens_per_s=_spread([streams * new_tokens / seconds for seconds, _ in rounds]),
    )


def _spread(values: list[float]) -> Spread:
    return Spread(round(statistics.median(values), 2), round(min(values), 2), round(max(values), 2))
