"""Measuring candidates against each other: a round of each in turn, so that a slow minute of the machine hits all.

Each run is a worker of its own, one at a time: nothing but the candidate is in memory.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import replace

import msgspec

from foundry_lite.bench.benchmark import brief
from foundry_lite.catalog.report import Measured
from foundry_lite.errors import EngineBusy, EngineDied, InvalidRequest, LoadFailed
from foundry_lite.residency.options import engine_options
from foundry_lite.settings import Settings
from foundry_lite.store.choices import Constraints, Trial
from foundry_lite.tuning.candidates import Candidate

_THEIR_OWN = (LoadFailed, EngineDied, EngineBusy, InvalidRequest)  # what one candidate fails of, and others may not


async def measure(
    candidates: Sequence[Candidate], constraints: Constraints, settings: Settings, tell: Callable[[str], None]
) -> list[Trial]:
    """Run every round and return the trials with their figures. A failed candidate is not retried; its trial has why.

    Rounds go forwards and backwards in turn, so that no candidate always runs after the hottest one.
    """
    found: list[list[Measured]] = [[] for _ in candidates]
    failed: dict[int, str] = {}
    for number in range(constraints.rounds):
        order = range(len(candidates))
        for at in order if number % 2 == 0 else reversed(order):
            if at in failed:
                continue
            head = f"round {number + 1}/{constraints.rounds}: {candidates[at].trial.label}"
            try:
                found[at].append(await _run(candidates[at], constraints, settings))
                tell(f"{head}: {found[at][-1].system_tokens_per_s:.1f} tokens/s")
            except _THEIR_OWN as error:
                failed[at] = error.message
                tell(f"{head}: {error.message}")
    return [_conclude(one.trial, found[at], failed.get(at)) for at, one in enumerate(candidates)]


async def _run(candidate: Candidate, constraints: Constraints, settings: Settings) -> Measured:
    artifact, trial = candidate.artifact, candidate.trial
    options = replace(engine_options(settings, artifact), threads=trial.threads, provider=trial.provider)
    return await brief(
        artifact.folder,
        options,
        streams=constraints.streams,
        prompt_tokens=constraints.prompt_tokens,
        new_tokens=constraints.new_tokens,
        rounds=1,
        command=_command(artifact.ref.name, trial, constraints),
    )


def _command(name: str, trial: Trial, constraints: Constraints) -> str:
    return (
        f"FOUNDRY_LITE_THREADS={trial.threads} FOUNDRY_LITE_PROVIDER={trial.provider} "
        f"foundry-lite bench {name}:{trial.variant} --streams {constraints.streams} "
        f"--prompt-tokens {constraints.prompt_tokens} --new-tokens {constraints.new_tokens}"
    )


def _conclude(trial: Trial, found: Sequence[Measured], failed: str | None) -> Trial:
    if failed is not None or not found:
        return msgspec.structs.replace(trial, failed=failed or "it was not measured")
    peaks = [one.peak_bytes for one in found if one.peak_bytes is not None]
    medians = {
        name: statistics.median(getattr(one, name) for one in found)
        for name in ("ttft_ms", "prefill_tokens_per_s", "decode_tokens_per_s", "system_tokens_per_s", "load_seconds")
    }
    worst = max((one.pressure for one in found if one.pressure), key=lambda one: one.taken, default=None)
    most = {"peak_bytes": max(peaks, default=None), "cached_tokens": max(one.cached_tokens for one in found)}
    return msgspec.structs.replace(
        trial,
        measured=msgspec.structs.replace(found[-1], **medians, **most, pressure=worst),
        ttft_rounds=tuple(one.ttft_ms for one in found),
        system_rounds=tuple(one.system_tokens_per_s for one in found),
    )
