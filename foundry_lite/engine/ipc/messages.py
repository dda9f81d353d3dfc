"""Messages between the daemon and a worker: frames of msgpack, four bytes of length before each."""

from __future__ import annotations

import struct
from typing import BinaryIO

import msgspec
from msgspec import Struct

from foundry_lite.catalog.card import Defaults
from foundry_lite.catalog.recipe import Provider
from foundry_lite.errors import EngineBusy, FoundryError, InternalFault, InvalidRequest, LoadFailed, QueueFull
from foundry_lite.generation import Chat, Delta, GenerationRequest, Text, Tokens

HEADER = struct.Struct("<I")


class Load(Struct, frozen=True, tag=True):
    """The first command: which folder to load, and how."""

    folder: str
    threads: int
    slots: int
    queue: int
    context_length: int
    defaults: Defaults
    kv_bytes: int
    reproducible: bool
    speculation: int
    provider: Provider = Provider.CPU


class Begin(Struct, frozen=True, tag=True):
    """Admit a request under a number that the daemon chose."""

    turn: int
    request: GenerationRequest


class Cancel(Struct, frozen=True, tag=True):
    """Cancel a request. One that has ended already is no error."""

    turn: int


class Encode(Struct, frozen=True, tag=True):
    """Ask for the tokens of a prompt; answered by `Encoded`, or a `Failure` of that number."""

    turn: int
    prompt: Chat | Text | Tokens
    with_pieces: bool = False


class Decode(Struct, frozen=True, tag=True):
    """Ask for the text of tokens; answered by `Decoded`, or a `Failure` of that number."""

    turn: int
    tokens: tuple[int, ...]


class LoadAdapter(Struct, frozen=True, tag=True):
    """Load a LoRA adapter beside the model; answered by `AdapterReady`."""

    name: str
    path: str


class UnloadAdapter(Struct, frozen=True, tag=True):
    """Forget an adapter once no sequence uses it."""

    name: str


class Inspect(Struct, frozen=True, tag=True):
    """Ask for the worker's state; answered by `Inspected`."""


Command = Load | Begin | Cancel | Encode | Decode | LoadAdapter | UnloadAdapter | Inspect


class Loaded(Struct, frozen=True, tag=True):
    """The model is ready. ``kv_bytes`` is the most that keys and values will take.

    ``runtime_bytes`` is the resident memory of the process before it loaded the model: Python, and the libraries once
    they have run something. ``processor_note`` compares this processor with the one that the model was measured on,
    where their kernels differ; ``is_reduced`` when a part of the model is therefore not used.
    """

    context_length: int
    vocabulary: int
    kv_bytes: int
    runner: str
    provider: Provider = Provider.CPU
    runtime_bytes: int | None = None
    processor_note: str = ""
    is_reduced: bool = False


class AdapterReady(Struct, frozen=True, tag=True):
    """An adapter is loaded, or was refused: then ``error`` says why."""

    name: str
    error: str | None = None


class Failure(Struct, frozen=True, tag=True):
    """An error as it crosses the pipe; ``turn`` is ``None`` when it is the load that failed."""

    turn: int | None
    kind: str
    message: str
    hint: str = ""
    param: str | None = None
    code: str | None = None
    retry_after: int = 0  # seconds

    def error(self) -> FoundryError:
        """Return the error that this was on the other side."""
        if self.kind == InvalidRequest.__name__:
            return InvalidRequest(self.message, self.param, self.code, self.hint)
        for busy in (EngineBusy, QueueFull):
            if self.kind == busy.__name__:
                return busy(self.message, self.retry_after, self.hint)
        return (LoadFailed if self.kind == LoadFailed.__name__ else InternalFault)(self.message, hint=self.hint)


class Admitted(Struct, frozen=True, tag=True):
    """The request is queued; from here on it ends with a delta that has a ``finish``, or the worker dies."""

    turn: int
    prompt_tokens: int
    template: float = 0.0  # seconds that preparing it took
    tokenize: float = 0.0
    grammar: float = 0.0


class Encoded(Struct, frozen=True, tag=True):
    """The tokens of a prompt and, where asked for, the bytes that each of them stands for."""

    turn: int
    tokens: tuple[int, ...]
    pieces: tuple[bytes, ...] = ()


class Decoded(Struct, frozen=True, tag=True):
    """The text of tokens."""

    turn: int
    text: str


class Produced(Struct, frozen=True, tag=True):
    """Deltas that one step, or a few quick ones, added, by the number of the request."""

    deltas: list[tuple[int, Delta]]


class Inspected(Struct, frozen=True, tag=True):
    """State of a worker: sequences that run, sequences waiting for a slot, and the bytes of keys and values.

    ``promised_bytes`` is what running sequences may need at most, ``kept_bytes`` what ended ones left for others.
    """

    running: int
    waiting: int
    promised_bytes: int
    kept_bytes: int


Reply = Loaded | AdapterReady | Inspected | Failure | Admitted | Encoded | Decoded | Produced

_encode = msgspec.msgpack.Encoder().encode
decode_command = msgspec.msgpack.Decoder(Command).decode
decode_reply = msgspec.msgpack.Decoder(Reply).decode


def encode(message: Command | Reply) -> bytes:
    """Encode a message. Raises `InvalidRequest` for texts, and parameters of tools, that msgpack cannot carry."""
    try:
        return _encode(message)
    except UnicodeEncodeError as error:
        raise InvalidRequest(f"a text holds what no UTF-8 can: {error.reason}") from error
    except (OverflowError, RecursionError) as error:
        raise InvalidRequest(f"the parameters of the tools cannot be passed on: {error}", "tools") from error


def failure(turn: int | None, error: FoundryError) -> Failure:
    """Describe an error for the other side."""
    if isinstance(error, InvalidRequest):
        return Failure(turn, InvalidRequest.__name__, error.message, error.hint, error.param, error.code)
    retry_after = error.retry_after if isinstance(error, EngineBusy) else 0
    return Failure(turn, type(error).__name__, error.message, error.hint, retry_after=retry_after)


def frame(message: Command | Reply) -> bytes:
    """Return one frame. Raises as `encode`."""
    body = encode(message)
    return HEADER.pack(len(body)) + body


def read_frame(stream: BinaryIO) -> bytes | None:
    """Read one frame; ``None`` at the end of the stream, be it in the middle of a frame."""
    header = stream.read(HEADER.size)
    if len(header) < HEADER.size:
        return None
    size = HEADER.unpack(header)[0]
    body = stream.read(size)
    return body if len(body) == size else None
