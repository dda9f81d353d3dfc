"""The short measurement that every build ends with: enough for the card, not a benchmark (`bench`, `tune`)."""

from __future__ import annotations

from pathlib import Path

from foundry_lite.bench.benchmark import brief
from foundry_lite.catalog.report import Measured
from foundry_lite.engine.client.engine import EngineOptions
from foundry_lite.settings import Settings

_PROMPT, _NEW, _STREAMS, _ROUNDS = 128, 32, 4, 2


async def measure(folder: Path, name: str, context_length: int, settings: Settings) -> Measured | None:
    """Measure one variant; ``None`` when its context is too short for the workload."""
    if min(context_length, settings.context_length) < _PROMPT + _NEW:
        return None
    options = EngineOptions(threads=settings.threads, slots=_STREAMS, context_length=_PROMPT + _NEW)
    command = f"foundry-lite bench {name} --prompt-tokens {_PROMPT} --new-tokens {_NEW} --streams 1,{_STREAMS}"
    return await brief(
        folder, options, streams=_STREAMS, prompt_tokens=_PROMPT, new_tokens=_NEW, rounds=_ROUNDS, command=command
    )
