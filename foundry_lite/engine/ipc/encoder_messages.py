"""Messages between the daemon and an encoder's worker; frames as in `engine.ipc.messages`."""

from __future__ import annotations

from typing import TypeAlias

import msgspec
from msgspec import Struct

from foundry_lite.embedding import Encoded, EncodeRequest
from foundry_lite.engine.ipc.messages import HEADER, Failure


class LoadEncoder(Struct, frozen=True, tag=True):
    """The first command: which folder to load, and with how many threads."""

    folder: str
    threads: int


class Encode(Struct, frozen=True, tag=True):
    """Encode texts, under a number that the daemon chose; answered by `Done` or `Failure`."""

    number: int
    request: EncodeRequest


class Tokenize(Struct, frozen=True, tag=True):
    """Ask for the tokens of a text, under a number as `Encode` has; answered by `Tokenized` or `Failure`.

    ``as_input``: those that would be read of it, with the model's default prompt and the special ones.
    """

    number: int
    text: str
    as_input: bool
    with_pieces: bool


class Detokenize(Struct, frozen=True, tag=True):
    """Ask for the text of tokens; answered by `Detokenized` or `Failure`."""

    number: int
    tokens: tuple[int, ...]


class Cancel(Struct, frozen=True, tag=True):
    """Forget a request. One that is done already is no error."""

    number: int


class EncoderLoaded(Struct, frozen=True, tag=True):
    """The model is ready. ``context_length`` is how many tokens a text may have."""

    context_length: int
    vocabulary: int
    dimensions: int
    processor_note: str = ""


class Done(Struct, frozen=True, tag=True):
    """All texts of a request are encoded."""

    number: int
    encoded: Encoded


class Tokenized(Struct, frozen=True, tag=True):
    """The tokens of a text, and how the vocabulary spells each, where that was asked for."""

    number: int
    tokens: tuple[int, ...]
    pieces: tuple[bytes, ...] = ()


class Detokenized(Struct, frozen=True, tag=True):
    """The text of tokens."""

    number: int
    text: str


Command: TypeAlias = LoadEncoder | Encode | Tokenize | Detokenize | Cancel
Reply: TypeAlias = EncoderLoaded | Done | Tokenized | Detokenized | Failure

_encode = msgspec.msgpack.Encoder().encode
decode_command = msgspec.msgpack.Decoder(Command).decode
decode_reply = msgspec.msgpack.Decoder(Reply).decode


def frame(message: Command | Reply) -> bytes:
    """Return one frame."""
    body = _encode(message)
    return HEADER.pack(len(body)) + body
