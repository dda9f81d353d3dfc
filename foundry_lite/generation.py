"""The vocabulary of one generation, shared by the daemon and the worker.

These values cross the pipe between the two processes as they are, so they are msgspec structs; they know neither
OpenAI's JSON nor tokens of a particular model.
"""

from __future__ import annotations

import builtins
from collections.abc import Iterable
from enum import StrEnum
from typing import Any

from msgspec import Struct
from msgspec.structs import replace


class Role(StrEnum):
    """The role of a chat message."""

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
    """A chat message. ``content`` is ``None`` only beside ``tool_calls``.

    ``reasoning`` is an assistant's reasoning before its answer, where the caller sends it back.
    """

    role: Role
    content: str | None = None
    name: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    reasoning: str | None = None


class Tool(Struct, frozen=True):
    """A function that the model may call; ``parameters`` is its JSON Schema, which ``strict`` calls must follow."""

    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool = False


class Chat(Struct, frozen=True, tag="chat"):
    """A conversation to continue. ``tools=None``: the request has no ``tools``.

    ``variables`` are given to the template beside the messages, if it knows them (``chat_template_kwargs``); so is
    ``reasoning_effort``.
    """

    messages: tuple[Message, ...]
    tools: tuple[Tool, ...] | None = None
    variables: dict[str, Any] = {}
    reasoning_effort: str | None = None


class Text(Struct, frozen=True, tag="text"):
    """A text to continue as it is. The caller writes the whole prompt, so control tokens spelt in it are such.

    With ``add_special_tokens`` the tokenizer adds those that it puts around every text, such as one that begins it.
    """

    text: str
    add_special_tokens: bool = False


class Tokens(Struct, frozen=True, tag="tokens"):
    """Token ids to continue as they are."""

    ids: tuple[int, ...]


class Sampling(Struct, frozen=True, omit_defaults=True):
    """Sampling parameters. ``None`` means the model's own default.

    ``temperature`` 0 is greedy. ``top_k`` 0 keeps all tokens; ``min_p`` keeps those at least that share as likely as
    the best. The penalties have OpenAI's meaning and count the tokens of the answer; ``repetition_penalty``
    (1.0: none) is that of the CTRL paper and transformers, and counts those of the prompt too. ``logit_bias`` is added
    to the logits by token id. No end-of-turn token and no stop string ends an answer before ``min_tokens``. The same
    ``seed`` gives the same draws. Tokens that are ``suppressed`` are never chosen.
    """

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    seed: int | None = None
    min_p: float | None = None
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float | None = None
    logit_bias: dict[int, float] = {}
    min_tokens: int | None = None
    suppressed: tuple[int, ...] = ()


class GrammarKind(StrEnum):
    """The language a grammar is written in."""

    JSON_OBJECT = "json_object"  # any JSON object; the text is empty
    JSON_SCHEMA = "json_schema"
    REGEX = "regex"
    LARK = "lark"


class Grammar(Struct, frozen=True):
    """A grammar that an answer must follow. ``param`` is the request field that errors name."""

    kind: GrammarKind
    text: str = ""
    param: str = "response_format"


class ToolMode(StrEnum):
    """The mode of a tool choice: tools may, must or must not be called."""

    NONE = "none"
    AUTO = "auto"
    REQUIRED = "required"


class ToolChoice(Struct, frozen=True):
    """The tool choice of a request: ``names`` (empty: all) are the tools that an answer may or must call."""

    mode: ToolMode = ToolMode.AUTO
    names: tuple[str, ...] = ()
    is_parallel: bool = True  # whether several calls may follow each other


