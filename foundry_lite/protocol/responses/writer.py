"""OpenAI's Responses API, the answer: deltas in; the response object out, or the events that lead up to it.

An answer is a list of items, made one after the other: reasoning, a message, function calls. Each
begins with an event, grows by deltas, and ends with an event that has all of it.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable, Iterator
from itertools import count
from typing import TypedDict

import msgspec

from foundry_lite.generation import CallPiece, Delta, Finish, Logprob, TokenLogprob
from foundry_lite.protocol import sse
from foundry_lite.protocol.common.timings import write_timings
from foundry_lite.protocol.errors import ErrorReply
from foundry_lite.protocol.responses.bodies import (
    Circumstances,
    IncompleteDetails,
    ResponseErrorBody,
    ResponseObject,
    State,
    blank_response,
    write_response_usage,
)
from foundry_lite.protocol.responses.events import (
    ArgumentsDelta,
    ArgumentsDone,
    ErrorEvent,
    ItemAdded,
    ItemDone,
    ItemEvent,
    PartAdded,
    PartDone,
    ReasoningDelta,
    ReasoningDone,
    ResponseCompleted,
    ResponseCreated,
    ResponseEvent,
    ResponseFailed,
    ResponseIncomplete,
    ResponseInProgress,
    TextDelta,
    TextDone,
)
from foundry_lite.protocol.responses.items import (
    FunctionCall,
    LogprobBody,
    OutputItem,
    OutputMessage,
    OutputText,
    Reasoning,
    ReasoningText,
    Status,
    TopLogprobBody,
    item_id,
)
from foundry_lite.protocol.responses.request import ResponseCall

_LAST: dict[str, type[ResponseCompleted | ResponseIncomplete]] = {
    "completed": ResponseCompleted,
    "incomplete": ResponseIncomplete,
}


class _Place(TypedDict):
    sequence_number: int
    output_index: int
    item_id: str


class ResponseWriter:
    """Writes one response: its id and its time are the same in every part."""

    choices = 1

    def __init__(self, call: ResponseCall, around: Circumstances) -> None:
        self.id = f"resp_{secrets.token_hex(24)}"
        self._blank = blank_response(self.id, int(time.time()), call, around)
        self._first_item = len(call.items)  # the input has the numbers before it
        self._numbers = count()
        self._output = _Output(self.id, self._first_item, self._numbers)
        self._end: Delta | None = None
        self._is_open = False
        self._completed: int | None = None  # in seconds since 1970, once and for all

    def whole(self, deltas: list[Delta]) -> ResponseObject:
        """Return the response that all of its deltas make, whatever has been written of them before."""
        output = _Output(self.id, self._first_item, count())
        for delta in deltas:
            for _ in output.take(delta):
                pass
        return self._ended(output.items, deltas[-1])

    def so_far(self, state: State, error: ResponseErrorBody | None = None) -> ResponseObject:
        """Return the response as far as it has been written."""
        return msgspec.structs.replace(self._blank, status=state, error=error, output=self._output.items)

    def opening(self, _prompt_tokens: int = 0, /) -> bytes:
        """Return the first events: ``response.created`` and ``response.in_progress``."""
        self._is_open = True
        created = ResponseCreated(sequence_number=next(self._numbers), response=self._blank)
        begun = ResponseInProgress(sequence_number=next(self._numbers), response=self._blank)
        return _write([created, begun])

    def write(self, batch: list[Delta]) -> bytes:
        """Return the events of some deltas."""
        self._end = batch[-1]
        return _write(event for delta in batch for event in self._output.take(delta))

    def closing(self) -> bytes:
        """Return the last event, which has all of the response."""
        assert self._end is not None
        response = self._ended(self._output.items, self._end)
        return _write([_LAST[response.status](sequence_number=next(self._numbers), response=response)])

    def failure(self, reply: ErrorReply) -> bytes:
        """Return the event of an error in mid-stream."""
        number = next(self._numbers)
        if not self._is_open:
            return _write(
                [ErrorEvent(sequence_number=number, code=reply.code, message=reply.message, param=reply.param)]
            )
        failed = ResponseFailed(sequence_number=number, response=self.so_far("failed", response_error(reply)))
        return _write([failed])

    def broken_off(self, state: State, error: ResponseErrorBody | None = None) -> bytes:
        """Return the last event of a response that was cancelled, for which OpenAI has none, or stopped."""
        return _write([ResponseFailed(sequence_number=next(self._numbers), response=self.so_far(state, error))])

    def forget(self) -> None:
        """Report ``store: false`` from now on."""
        self._blank = msgspec.structs.replace(self._blank, store=False)

    def _ended(self, output: list[OutputItem], last: Delta) -> ResponseObject:
        is_cut = last.finish is Finish.LENGTH
        self._completed = self._completed or int(time.time())
        return msgspec.structs.replace(
            self._blank,
            status="incomplete" if is_cut else "completed",
            completed_at=None if is_cut else self._completed,
            incomplete_details=IncompleteDetails() if is_cut else None,
            output=output,
            usage=write_response_usage(last.usage),
            timings=write_timings([last]),
        )


def response_error(reply: ErrorReply) -> ResponseErrorBody:
    """Return the ``error`` of a response that failed."""
    if reply.status in (429, 503):
        return ResponseErrorBody("rate_limit_exceeded", reply.message)
    return ResponseErrorBody("invalid_prompt" if reply.status < 500 else "server_error", reply.message)


class _Output:
    """The items so far: those that are whole, and one that is under way."""

    def __init__(self, response: str, first: int, numbers: Iterator[int]) -> None:
        self._response = response
        self._first = first
        self._numbers = numbers
        self._whole: list[OutputItem] = []
        self._item: OutputItem | None = None
        self._texts: list[str] = []  # of the item under way: its content, or its arguments
        self._logprobs: list[LogprobBody] = []
        self._untold: list[TokenLogprob] = []  # of text that is held back, or of delimiters around reasoning and calls

    @property
    def items(self) -> list[OutputItem]:
        return [*self._whole] if self._item is None else [*self._whole, self._filled(self._item, "in_progress")]

    def take(self, delta: Delta) -> Iterator[ItemEvent]:
        """Yield the events of one delta."""
        self._untold += delta.logprobs
        if delta.reasoning:
            yield from self._reason(delta.reasoning)
        if delta.text:
            yield from self._say(delta.text, self._logprobs_of(delta.text))
        for piece in delta.calls:
            yield from self._call(piece)
        if delta.finish is not None:
            yield from self._finish(delta.finish)

    def _reason(self, text: str) -> Iterator[ItemEvent]:
        if not isinstance(self._item, Reasoning):
            yield from self._begin(Reasoning(self._id("reasoning"), content=[], status="in_progress"))
            yield PartAdded(**self._place(), part=ReasoningText(""))
        self._texts.append(text)
        yield ReasoningDelta(**self._place(), delta=text)

    def _say(self, text: str, logprobs: list[LogprobBody]) -> Iterator[ItemEvent]:
        if not isinstance(self._item, OutputMessage):
            yield from self._begin(OutputMessage(self._id("message"), [], "in_progress"))
            yield PartAdded(**self._place(), part=OutputText(""))
        if text:
            self._texts.append(text)
            self._logprobs += logprobs
            yield TextDelta(**self._place(), delta=text, logprobs=logprobs)

    def _logprobs_of(self, text: str) -> list[LogprobBody]:
        """Return the logprobs of the last tokens, as many as make up the text; those before them are of delimiters."""
        untold, self._untold = self._untold, []
        first, rest = len(untold), len(text.encode())
        while rest > 0 and first > 0:
            first -= 1
            rest -= len(untold[first].chosen.bytes)
        return [_write_token(token) for token in untold[first:]]

    def _call(self, piece: CallPiece) -> Iterator[ItemEvent]:
        if piece.id:
            identity = self._id("function_call")
            yield from self._begin(FunctionCall("", piece.id, piece.name, identity, "in_progress"))
        if piece.arguments:
            self._texts.append(piece.arguments)
            yield ArgumentsDelta(**self._place(), delta=piece.arguments)

    def _finish(self, finish: Finish) -> Iterator[ItemEvent]:
        if not self._whole and self._item is None:
            yield from self._say("", [])  # an answer of nothing is an empty message
        yield from self._close("incomplete" if finish is Finish.LENGTH else "completed")

    def _begin(self, item: OutputItem) -> Iterator[ItemEvent]:
        yield from self._close("completed")
        self._item, self._texts, self._logprobs = item, [], []
        yield ItemAdded(sequence_number=next(self._numbers), output_index=len(self._whole), item=item)

    def _close(self, status: Status) -> Iterator[ItemEvent]:
        if self._item is None:
            return
        item = self._filled(self._item, status)
        match item:
            case OutputMessage(content=[part]):
                yield TextDone(**self._place(), text=part.text, logprobs=self._logprobs)
                yield PartDone(**self._place(), part=part)
            case Reasoning(content=[thought]):
                yield ReasoningDone(**self._place(), text=thought.text)
                yield PartDone(**self._place(), part=thought)
            case FunctionCall():
                yield ArgumentsDone(**self._place(), name=item.name, arguments=item.arguments)
        yield ItemDone(sequence_number=next(self._numbers), output_index=len(self._whole), item=item)
        self._whole.append(item)
        self._item = None

    def _filled(self, item: OutputItem, status: Status) -> OutputItem:
        text = "".join(self._texts)
        match item:
            case OutputMessage():
                part = OutputText(text, [], self._logprobs)
                return msgspec.structs.replace(item, content=[part], status=status)
            case Reasoning():
                return msgspec.structs.replace(item, content=[ReasoningText(text)], status=status)
            case FunctionCall():
                return msgspec.structs.replace(item, arguments=text, status=status)

    def _place(self) -> _Place:
        assert self._item is not None
        assert self._item.id is not None
        return {"sequence_number": next(self._numbers), "output_index": len(self._whole), "item_id": self._item.id}

    def _id(self, kind: str) -> str:
        return item_id(kind, self._response, self._first + len(self._whole) + (self._item is not None))


def _write(events: Iterable[ResponseEvent]) -> bytes:
    return b"".join(sse.event(event, str(event.__struct_config__.tag)) for event in events)


def _write_token(token: TokenLogprob) -> LogprobBody:
    top = [TopLogprobBody(*_write_logprob(one)) for one in token.top]
    return LogprobBody(*_write_logprob(token.chosen), top)


def _write_logprob(one: Logprob) -> tuple[str, list[int], float]:
    return one.token, list(one.bytes), one.logprob
