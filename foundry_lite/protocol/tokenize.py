"""Tokens of texts and back: llama-server's and vLLM's ``/tokenize`` and ``/detokenize``, and Foundry Local's count.

Sources: llama-server's README, "POST /tokenize"; vLLM's "Tokenizer API"; Foundry Local's REST reference, "POST
/v1/chat/completions/tokenizer/encode/count"; read 2026-11.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from msgspec import Meta, Struct

from foundry_lite.generation import Chat, Text
from foundry_lite.protocol.chat.messages import MessageBody, ToolBody, read_messages, read_tool
from foundry_lite.protocol.common.decode import convert, decode_object, invalid_value
from foundry_lite.protocol.completions.request import PromptText, TokenId

_MOST_TOKENS = 1 << 17

_Model = Annotated[str, Meta(min_length=1, max_length=512)]


class TokenizeBody(Struct, kw_only=True, forbid_unknown_fields=True):
    """A text (``content``, or ``prompt``, which means the same) or a conversation."""

    model: _Model
    content: PromptText | None = None
    prompt: PromptText | None = None
    messages: Annotated[list[MessageBody], Meta(min_length=1, max_length=2048)] | None = None
    tools: Annotated[list[ToolBody], Meta(max_length=128)] | None = None
    add_special_tokens: bool | None = None
    with_pieces: bool | None = None


class DetokenizeBody(Struct, kw_only=True, forbid_unknown_fields=True):
    """Token ids of one model."""

    model: _Model
    tokens: Annotated[list[TokenId], Meta(max_length=_MOST_TOKENS)]


class Piece(Struct, frozen=True):
    """A token and its text; or its bytes, where they are only a part of a character."""

    id: int
    piece: str | list[int]


class Tokenized(Struct, frozen=True):
    """The tokens, how many they are, and how many the model holds at most, its answer included."""

    tokens: list[int | Piece]
    count: int
    max_model_len: int


class Detokenized(Struct, frozen=True):
    """The text, in which control tokens are spelt out."""

    content: str


class TokenCount(Struct, frozen=True, rename="camel"):
    """The number of tokens of a chat completion's prompt."""

    token_count: int


@dataclass(frozen=True, slots=True)
class TokenizeCall:
    """A decoded tokenize request: the model, and the prompt to encode; ``param`` is the prompt's field."""

    model: str
    prompt: Text | Chat
    with_pieces: bool
    param: str


def decode_tokenize(body: bytes) -> TokenizeCall:
    """Decode the body of ``/tokenize``. Raises `InvalidRequest` naming the field."""
    wire = convert(decode_object(body), TokenizeBody)
    given = [name for name in ("content", "prompt", "messages") if getattr(wire, name) is not None]
    if len(given) != 1:
        wrong = given[1] if given else "content"
        raise invalid_value(
            wrong, "one of 'content', 'prompt' and 'messages' is to be encoded, not several and not none"
        )
    return TokenizeCall(wire.model, _read_prompt(wire), bool(wire.with_pieces), given[0])


def decode_detokenize(body: bytes) -> tuple[str, tuple[int, ...]]:
    """Decode the body of ``/detokenize`` to the model and the tokens. Raises `InvalidRequest`."""
    wire = convert(decode_object(body), DetokenizeBody)
    return wire.model, tuple(wire.tokens)


def write_tokenized(tokens: tuple[int, ...], pieces: tuple[bytes, ...], context_length: int) -> Tokenized:
    """Return the body; with pieces where there are some."""
    written: list[int | Piece] = list(tokens)
    if pieces:
        written = [Piece(token, _write_piece(raw)) for token, raw in zip(tokens, pieces, strict=True)]
    return Tokenized(written, len(tokens), context_length)


def _read_prompt(wire: TokenizeBody) -> Text | Chat:
    if wire.messages is None:
        if wire.tools is not None:
            raise invalid_value("tools", "they are only allowed with 'messages'")
        return Text(wire.content or wire.prompt or "", wire.add_special_tokens is not False)
    if wire.add_special_tokens is not None:
        raise invalid_value("add_special_tokens", "a template writes them itself; it is only allowed with a text")
    return Chat(
        read_messages(wire.messages), None if wire.tools is None else tuple(read_tool(one) for one in wire.tools)
    )


def _write_piece(raw: bytes) -> str | list[int]:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return list(raw)