class GenerationRequest(Struct, frozen=True, omit_defaults=True):
    """A generation request: a prompt, and how to continue it.

    ``max_new_tokens=None`` means up to the end of the context. ``stop`` strings end the text before they appear.
    ``ignore_eos`` goes on past the model's end of turn, for measuring. ``choices`` answers are made of one prompt.
    ``top_logprobs`` is how many of the likeliest tokens are returned beside each token; ``None``: no logprobs at all.
    With ``echo`` the first delta of the first answer has the prompt, which is a `Text` or `Tokens`; ``prompt_logprobs``
    adds its tokens, with so many of the likeliest beside each. ``max_new_tokens`` 0 makes no answer.
    """

    prompt: Chat | Text | Tokens
    sampling: Sampling = Sampling()
    max_new_tokens: int | None = None
    stop: tuple[str, ...] = ()
    ignore_eos: bool = False
    choices: int = 1
    top_logprobs: int | None = None
    grammar: Grammar | None = None
    tool_choice: ToolChoice = ToolChoice()
    adapter: str | None = None
    echo: bool = False
    prompt_logprobs: int | None = None

    @property
    def shown_prompt(self) -> Chat | Text | Tokens:
        """The prompt as the model sees it: tools that must not be called are not shown."""
        prompt, choice = self.prompt, self.tool_choice
        if not isinstance(prompt, Chat) or prompt.tools is None:
            return prompt
        if choice.mode is ToolMode.NONE:
            return replace(prompt, tools=None)
        if choice.mode is ToolMode.AUTO and choice.names:
            return replace(prompt, tools=tuple(tool for tool in prompt.tools if tool.name in choice.names))
        return prompt


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
    reasoning_tokens: int = 0  # of the completion's, those between think tags

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens


class Timings(Struct, frozen=True):
    """Timings of a generation: seconds of each phase, on the worker's monotonic clock.

    ``decode`` is from the first token to the last; ``prefill`` only what the model itself took for this prompt. The
    others are work for this answer alone, and a part of those: rendering the chat template, encoding the prompt,
    compiling a grammar; sampling, and detokenizing. ``load`` and ``total`` are the daemon's: waiting for the model to
    be loaded, and all of it, from the arrival of the request.
    """

    queue: float
    prefill: float
    decode: float
    template: float = 0.0
    tokenize: float = 0.0
    grammar: float = 0.0
    sample: float = 0.0
    detokenize: float = 0.0
    load: float = 0.0
    total: float = 0.0


class Logprob(Struct, frozen=True):
    """The logprob of a token: its natural logarithm of probability, before temperature, penalties, bias and grammar.

    It is never minus infinity, which JSON does not have.
    """

    token: str
    bytes: builtins.bytes  # the bare name would mean this field, when msgspec looks it up
    logprob: float


class TokenLogprob(Struct, frozen=True):
    """A sampled token, and the likeliest tokens at its position; ``start`` is the offset of its text, in characters."""

    chosen: Logprob
    top: tuple[Logprob, ...] = ()
    start: int = 0


class Echo(Struct, frozen=True):
    """The prompt, returned: its text and, where requested, its tokens.

    The first token follows nothing, so its logprob of 0.0 means none.
    """

    text: str
    tokens: tuple[TokenLogprob, ...] = ()


class CallPiece(Struct, frozen=True, omit_defaults=True):
    """A piece of a tool call: the first of a call has its ``id`` and ``name``, all of them some JSON text.

    ``index`` counts the calls of one answer, from 0.
    """

    index: int
    id: str = ""
    name: str = ""
    arguments: str = ""


class Delta(Struct, frozen=True, omit_defaults=True):
    """A delta: what one step adds to an answer. ``tokens`` may exceed the text: bytes and stop strings are held back.

    ``choice`` is the index of the request's answer that it belongs to; each of them ends with its own ``finish``.
    ``usage`` is that of one choice. ``reasoning`` is not part of the answer's text.
    ``echo`` comes once for a request, before anything of its answers.
    """

    text: str = ""
    calls: tuple[CallPiece, ...] = ()
    tokens: int = 0
    finish: Finish | None = None
    usage: Usage | None = None
    timings: Timings | None = None
    choice: int = 0
    logprobs: tuple[TokenLogprob, ...] = ()
    reasoning: str = ""
    echo: Echo | None = None


def join_calls(pieces: Iterable[CallPiece]) -> tuple[ToolCall, ...]:
    """Put the tool calls of one answer together from their pieces, in the order of their index."""
    calls: dict[int, ToolCall] = {}
    for piece in pieces:
        before = calls.get(piece.index, ToolCall("", "", ""))
        calls[piece.index] = ToolCall(
            before.id or piece.id, before.name or piece.name, before.arguments + piece.arguments
        )
    return tuple(calls[index] for index in sorted(calls))
