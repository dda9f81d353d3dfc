"""Tokens and times of an answer, as OpenAI and llama-server write them."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import UNSET, Struct, UnsetType

from foundry_lite.generation import Delta, Usage


class PromptTokensDetails(Struct, frozen=True):
    """Counts of prompt tokens by kind; ``cached_tokens`` were found in the KV cache and not computed again."""

    cached_tokens: int
    audio_tokens: int = 0


class CompletionTokensDetails(Struct, frozen=True):
    """Counts of the answer's tokens by kind."""

    reasoning_tokens: int
    audio_tokens: int = 0
    accepted_prediction_tokens: int = 0
    rejected_prediction_tokens: int = 0


class UsageBody(Struct, frozen=True):
    """OpenAI's ``usage`` object of chat and plain completions; the details are known at the end."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails | UnsetType = UNSET
    completion_tokens_details: CompletionTokensDetails | UnsetType = UNSET


class RunningUsage:
    """The ``usage`` of all chunks but the last: null if one was requested, or the tokens used so far.

    ``is_there``: the request asks for usage. ``is_told``: each chunk has it (``continuous_usage_stats``).
    """

    def __init__(self, *, is_there: bool, is_told: bool) -> None:
        self._is_there = is_there
        self._is_told = is_there and is_told
        self.prompt_tokens = 0
        self._made = 0

    def note(self, delta: Delta) -> None:
        """Count the tokens of a delta."""
        self._made += delta.tokens

    def body(self) -> UsageBody | UnsetType | None:
        """Return the ``usage`` of the next chunk."""
        if not self._is_told:
            return None if self._is_there else UNSET
        return UsageBody(self.prompt_tokens, self._made, self.prompt_tokens + self._made)


def write_usage(usage: Usage | None) -> UsageBody | None:
    """Return the body; ``None`` when nothing is known."""
    if usage is None:
        return None
    return UsageBody(
        usage.prompt_tokens,
        usage.completion_tokens,
        usage.total_tokens,
        PromptTokensDetails(usage.cached_tokens),
        CompletionTokensDetails(usage.reasoning_tokens),
    )


def total_usage(usages: Iterable[Usage | None]) -> Usage | None:
    """Add up the usage of all choices of one prompt; ``None`` when none is known.

    The prompt counts once. So do its cached tokens: those of the choice that found the fewest, since that one
    computed what the others then found.
    """
    known = [usage for usage in usages if usage is not None]
    if not known:
        return None
    return Usage(
        prompt_tokens=known[0].prompt_tokens,
        completion_tokens=sum(usage.completion_tokens for usage in known),
        cached_tokens=min(usage.cached_tokens for usage in known),
        reasoning_tokens=sum(usage.reasoning_tokens for usage in known),
    )


def sum_usage(usages: Iterable[Usage | None]) -> Usage | None:
    """Add up the usage of several prompts; ``None`` when none is known."""
    known = [usage for usage in usages if usage is not None]
    if not known:
        return None
    return Usage(
        prompt_tokens=sum(usage.prompt_tokens for usage in known),
        completion_tokens=sum(usage.completion_tokens for usage in known),
        cached_tokens=sum(usage.cached_tokens for usage in known),
        reasoning_tokens=sum(usage.reasoning_tokens for usage in known),
    )
