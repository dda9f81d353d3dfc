"""Timings of an answer: llama-server's ``timings`` with more phases, and the ``Server-Timing`` header.

Sources: llama-server's README, "timings" of ``/v1/chat/completions``; W3C, "Server Timing".
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from msgspec import UNSET, Struct, UnsetType, structs

from foundry_lite.generation import Delta, Timings
from foundry_lite.protocol.common.usage import sum_usage, total_usage

# Work for one answer alone, which adds up over the choices; all other times pass for all choices at once.
_WORK = ("sample", "detokenize")
_BESIDE = ("queue", "decode", "load", "total")  # what passes for all prompts at once
_HEADER = (
    "load", "queue", "template", "tokenize", "grammar", "prefill", "decode", "sample", "detokenize", "total"
)  # fmt: skip


class TimingsBody(Struct, frozen=True, kw_only=True):
    """Tokens and milliseconds. A part that did not happen, or that nobody measured, is left out.

    ``cache_n`` tokens of the prompt were taken over, ``prompt_n`` computed and ``predicted_n`` written. The first token
    of each choice comes with the prompt; the rates of ``predicted`` are those of the others.
    """

    cache_n: int
    prompt_n: int
    prompt_ms: float
    prompt_per_token_ms: float | UnsetType = UNSET
    prompt_per_second: float | UnsetType = UNSET
    predicted_n: int
    predicted_ms: float
    predicted_per_token_ms: float | UnsetType = UNSET
    predicted_per_second: float | UnsetType = UNSET
    queue_ms: float
    load_ms: float | UnsetType = UNSET
    template_ms: float | UnsetType = UNSET
    tokenize_ms: float | UnsetType = UNSET
    grammar_ms: float | UnsetType = UNSET
    sample_ms: float | UnsetType = UNSET
    detokenize_ms: float | UnsetType = UNSET
    total_ms: float | UnsetType = UNSET


def write_timings(ends: Collection[Delta], *, prompts: Collection[Collection[Delta]] = ()) -> TimingsBody | UnsetType:
    """Return the body of an answer whose choices ended with these deltas; nothing when they have no times.

    Those of several prompts are given as ``prompts``, one by one.
    """
    groups = prompts or (ends,)
    times = _sum_timings([one for group in groups if (one := total_timings(group)) is not None])
    usage = sum_usage(total_usage(end.usage for end in group) for group in groups)
    if times is None or usage is None:
        return UNSET
    computed, later = usage.prompt_tokens - usage.cached_tokens, usage.completion_tokens - len(ends)
    return TimingsBody(
        cache_n=usage.cached_tokens,
        prompt_n=computed,
        prompt_ms=_milliseconds(times.prefill),
        prompt_per_token_ms=_per_token(times.prefill, computed),
        prompt_per_second=_per_second(times.prefill, computed),
        predicted_n=usage.completion_tokens,
        predicted_ms=_milliseconds(times.decode),
        predicted_per_token_ms=_per_token(times.decode, later),
        predicted_per_second=_per_second(times.decode, later),
        queue_ms=_milliseconds(times.queue),
        load_ms=_known(times.load),
        template_ms=_known(times.template),
        tokenize_ms=_known(times.tokenize),
        grammar_ms=_known(times.grammar),
        sample_ms=_known(times.sample),
        detokenize_ms=_known(times.detokenize),
        total_ms=_known(times.total),
    )


def total_timings(ends: Iterable[Delta]) -> Timings | None:
    """Put the times of all choices together: the longest of each, and the sum of work; ``None`` when none is known."""
    known = [end.timings for end in ends if end.timings is not None]
    if not known:
        return None
    parts = {name: [getattr(one, name) for one in known] for name in Timings.__struct_fields__}
    return Timings(**{name: sum(all_) if name in _WORK else max(all_) for name, all_ in parts.items()})


def _sum_timings(prompts: Collection[Timings]) -> Timings | None:
    """Put the times of several prompts together: their work adds up, and they wait and decode beside each other."""
    if len(prompts) < 2:
        return next(iter(prompts), None)
    parts = {name: [getattr(one, name) for one in prompts] for name in Timings.__struct_fields__}
    return Timings(**{name: max(all_) if name in _BESIDE else sum(all_) for name, all_ in parts.items()})


def server_timing(times: Timings) -> str:
    """Return the value of a ``Server-Timing`` header, in milliseconds."""
    parts = structs.asdict(times)
    return header({name: parts[name] for name in _HEADER if parts[name] > 0 or name == "queue"})


def header(parts: dict[str, float]) -> str:
    """Return a ``Server-Timing`` header of these parts, given in seconds."""
    return ", ".join(f"{name};dur={seconds * 1e3:.3f}" for name, seconds in parts.items())


def _milliseconds(seconds: float) -> float:
    return round(seconds * 1e3, 3)


def _known(seconds: float) -> float | UnsetType:
    return _milliseconds(seconds) if seconds > 0 else UNSET


def _per_token(seconds: float, tokens: int) -> float | UnsetType:
    return _milliseconds(seconds / tokens) if tokens > 0 and seconds > 0 else UNSET


def _per_second(seconds: float, tokens: int) -> float | UnsetType:
    return round(tokens / seconds, 3) if tokens > 0 and seconds > 0 else UNSET
