"""OpenAI's plain completions, the request: a text or tokens to go on with; `protocol.completions.writer` writes it.

Sources: OpenAI's API reference, "Create completion", and the types of its Python client 3.52, read 2026-11; for the
fields beyond it, vLLM's "extra parameters for Completions API".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated

from msgspec import Meta
from msgspec.structs import replace

from foundry_lite.generation import GenerationRequest, Text, Tokens, ToolChoice
from foundry_lite.protocol.common.decode import convert, decode_object, invalid_value
from foundry_lite.protocol.common.output_format import GuidedBody, read_guide, refuse_conflicts
from foundry_lite.protocol.common.request_fields import StreamOptions, read_keep_alive
from foundry_lite.protocol.common.sampling import read_sampling, read_stop

UNSUPPORTED = frozenset(["suffix"])

MOST_ANSWERS = 128  # of all prompts together
_MOST_NEW_TOKENS = 16  # OpenAI's default
_MOST_LOGPROBS = 20

PromptText = Annotated[str, Meta(max_length=1 << 20)]
TokenId = Annotated[int, Meta(ge=0, le=2**31 - 1)]
_PromptPart = PromptText | TokenId | list[TokenId]
_Answers = Annotated[int, Meta(ge=1, le=MOST_ANSWERS)]


class CompletionBody(GuidedBody, kw_only=True, forbid_unknown_fields=True):
    """The body of a completion. A list as ``prompt`` is of one kind: texts, token ids, or lists of token ids."""

    prompt: PromptText | Annotated[list[_PromptPart], Meta(min_length=1)]
    stream_options: StreamOptions | None = None
    max_tokens: Annotated[int, Meta(ge=0, le=2**31 - 1)] | None = None
    n: _Answers | None = None
    best_of: _Answers | None = None
    echo: bool | None = None
    logprobs: Annotated[int, Meta(ge=0, le=_MOST_LOGPROBS)] | None = None
    # Beyond OpenAI's.
    add_special_tokens: bool | None = None


@dataclass(frozen=True, slots=True)
class CompletionCall:
    """A decoded completion request: the model, what to generate for each prompt, and how to answer.

    Each prompt gets ``best_of`` answers, of which the best ``choices`` are returned.
    """

    model: str
    requests: tuple[GenerationRequest, ...]
    streams: bool
    choices: int
    best_of: int
    echoes: bool
    has_logprobs: bool
    includes_usage: bool
    includes_timings: bool
    keep_alive: timedelta | None = None
    continuous_usage: bool = False


def decode_completion(body: bytes) -> CompletionCall:
    """Decode the body of a completion. Raises `InvalidRequest` naming the field."""
    fields = {
        name: one for name, one in decode_object(body).items() if one not in (None, "") or name not in UNSUPPORTED
    }
    wire = convert(fields, CompletionBody, known_unsupported=UNSUPPORTED)
    options = wire.stream_options
    if options is not None and not wire.stream:
        raise invalid_value("stream_options", "it is only allowed with 'stream': true")
    choices = wire.n or 1
    best_of = _best_of(wire, choices)
    prompts = _read_prompts(wire)
    if len(prompts) * best_of > MOST_ANSWERS:
        each = "" if best_of == 1 else f" with {best_of} answers each"
        raise invalid_value("prompt", f"{len(prompts)} prompts{each} are more than {MOST_ANSWERS} answers")
    request = _read_request(wire, prompts[0], best_of, picks=best_of > choices)
    return CompletionCall(
        model=wire.model,
        requests=tuple(replace(request, prompt=prompt) for prompt in prompts),
        streams=bool(wire.stream),
        choices=choices,
        best_of=best_of,
        echoes=bool(wire.echo),
        has_logprobs=wire.logprobs is not None,
        includes_usage=options is not None and bool(options.include_usage),
        includes_timings=options is not None and bool(options.include_timings),
        keep_alive=read_keep_alive(wire.keep_alive),
        continuous_usage=options is not None and bool(options.continuous_usage_stats),
    )


def _read_request(wire: CompletionBody, prompt: Text | Tokens, best_of: int, *, picks: bool) -> GenerationRequest:
    most = _MOST_NEW_TOKENS if wire.max_tokens is None else wire.max_tokens
    grammar = read_guide(wire)
    refuse_conflicts(grammar, ToolChoice(), min_tokens=wire.min_tokens or 0, ignore_eos=bool(wire.ignore_eos))
    return GenerationRequest(
        prompt=prompt,
        sampling=read_sampling(wire, most),
        max_new_tokens=most,
        stop=read_stop(wire),
        ignore_eos=bool(wire.ignore_eos),
        choices=best_of,
        top_logprobs=0 if wire.logprobs is None and picks else wire.logprobs,
        grammar=grammar,
        echo=bool(wire.echo),
        prompt_logprobs=wire.logprobs if wire.echo else None,
    )


def _best_of(wire: CompletionBody, choices: int) -> int:
    best_of = wire.best_of or choices
    if best_of < choices:
        raise invalid_value("best_of", f"the best {choices} of {best_of} answers cannot be told")
    if best_of > choices and wire.stream:
        raise invalid_value("best_of", "which answers are the best is known at their end, so they cannot be streamed")
    return best_of


def _read_prompts(wire: CompletionBody) -> list[Text | Tokens]:
    adds = wire.add_special_tokens is not False
    return [Text(one, adds) if isinstance(one, str) else Tokens(tuple(one)) for one in _split_prompts(wire.prompt)]


def _split_prompts(prompt: str | Sequence[str | int | list[int]]) -> list[str | list[int]]:
    if isinstance(prompt, str):
        return [prompt]
    if all(isinstance(one, int) for one in prompt):
        return [[one for one in prompt if isinstance(one, int)]]
    texts = [one for one in prompt if isinstance(one, str)]
    lists = [one for one in prompt if isinstance(one, list)]
    if len(prompt) not in (len(texts), len(lists)):
        raise invalid_value(
            "prompt", "a list is of texts, of token ids, or of lists of token ids, not of several kinds"
        )
    if any(not one for one in lists):
        raise invalid_value("prompt", "a list of token ids is empty")
    return [*texts, *lists]
