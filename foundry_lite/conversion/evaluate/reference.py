"""Reference of a source: an `Enquiry` by `quality`, and the recorded answers and logprobs of the source model.

Two files in one folder: ``reference.json`` has everything but the numbers, ``reference.npz`` the numbers of each text.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from foundry_lite.errors import BuildFailed
from foundry_lite.generation import Chat, Message, Tool

RECORD, ARRAYS = "reference.json", "reference.npz"


class Question(Struct, frozen=True):
    """A conversation in transformers' format. ``answer`` is the expected assistant message, if it is known."""

    messages: tuple[dict[str, Any], ...]
    tools: tuple[dict[str, Any], ...] | None = None
    max_tokens: int = 0
    answer: dict[str, Any] | None = None
    name: str = ""  # as errors call it


class Enquiry(Struct, frozen=True):
    """Input of the reference run: texts to score, chats to render, questions to answer.

    ``texts`` are predicted token by token, ``longest`` tokens of each. ``questions``, in the order of goldens and
    cases, are answered greedily; ``own_texts`` are the indices of those scored as texts too, with their answers.
    ``chats`` are only rendered.
    """

    texts: tuple[str, ...]
    longest: int
    chats: tuple[Question, ...]
    questions: tuple[Question, ...]
    own_texts: tuple[int, ...]
    context_length: int


class Rendered(Struct, frozen=True):
    """Prompt tokens of a conversation, generation prompt included, or the error by which transformers refuses it."""

    tokens: tuple[int, ...] = ()
    error: str = ""


class Record(Struct, frozen=True):
    """``reference.json``. ``date`` is that of the renderings: some templates write it into the prompt."""

    date: str
    prefix: int  # tokens that stand before each of the neutral texts: the one that begins a text, if there is one
    neutral: int  # how many of the texts are neutral; the others are the user's own
    chats: tuple[Rendered, ...]
    prompts: tuple[tuple[int, ...], ...]  # of the questions
    answers: tuple[tuple[int, ...], ...]  # of the questions, an end-of-sequence token included
    eos: tuple[int, ...]  # the end-of-sequence tokens


@dataclass(frozen=True, slots=True)
class Passage:
    """Reference of one text: the source's logprobs from position ``first`` on, each for the token after it.

    ``ids`` and ``logprobs (positions, kept)`` are the likeliest tokens, the best first, with their natural logarithms;
    ``losses (positions,)`` are the negative logarithms of the tokens that really follow. They are empty where there is
    no source.
    """

    tokens: list[int]
    first: int
    ids: NDArray[np.int64]
    logprobs: NDArray[np.float32]
    losses: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Reference:
    """Both files."""

    record: Record
    neutral: tuple[Passage, ...]
    own: tuple[Passage, ...]


def read_reference(folder: Path) -> Reference:
    """Read what `ask_source` has left in ``folder``. Raises `BuildFailed` when it cannot be read."""
    try:
        record = msgspec.json.decode((folder / RECORD).read_bytes(), type=Record)
        with np.load(folder / ARRAYS, allow_pickle=False) as arrays:
            count = sum(name.startswith("tokens_") for name in arrays.files)
            passages = tuple(_passage(arrays, number) for number in range(count))
    except (OSError, ValueError, KeyError, msgspec.DecodeError) as error:
        raise BuildFailed(f"what was recorded of the source cannot be read: {error}", hint="Build it anew.") from error
    return Reference(record, passages[: record.neutral], passages[record.neutral :])


def _passage(arrays: Any, number: int) -> Passage:
    tokens = arrays[f"tokens_{number}"].tolist()
    ids, logprobs, losses = (arrays[f"{name}_{number}"] for name in ("ids", "logprobs", "losses"))
    return Passage(tokens, len(tokens) - 1 - len(losses), ids.astype(np.int64), logprobs, losses)


def as_question(chat: Chat, *, max_tokens: int = 0, answer: dict[str, Any] | None = None, name: str = "") -> Question:
    """Return a conversation as transformers' templates take it, which is what the engine gives them too."""
    tools = None if chat.tools is None else tuple(_tool(one) for one in chat.tools)
    return Question(tuple(_message(one) for one in chat.messages), tools, max_tokens, answer, name)


def call_turn(calls: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the assistant message that makes these calls, each with a ``name`` and ``arguments``."""
    wrapped = [{"id": f"call_{i}", "type": "function", "function": one} for i, one in enumerate(calls)]
    return {"role": "assistant", "content": None, "tool_calls": wrapped}


def _message(message: Message) -> dict[str, Any]:
    out: dict[str, Any] = {"role": str(message.role), "content": message.content}
    out |= {} if message.name is None else {"name": message.name}
    out |= {} if message.tool_call_id is None else {"tool_call_id": message.tool_call_id}
    if message.tool_calls:
        out["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": _parse(call.arguments)}}
            for call in message.tool_calls
        ]
    return out


def _parse(arguments: str) -> Any:
    try:
        return json.loads(arguments)
    except ValueError:
        return arguments


def _tool(tool: Tool) -> dict[str, Any]:
    function: dict[str, Any] = {"name": tool.name}
    function |= {} if tool.description is None else {"description": tool.description}
    return {"type": "function", "function": function | {"parameters": tool.parameters or {}}}
