"""The vocabulary of one generation, shared by the daemon and the worker.

These values cross the pipe between the two processes as they are, so they are msgspec structs; they know neither
OpenAI's JSON nor tokens of a particular model.
"""

from __future__ import annotations

import builtins
from enum import StrEnum
from typing import Any

from msgspec import Struct


class Role(StrEnum):
    """Who speaks."""

    SYSTEM = "system"
    DEVELOPER = "developer"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


class ToolCall(Struct, frozen=True):
    """A call of a tool; ``arguments`` is JSON text, as OpenAI's clients write and read it."""

    id: str
    name: str
    arguments: str


class Message(Struct, frozen=True, omit_defaults=True):
    """One turn of a conversation. ``content`` is ``None`` only beside ``tool_calls``."""

    role: Role
    content: str | None = None
    name: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None


class Tool(Struct, frozen=True):
    """A function that the model may call; ``parameters`` is its JSON Schema."""

    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None


class Chat(Struct, frozen=True, tag="chat"):
    """A conversation to continue. ``tools=None`` means that the caller said nothing of tools."""

    messages: tuple[Message, ...]
    tools: tuple[Tool, ...] | None = None


class Tokens(Struct, frozen=True, tag="tokens"):
    """Token ids to continue as they are: for measuring, where the length must be exact."""

    ids: tuple[int, ...]


class Sampling(Struct, frozen=True, omit_defaults=True):
    """How the next token is chosen. ``None`` leaves a choice to the model's own defaults.

    ``temperature`` 0 is greedy. ``top_k`` 0 keeps all tokens; ``min_p`` keeps those at least that share as likely as
    the best. The penalties have OpenAI's meaning and count the tokens of the answer; ``repetition_penalty``
    (1.0: none) is that of the CTRL paper and transformers, and counts those of the prompt too. ``logit_bias`` is added
    to the logits by token id. No end-of-turn token and no stop string ends an answer before ``min_tokens``. The same
    ``seed`` gives the same draws.
    """

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    seed: int | None = None
    min_p: float = 0.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: dict[int, float] = {}
    min_tokens: int = 0


class GrammarKind(StrEnum):
    """The language a grammar is written in."""

    JSON_OBJECT = "json_object"  # any JSON object; the text is empty
    JSON_SCHEMA = "json_schema"
    REGEX = "regex"
    LARK = "lark"


class Grammar(Struct, frozen=True):
    """What an answer must look like. ``param`` is the request field that errors name."""

    kind: GrammarKind
    text: str = ""
    param: str = "response_format"


class ToolMode(StrEnum):
    """Whether tools may, must or must not be called."""

    NONE = "none"
    AUTO = "auto"
    REQUIRED = "required"


class ToolChoice(Struct, frozen=True):
    """Which tools an answer calls: ``names`` (empty: all) are those it may or must choose from."""

    mode: ToolMode = ToolMode.AUTO
    names: tuple[str, ...] = ()
    is_parallel: bool = True  # whether several calls may follow each other


class GenerationRequest(Struct, frozen=True, omit_defaults=True):
    """All that one generation is told.

    ``max_new_tokens=None`` means up to the end of the context. ``stop`` strings end the text before they appear.
    ``ignore_eos`` goes on past the model's end of turn, for measuring. ``choices`` answers are made of one prompt.
    ``top_logprobs`` is how many of the likeliest tokens are told beside each token; ``None`` tells no logprobs at all.
    """

    prompt: Chat | Tokens
    sampling: Sampling = Sampling()
    max_new_tokens: int | None = None
    stop: tuple[str, ...] = ()
    ignore_eos: bool = False
    choices: int = 1
    top_logprobs: int | None = None
    grammar: Grammar | None = None
    tool_choice: ToolChoice = ToolChoice()
    adapter: str | None = None


class Finish(StrEnum):
    """Why a generation ended, in OpenAI's words."""

    STOP = "stop"  # the model ended its turn, or a stop string was found
    LENGTH = "length"  # max_new_tokens, or the context is full
    TOOL_CALLS = "tool_calls"  # the model ended its turn, and the turn calls tools


class Usage(Struct, frozen=True):
    """Tokens read and written; ``completion_tokens`` counts the end-of-turn token too, as the work it was.

    ``cached_tokens`` of the prompt were not computed: their keys and values were still there.
    """

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens


class Timings(Struct, frozen=True):
    """Where the time of one generation went, in seconds on the worker's monotonic clock.

    ``decode`` is from the first token to the last; ``prefill`` only what the model itself took for this prompt.
    """

    queue: float
    prefill: float
    decode: float


class Logprob(Struct, frozen=True):
    """One token and its natural logarithm of probability, before temperature, penalties, bias and grammar."""

    token: str
    bytes: builtins.bytes  # the bare name would mean this field, when msgspec looks it up
    logprob: float


class TokenLogprob(Struct, frozen=True):
    """A chosen token, and the likeliest ones in its place."""

    chosen: Logprob
    top: tuple[Logprob, ...] = ()


class Delta(Struct, frozen=True, omit_defaults=True):
    """What one step adds to an answer. ``tokens`` may be more than the text shows: bytes and stop strings are held.

    ``choice`` says which of the request's answers it belongs to; each of them ends with a ``finish`` of its own.
    ``usage`` is that of one choice.
    """

    text: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    tokens: int = 0
    finish: Finish | None = None
    usage: Usage | None = None
    timings: Timings | None = None
    choice: int = 0
    logprobs: tuple[TokenLogprob, ...] = ()
