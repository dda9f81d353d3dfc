"""OpenAI's chat completions, the answer: deltas in, JSON out, whole or in chunks.

`protocol.chat.bodies` has the shapes.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable, Iterator

from msgspec import UNSET

from foundry_lite.generation import CallPiece, Delta, Finish, Logprob, TokenLogprob, ToolCall, join_calls
from foundry_lite.protocol import sse
from foundry_lite.protocol.chat.bodies import (
    ChatChoice,
    ChatChunk,
    ChatCompletion,
    ChatDelta,
    ChatMessage,
    ChatToolCall,
    ChunkChoice,
    FunctionCall,
    FunctionPiece,
    LogprobBody,
    LogprobsBody,
    TokenLogprobBody,
    ToolCallPiece,
)
from foundry_lite.protocol.common.served import Served
from foundry_lite.protocol.common.timings import write_timings
from foundry_lite.protocol.common.usage import RunningUsage, total_usage, write_usage
from foundry_lite.protocol.errors import ErrorReply


class AnswerWriter:
    """Writes one answer: its id, its time and its model are the same in every part.

    ``choices`` is how many choices it has; the request asked for logprobs, or for usage or timings at the end of a
    stream, or not. The chunks before a usage that was asked for have one that is null; with ``continuous_usage`` it is
    what was used until then.
    """

    def __init__(
        self,
        served: Served,
        choices: int = 1,
        *,
        has_logprobs: bool = False,
        includes_usage: bool = False,
        includes_timings: bool = False,
        continuous_usage: bool = False,
    ) -> None:
        self.id = f"chatcmpl-{secrets.token_hex(16)}"
        self.choices = choices
        self._created = int(time.time())
        self._served = served
        self._has_logprobs = has_logprobs
        self._includes_usage = includes_usage
        self._includes_timings = includes_timings
        self._usage = RunningUsage(is_there=includes_usage, is_told=continuous_usage)
        self._ends: list[Delta] = []

    def whole(self, deltas: list[Delta]) -> ChatCompletion:
        """Return the whole answer, as a response that is not streamed."""
        by_choice: list[list[Delta]] = [[] for _ in range(self.choices)]
        for delta in deltas:
            by_choice[delta.choice].append(delta)
        ends = [delta for delta in deltas if delta.finish is not None]
        return ChatCompletion(
            id=self.id,
            created=self._created,
            model=self._served.asked,
            system_fingerprint=self._served.fingerprint,
            choices=[self._whole_choice(index, mine) for index, mine in enumerate(by_choice)],
            usage=write_usage(total_usage(end.usage for end in ends)),
            timings=write_timings(ends),
            foundry_lite=self._served.body,
        )

    def opening(self, prompt_tokens: int = 0, /) -> bytes:
        """Return the first chunk of each choice: the role, and which model answers."""
        self._usage.prompt_tokens = prompt_tokens
        chunks = [self._chunk(index, ChatDelta(role="assistant", content="")) for index in range(self.choices)]
        for chunk in chunks:
            chunk.foundry_lite = self._served.body
        return b"".join(map(sse.event, chunks))

    def write(self, batch: list[Delta]) -> bytes:
        """Return the chunks for some deltas."""
        self._ends += [delta for delta in batch if delta.finish is not None]
        return b"".join(sse.event(chunk) for delta in batch for chunk in self._chunks(delta))

    def closing(self) -> bytes:
        """Return the last chunk, which has no choice but what was asked of the whole, and the end of the stream."""
        if not (self._includes_usage or self._includes_timings):
            return sse.DONE
        last = ChatChunk(
            id=self.id,
            created=self._created,
            model=self._served.asked,
            system_fingerprint=self._served.fingerprint,
            choices=[],
        )
        if self._includes_usage:
            last.usage = write_usage(total_usage(end.usage for end in self._ends))
        if self._includes_timings:
            last.timings = write_timings(self._ends)
        return sse.event(last) + sse.DONE

    def failure(self, reply: ErrorReply) -> bytes:
        """Return the event of an error in mid-stream; no ``[DONE]`` follows, since the answer is not done."""
        return sse.event(reply.body)

    def _chunks(self, delta: Delta) -> list[ChatChunk]:
        """Return the chunks for one delta; the one with the finish reason has no content.

        The logprobs are in the first of them. A delta whose text is held back may have nothing else: then
        they come with an empty content.
        """
        self._usage.note(delta)
        bodies = list(_write_delta(delta))
        if delta.logprobs and not bodies and delta.finish is None:
            bodies.append(ChatDelta(content=""))
        chunks = [self._chunk(delta.choice, body) for body in bodies]
        if delta.finish is not None:
            chunks.append(self._chunk(delta.choice, ChatDelta(), delta.finish))
        if delta.logprobs:
            chunks[0].choices[0].logprobs = _write_logprobs(delta.logprobs)
        return chunks

    def _whole_choice(self, index: int, deltas: list[Delta]) -> ChatChoice:
        text = "".join(delta.text for delta in deltas)
        calls = [_write_call(call) for call in join_calls(piece for delta in deltas for piece in delta.calls)]
        message = ChatMessage(
            content=text or (None if calls else ""),
            reasoning_content="".join(delta.reasoning for delta in deltas) or UNSET,
            tool_calls=calls or UNSET,
        )
        tokens = [token for delta in deltas for token in delta.logprobs]
        return ChatChoice(
            index=index,
            message=message,
            logprobs=_write_logprobs(tokens) if self._has_logprobs else None,
            finish_reason=deltas[-1].finish if deltas else None,
        )

    def _chunk(self, index: int, delta: ChatDelta, finish: Finish | None = None) -> ChatChunk:
        return ChatChunk(
            id=self.id,
            created=self._created,
            model=self._served.asked,
            system_fingerprint=self._served.fingerprint,
            choices=[ChunkChoice(index=index, delta=delta, finish_reason=finish)],
            usage=self._usage.body(),
        )


def _write_delta(delta: Delta) -> Iterator[ChatDelta]:
    if delta.reasoning:
        yield ChatDelta(reasoning_content=delta.reasoning)
    if delta.text:
        yield ChatDelta(content=delta.text)
    for piece in delta.calls:
        yield from _write_piece(piece)


def _write_piece(piece: CallPiece) -> Iterator[ChatDelta]:
    """Yield the deltas of a piece: the first of a call has its id, type and name, and no arguments."""
    if piece.id:
        head = FunctionPiece(name=piece.name, arguments="")
        yield ChatDelta(tool_calls=[ToolCallPiece(index=piece.index, id=piece.id, type="function", function=head)])
    if piece.arguments:
        rest = FunctionPiece(arguments=piece.arguments)
        yield ChatDelta(tool_calls=[ToolCallPiece(index=piece.index, function=rest)])


def _write_call(call: ToolCall) -> ChatToolCall:
    return ChatToolCall(call.id, FunctionCall(call.name, call.arguments))


def _write_logprobs(tokens: Iterable[TokenLogprob]) -> LogprobsBody:
    return LogprobsBody([_write_token(token) for token in tokens])


def _write_token(token: TokenLogprob) -> TokenLogprobBody:
    chosen = _write_logprob(token.chosen)
    return TokenLogprobBody(chosen.token, chosen.bytes, chosen.logprob, [_write_logprob(one) for one in token.top])


def _write_logprob(one: Logprob) -> LogprobBody:
    return LogprobBody(one.token, list(one.bytes), one.logprob)
