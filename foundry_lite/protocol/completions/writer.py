"""OpenAI's plain completions, the answer: deltas in, JSON out, whole or in chunks.

Source: OpenAI's API reference, "The completion object", read 2026-11. Its logprobs are parallel lists, the offsets of
which count the characters of the choice's text; a token that is a part of a character is written as ``bytes:`` and
what Python's literals have for each.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from typing import Literal

from msgspec import UNSET, Struct, UnsetType

from foundry_lite.generation import Delta, Echo, Finish, Logprob, TokenLogprob
from foundry_lite.protocol import sse
from foundry_lite.protocol.common.served import Served, ServedModel
from foundry_lite.protocol.common.timings import TimingsBody, write_timings
from foundry_lite.protocol.common.usage import RunningUsage, UsageBody, sum_usage, total_usage, write_usage
from foundry_lite.protocol.completions.request import CompletionCall
from foundry_lite.protocol.errors import ErrorReply


class CompletionLogprobs(Struct, kw_only=True):
    """Logprobs of the tokens, as parallel lists; the first token of a prompt follows nothing, and has ``null``."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None]
    text_offset: list[int]


class CompletionChoice(Struct, kw_only=True):
    """A choice, or a piece of it. ``index`` counts the choices of the first prompt, then those of the second."""

    index: int
    text: str
    logprobs: CompletionLogprobs | None = None
    finish_reason: Literal["stop", "length"] | None = None


class Completion(Struct, kw_only=True):
    """The whole answer; each chunk of a stream has the same shape, and the first of them ``foundry_lite``."""

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: UsageBody | UnsetType | None = UNSET
    timings: TimingsBody | UnsetType = UNSET
    system_fingerprint: str | None = None
    foundry_lite: ServedModel | UnsetType = UNSET


