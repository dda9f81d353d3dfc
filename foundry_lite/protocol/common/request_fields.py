"""Fields that every generating call has: the model, the stream, and those that OpenAI calls advisory.

Advisory fields are for OpenAI's service: its end users, what a dashboard keeps, and where to look for a cached
prompt. They change no answer there either, so they are checked and accepted.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal

from msgspec import Meta, Struct

from foundry_lite.protocol.common.decode import invalid_value

Count = Annotated[int, Meta(ge=1, le=2**31 - 1)]
_Label = Annotated[str, Meta(max_length=512)]
_Metadata = Annotated[dict[Annotated[str, Meta(max_length=64)], _Label], Meta(max_length=16)]


class StreamOptions(Struct, forbid_unknown_fields=True):
    """``stream_options``; ``include_timings`` is ours, ``continuous_usage_stats`` vLLM's."""

    include_usage: bool | None = None
    continuous_usage_stats: bool | None = None
    include_timings: bool | None = None
    include_obfuscation: Literal[False] | None = None


class AdvisoryBody(Struct, kw_only=True, forbid_unknown_fields=True):
    """Fields that are accepted and change nothing."""

    user: str | None = None
    metadata: _Metadata | None = None
    safety_identifier: _Label | None = None
    prompt_cache_key: _Label | None = None
    prompt_cache_retention: Literal["in_memory", "in-memory", "24h"] | None = None
    service_tier: Literal["auto", "default"] | None = None


class CallBody(AdvisoryBody, kw_only=True, forbid_unknown_fields=True):
    """A call of a model. ``keep_alive`` (ours) is how long the model stays loaded once it is idle."""

    model: Annotated[str, Meta(min_length=1, max_length=512)]
    stream: bool | None = None
    keep_alive: float | str | None = None


_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_LONGEST = 10**9  # seconds


def read_keep_alive(value: float | str | None) -> timedelta | None:
    """Read ``keep_alive``: seconds, or a text such as ``10m``, with Ollama's meanings.

    0 unloads as soon as the model is idle; a negative one never does (`timedelta.max`). Raises `InvalidRequest`.
    """
    if value is None:
        return None
    seconds = float(value) if isinstance(value, int | float) else _seconds(value.strip())
    if seconds < 0:
        return timedelta.max
    if not seconds <= _LONGEST:  # NaN too
        raise invalid_value("keep_alive", f"{value!r} is no duration")
    return timedelta(seconds=seconds)


def _seconds(text: str) -> float:
    unit = next((unit for unit in ("ms", "s", "m", "h") if text.endswith(unit)), "")
    try:
        return float(text.removesuffix(unit)) * _UNITS.get(unit, 1.0)
    except ValueError as error:
        raise invalid_value("keep_alive", f"{text!r} is no duration such as 10m") from error
