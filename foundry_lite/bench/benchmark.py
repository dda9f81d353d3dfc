"""Benchmark of a model on this machine: time to first token, speed of prefill and decode, memory of the worker.

Definitions, on the monotonic clock of the process that sends the requests, unless stated otherwise:

- TTFT: from handing the request to the engine to its first token; where more requests are made at once than the
  worker has slots, waiting for one is part of it.
- prefill: prompt tokens that were computed / the time the model itself took for them, as the worker measured it.
- decode: (tokens - 1) / (last token - first), as the worker measured it; the median over requests.
- gap: the time between two tokens of one stream (inter-token latency), over all gaps of all streams. Tokens may come
  several at once (docs/decisions/0007): k tokens that arrive together t after those before them are k gaps of t / k.
  Where all tokens of all streams came at once, there is none.
- system: all new tokens / (first request begun to last token), over one round of ``concurrency`` requests.
- peak memory: the highest resident memory of the worker process since it was started, as the kernel counts it. The
  model's own is what lies above ``runtime_bytes``, the process's before it loaded the model: Python and the libraries.

Percentiles are linear interpolations between the two nearest values. Prompts are random tokens of exact length, no two
of which begin alike (`prompts`), so that nothing can be reused; what was reused all the same is counted.
End-of-sequence tokens are ignored, so that each request generates exactly ``new_tokens``. The warm-up round is not
counted.

A round during which others took more than a tenth of the processor's time (`pressure`) is repeated, at most as often as
there are rounds; the least disturbed rounds count, and `Row.pressure` reports what was taken during them.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from msgspec import Struct

from foundry_lite import __version__
from foundry_lite import machine as devices
from foundry_lite.bench.figures import Round, Row, Sample, summarise, token_gaps
from foundry_lite.bench.pressure import PressureMeter
from foundry_lite.bench.prompts import Prompts
from foundry_lite.catalog.report import Measured
from foundry_lite.engine.client.engine import Engine, EngineOptions, load_engine
from foundry_lite.engine.runners import providers
from foundry_lite.errors import InvalidRequest
from foundry_lite.generation import GenerationRequest, Sampling, Timings, Tokens
from foundry_lite.store.store import Artifact


@dataclass(frozen=True, slots=True)
class Workload:
    """Workload of a benchmark: every combination of prompt length and concurrency, ``rounds`` times, alternating."""

    prompt_tokens: tuple[int, ...] = (128, 512)
    new_tokens: int = 64
    concurrency: tuple[int, ...] = (1, 4, 16)
    rounds: int = 3
    seed: int = 0


class BenchReport(Struct, frozen=True):
    """A benchmark with its evidence: model, machine, versions, date."""

    model: str
    date: str
    machine: dict[str, str | int]
    versions: dict[str, str]
    threads: int
    provider: str
    load_seconds: float
    runtime_bytes: int | None  # of the process before it loads a model
    loaded_bytes: int | None
    peak_bytes: int | None
    rounds: int
    rows: tuple[Row, ...]


async def measure(
    artifact: Artifact, options: EngineOptions, workload: Workload, report: Callable[[str], None]
) -> BenchReport:
    """Run the workload on a worker of its own. Raises `InvalidRequest` when a prompt does not fit the context."""
    return await measure_folder(artifact.folder, str(artifact.ref), options, workload, report)


async def measure_folder(
    folder: Path, name: str, options: EngineOptions, workload: Workload, report: Callable[[str], None]
) -> BenchReport:
    """Do as `measure`, for a model folder that need not be installed.

    A provider that cannot be loaded is an error: there is no fallback, its figures would describe another provider.
    """
    began = time.monotonic()
    engine = await load_engine(folder, replace(options, falls_back=False))
    load_seconds = time.monotonic() - began
    try:
        _require_fit(engine, workload)
        loaded = devices.resident_memory_bytes(engine.pid)
        rows = await _measure_rows(engine, workload, report)
        peak = devices.peak_memory_bytes(engine.pid)
    finally:
        await engine.close()
    return BenchReport(
        model=name,
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        machine=devices.probe_machine().as_dict(),
        versions=_versions(engine),
        threads=options.threads or devices.usable_cores(),
        provider=engine.provider,
        load_seconds=round(load_seconds, 3),
        runtime_bytes=engine.runtime_bytes,
        loaded_bytes=loaded,
        peak_bytes=peak,
        rounds=workload.rounds,
        rows=rows,
    )


async def brief(
    folder: Path,
    options: EngineOptions,
    *,
    streams: int,
    prompt_tokens: int,
    new_tokens: int,
    rounds: int,
    command: str,
) -> Measured:
    """Measure one workload on a worker of its own; ``command`` is the one that a user would run to repeat it.

    TTFT, prefill and decode are medians over all requests, at ``streams`` requests at once. There is no
    fallback to another provider. Raises `LoadFailed`, or `InvalidRequest` when a prompt does not fit.
    """
    workload = Workload((prompt_tokens,), new_tokens, (streams,), rounds)
    found = await measure_folder(folder, folder.name, options, workload, lambda _text: None)
    row = found.rows[0]
    return Measured(
        date=found.date,
        machine=found.machine,
        versions=found.versions,
        command=command,
        threads=found.threads,
        provider=found.provider,
        prompt_tokens=prompt_tokens,
        new_tokens=new_tokens,
        streams=streams,
        ttft_ms=row.ttft_ms.median,
        prefill_tokens_per_s=row.prefill_tokens_per_s.median,
        decode_tokens_per_s=row.decode_tokens_per_s.median,
        system_tokens_per_s=row.system_tokens_per_s.median,
        load_seconds=found.load_seconds,
        loaded_bytes=found.loaded_bytes,
        peak_bytes=found.peak_bytes,
        runtime_bytes=found.runtime_bytes,
        cached_tokens=row.cached_tokens,
        pressure=row.pressure,
    )


def _versions(engine: Engine) -> dict[str, str]:
    """Return the versions of what a measurement depends on."""
    modules = {"onnxruntime", engine.runner.replace("-", "_")}
    own = dict(providers.package_of(module) for module in sorted(modules))
    return {"foundry-lite": __version__, **own, **providers.versions(engine.provider)}


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
    rounds: dict[tuple[int, int], list[Round]] = {cell: [] for cell in cells}
    requests = (2 * workload.rounds + 1) * sum(streams for _, streams in cells)
    prompts = Prompts(workload.seed, engine.vocabulary, requests)
    for number in range(workload.rounds + 1):  # the cells alternate, so that a slow minute of the machine hits all
        for cell in cells:
            name = "warm-up" if number == 0 else f"round {number}/{workload.rounds}"
            report(f"{name}: {cell[0]} prompt tokens, {cell[1]} at once")
            result = await _run_round(engine, prompts, cell, workload.new_tokens)
            if number > 0:
                rounds[cell].append(result)
    for _ in range(workload.rounds):
        for cell in cells:
            kept = _calmest(rounds[cell], workload.rounds)
            if kept[-1].pressure.is_disturbing:
                report(f"others took {kept[-1].pressure.taken:.0%} of the processor: once more, {cell[1]} at once")
                rounds[cell].append(await _run_round(engine, prompts, cell, workload.new_tokens))
    return tuple(summarise(cell, workload.new_tokens, _calmest(rounds[cell], workload.rounds)) for cell in cells)


def _calmest(rounds: Sequence[Round], count: int) -> list[Round]:
    """Return ``count`` rounds, the least disturbed first."""
    return sorted(rounds, key=lambda one: one.pressure.taken)[:count]


async def _run_round(engine: Engine, prompts: Prompts, cell: tuple[int, int], new_tokens: int) -> Round:
    prompt_tokens, streams = cell
    requests = [
        GenerationRequest(
            prompt=Tokens(prompts.draw(prompt_tokens)),
            sampling=Sampling(temperature=0.0),
            max_new_tokens=new_tokens,
            ignore_eos=True,
        )
        for _ in range(streams)
    ]
    meter = PressureMeter((os.getpid(), engine.pid))
    began = time.monotonic()
    samples = await asyncio.gather(*(_run_one(engine, request) for request in requests))
    return Round(max(sample.ended for sample in samples) - began, tuple(samples), meter.read())


async def _run_one(engine: Engine, request: GenerationRequest) -> Sample:
    began = time.monotonic()
    arrivals: list[tuple[float, int]] = []
    timings, cached = Timings(0, 0, 0), 0
    async with await engine.begin(request) as generation:
        async for batch in generation.batches():
            if tokens := sum(delta.tokens for delta in batch):
                arrivals.append((time.monotonic(), tokens))
            timings = batch[-1].timings or timings
            cached = batch[-1].usage.cached_tokens if batch[-1].usage else cached
    first, last = arrivals[0][0], arrivals[-1][0]
    return Sample(first - began, timings.prefill, timings.decode, last, cached, token_gaps(arrivals))