class CompletionWriter:
    """Writes the answer to one call: its id, its time and its model are the same in every part.

    The ``choice`` of a delta counts the answers made for the first prompt, then those for the second.
    """

    def __init__(self, served: Served, call: CompletionCall) -> None:
        self.id = f"cmpl-{secrets.token_hex(16)}"
        self.choices = len(call.requests) * call.best_of
        self._created = int(time.time())
        self._served = served
        self._has_told = False  # which model answers
        self._call = call
        self._running = RunningUsage(is_there=call.streams and call.includes_usage, is_told=call.continuous_usage)
        self._ends: list[Delta] = []
        self._echoes: dict[int, Echo] = {}  # by the number of the prompt
        self._begun: set[int] = set()  # choices whose prompt has been returned

    def whole(self, deltas: list[Delta]) -> Completion:
        """Return the whole answer."""
        self._note(deltas)
        by_choice: list[list[Delta]] = [[] for _ in range(self.choices)]
        for delta in deltas:
            by_choice[delta.choice].append(delta)
        body = self._body([self._whole_choice(index, mine) for index, mine in enumerate(self._best(by_choice))])
        body.usage, body.timings = self._usage(), self._timings()
        return body

    def opening(self, prompt_tokens: int = 0, /) -> bytes:
        """Return nothing: a stream of completions has no head."""
        self._running.prompt_tokens = prompt_tokens
        return b""

    def write(self, batch: list[Delta]) -> bytes:
        """Return the chunks for some deltas."""
        self._note(batch)
        choices = (choice for delta in batch if (choice := self._piece(delta)) is not None)
        return b"".join(sse.event(self._body([choice])) for choice in choices)

    def closing(self) -> bytes:
        """Return the last chunk, which has no choice but what was asked of the whole, and the end of the stream."""
        if not (self._call.includes_usage or self._call.includes_timings):
            return sse.DONE
        last = self._body([])
        last.usage = self._usage() if self._call.includes_usage else UNSET
        last.timings = self._timings() if self._call.includes_timings else UNSET
        return sse.event(last) + sse.DONE

    def failure(self, reply: ErrorReply) -> bytes:
        """Return the event of an error in mid-stream; no ``[DONE]`` follows, since the answer is not done."""
        return sse.event(reply.body)

    def _note(self, deltas: list[Delta]) -> None:
        for delta in deltas:
            if delta.finish is not None:
                self._ends.append(delta)
            if delta.echo is not None:
                self._echoes[self._prompt_of(delta)] = delta.echo

    def _best(self, by_choice: list[list[Delta]]) -> list[list[Delta]]:
        """Return the best answers of each prompt: those with the highest mean logprob of their tokens."""
        made, told = self._call.best_of, self._call.choices
        if made == told:
            return by_choice
        groups = [by_choice[start : start + made] for start in range(0, self.choices, made)]
        return [mine for group in groups for mine in sorted(group, key=_mean_logprob, reverse=True)[:told]]

    def _whole_choice(self, index: int, deltas: list[Delta]) -> CompletionChoice:
        echo = self._echoes.get(self._prompt_of(deltas[0])) if deltas else None
        return CompletionChoice(
            index=index,
            text=(echo.text if echo else "") + "".join(delta.text for delta in deltas),
            logprobs=self._logprobs(echo, [token for delta in deltas for token in delta.logprobs]),
            finish_reason=_reason(deltas[-1].finish) if deltas else None,
        )

    def _piece(self, delta: Delta) -> CompletionChoice | None:
        """Return a delta as a chunk has it, behind the prompt if it is a choice's first; ``None`` when it is empty."""
        self._running.note(delta)
        echo = None if delta.choice in self._begun else self._echoes.get(self._prompt_of(delta))
        self._begun.add(delta.choice)
        text = (echo.text if echo else "") + delta.text
        if not (text or delta.logprobs or delta.finish):
            return None
        return CompletionChoice(
            index=delta.choice,
            text=text,
            logprobs=self._logprobs(echo, delta.logprobs, self._echoes.get(self._prompt_of(delta))),
            finish_reason=_reason(delta.finish),
        )

    def _logprobs(
        self, echo: Echo | None, tokens: Sequence[TokenLogprob], before: Echo | None = None
    ) -> CompletionLogprobs | None:
        """Return the logprobs of a prompt echoed here, and of the answer behind it or a prompt echoed ``before``."""
        if not self._call.has_logprobs:
            return None
        prompt = echo.tokens if echo else ()
        told = echo or before
        shift = len(told.text) if told else 0
        return CompletionLogprobs(
            tokens=[_spell(one.chosen) for one in (*prompt, *tokens)],
            token_logprobs=[*_first_unknown(prompt), *(one.chosen.logprob for one in tokens)],
            top_logprobs=[*([None] if prompt else []), *map(_write_top, (*prompt[1:], *tokens))],
            text_offset=[*(one.start for one in prompt), *(one.start + shift for one in tokens)],
        )

    def _body(self, choices: list[CompletionChoice]) -> Completion:
        usage = self._running.body()
        served, body = self._served, UNSET if self._has_told else self._served.body
        self._has_told = True
        return Completion(
            id=self.id,
            created=self._created,
            model=served.asked,
            choices=choices,
            usage=usage,
            system_fingerprint=served.fingerprint,
            foundry_lite=body,
        )

    def _prompt_of(self, delta: Delta) -> int:
        return delta.choice // self._call.best_of

    def _by_prompt(self) -> list[list[Delta]]:
        groups: dict[int, list[Delta]] = {}
        for end in self._ends:
            groups.setdefault(self._prompt_of(end), []).append(end)
        return list(groups.values())

    def _usage(self) -> UsageBody | None:
        return write_usage(sum_usage(total_usage(end.usage for end in group) for group in self._by_prompt()))

    def _timings(self) -> TimingsBody | UnsetType:
        return write_timings(self._ends, prompts=self._by_prompt())


def _reason(finish: Finish | None) -> Literal["stop", "length"] | None:
    if finish is None:
        return None
    return "length" if finish is Finish.LENGTH else "stop"


def _mean_logprob(deltas: list[Delta]) -> float:
    values = [token.chosen.logprob for delta in deltas for token in delta.logprobs]
    return sum(values) / len(values) if values else 0.0


def _first_unknown(prompt: Sequence[TokenLogprob]) -> list[float | None]:
    return [None if place == 0 else one.chosen.logprob for place, one in enumerate(prompt)]


def _write_top(token: TokenLogprob) -> dict[str, float]:
    """Return the likeliest tokens and the one that stands there."""
    return {_spell(one): one.logprob for one in (*token.top, token.chosen)}


def _spell(one: Logprob) -> str:
    try:
        return one.bytes.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in one.bytes)
