"""What crosses the pipe: every command and reply comes out as it went in, and errors keep their class."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundry_lite.catalog.card import Defaults
from foundry_lite.engine.ipc.messages import (
    HEADER,
    AdapterReady,
    Admitted,
    Begin,
    Cancel,
    Command,
    Decode,
    Decoded,
    Encode,
    Encoded,
    Failure,
    Inspect,
    Inspected,
    Load,
    LoadAdapter,
    Loaded,
    Produced,
    Reply,
    UnloadAdapter,
    decode_command,
    decode_reply,
    encode,
    failure,
    frame,
    read_frame,
)
from foundry_lite.errors import (
    ContextExceeded,
    EngineBusy,
    FoundryError,
    InternalFault,
    InvalidRequest,
    LoadFailed,
    QueueFull,
)
from foundry_lite.generation import (
    CallPiece,
    Chat,
    Delta,
    Echo,
    Finish,
    GenerationRequest,
    Grammar,
    GrammarKind,
    Logprob,
    Message,
    Role,
    Sampling,
    Text,
    Timings,
    TokenLogprob,
    Tokens,
    Tool,
    ToolCall,
    ToolChoice,
    ToolMode,
    Usage,
)

CALL = ToolCall("call_1", "f", '{"x":1}')
CHAT = Chat(
    (
        Message(Role.SYSTEM, "Be kind.", name="n"),
        Message(Role.ASSISTANT, None, tool_calls=(CALL,)),
        Message(Role.TOOL, "5", tool_call_id="call_1"),
    ),
    (Tool("f", "d", {"type": "object", "nested": [1, 1.5, None, True, {"ü": "😀"}]}), Tool("g")),
)
GRAMMAR = Grammar(GrammarKind.JSON_SCHEMA, '{"type":"object"}')
CHOICE = ToolChoice(ToolMode.REQUIRED, ("f",), False)
COMMANDS: list[Command] = [
    Load("some/folder", 2, 16, 256, 4096, Defaults(0.7, 0.9, 40, stop=("#",), suppressed=(3,)), 2**33, True, 4),
    LoadAdapter("french", "some/file"),
    UnloadAdapter("french"),
    Inspect(),
    Begin(0, GenerationRequest(Tokens((1, 2, 3)))),
    Begin(2**40, GenerationRequest(CHAT, Sampling(0.5, 0.9, 7, -(2**63)), 10, ("a", "b"), True)),
    Begin(1, GenerationRequest(Chat((), None))),
    Begin(1, GenerationRequest(Chat((), ()))),
    Begin(3, GenerationRequest(CHAT, choices=3, top_logprobs=2, grammar=GRAMMAR, tool_choice=CHOICE, adapter="a")),
    Begin(4, GenerationRequest(CHAT, Sampling(min_p=0.1, logit_bias={5: -100.0}, min_tokens=3))),
    Begin(5, GenerationRequest(Text("t", True), max_new_tokens=0, echo=True, prompt_logprobs=0)),
    Encode(6, CHAT),
    Encode(7, Text("t"), with_pieces=True),
    Decode(8, (0, 2**31 - 1)),
    Cancel(7),
]
REPLIES: list[Reply] = [
    Loaded(512, 266, 2**30, "onnxruntime"),
    AdapterReady("french"),
    AdapterReady("french", "no"),
    Inspected(1, 2, 3, 4),
    Failure(None, "LoadFailed", "m", "h"),
    Failure(3, "InvalidRequest", "m", "", "messages", "code"),
    Admitted(3, 17),
    Admitted(3, 17, 0.25, 0.5, 0.125),
    Encoded(6, (1, 2), (b"\xc3", b"a")),
    Decoded(8, "é"),
    Produced([]),
    Produced(
        [
            (0, Delta("text", (CallPiece(0, "call_1", "f", "{}"),), 1)),
            (1, Delta("", (), 1, Finish.TOOL_CALLS, Usage(1, 2, 1), Timings(0.0, 0.25, 0.5), 2)),
            (3, Delta("a", echo=Echo("p", (TokenLogprob(Logprob("p", b"p", 0.0), start=1),)))),
            (2, Delta("é", logprobs=(TokenLogprob(Logprob("\ufffd", b"\xc3", -0.5), (Logprob("a", b"a", -1.0),)),))),
        ]
    ),
]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda one: type(one).__name__)
def test_a_command_comes_out_as_it_went_in(command: Command) -> None:
    assert decode_command(encode(command)) == command


@pytest.mark.parametrize("reply", REPLIES, ids=lambda one: type(one).__name__)
def test_a_reply_comes_out_as_it_went_in(reply: Reply) -> None:
    assert decode_reply(encode(reply)) == reply


@given(st.lists(st.tuples(st.integers(0, 2**32), st.text()), max_size=5))
def test_any_text_of_any_turn_survives(texts: list[tuple[int, str]]) -> None:
    produced = Produced([(number, Delta(text)) for number, text in texts])
    assert decode_reply(encode(produced)) == produced


def test_frames_are_read_one_by_one_and_then_none() -> None:
    stream = io.BytesIO()
    for command in COMMANDS:
        stream.write(frame(command))
    stream.seek(0)
    read = [read_frame(stream) for _ in COMMANDS]
    assert [decode_command(one) for one in read if one is not None] == COMMANDS
    assert read_frame(stream) is None


def test_a_frame_is_its_length_in_four_bytes_and_its_body() -> None:
    stream = io.BytesIO()
    stream.write(frame(Cancel(7)))
    body = encode(Cancel(7))
    assert stream.getvalue() == bytes([len(body), 0, 0, 0]) + body


@pytest.mark.parametrize("size", [0, 1, HEADER.size - 1])
def test_a_stream_that_ends_in_a_header_has_ended(size: int) -> None:
    assert read_frame(io.BytesIO(bytes(size))) is None


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (InvalidRequest("m", "param", "code", "h"), InvalidRequest),
        (EngineBusy("m", hint="h"), EngineBusy),
        (QueueFull("m", hint="h"), QueueFull),
        (LoadFailed("m", hint="h"), LoadFailed),
        (InternalFault("m", hint="h"), InternalFault),
        (FoundryError("m", hint="h"), InternalFault),
    ],
    ids=lambda one: type(one).__name__ if isinstance(one, FoundryError) else "",
)
def test_an_error_has_its_class_and_words_on_the_other_side(error: FoundryError, kind: type[FoundryError]) -> None:
    crossed = decode_reply(encode(failure(3, error)))
    assert isinstance(crossed, Failure)
    assert crossed.turn == 3
    assert type(crossed.error()) is kind
    assert (crossed.error().message, crossed.error().hint) == ("m", "h")


@pytest.mark.parametrize("kind", [EngineBusy, QueueFull])
def test_when_to_come_back_crosses_too(kind: type[EngineBusy]) -> None:
    crossed = decode_reply(encode(failure(3, kind("m", retry_after=5))))
    assert isinstance(crossed, Failure)
    error = crossed.error()
    assert isinstance(error, EngineBusy) and error.retry_after == 5


def test_an_invalid_request_keeps_its_field_and_code() -> None:
    crossed = failure(1, InvalidRequest("m", "messages[2].role", "invalid_value")).error()
    assert isinstance(crossed, InvalidRequest)
    assert (crossed.param, crossed.code) == ("messages[2].role", "invalid_value")


def test_a_prompt_that_is_too_long_keeps_openais_code() -> None:
    crossed = failure(1, ContextExceeded(600, 512)).error()
    assert isinstance(crossed, InvalidRequest)
    assert (crossed.param, crossed.code) == ("messages", "context_length_exceeded")
    assert crossed.message == ContextExceeded(600, 512).message


def test_a_failure_to_load_belongs_to_no_turn() -> None:
    assert failure(None, LoadFailed("m")) == Failure(None, "LoadFailed", "m")


@pytest.mark.parametrize("missing", [1, 5])
def test_a_stream_that_ends_in_a_body_has_ended(missing: int) -> None:
    """The rest of a frame was decoded, which ended the worker's intake and not the worker: it outlived the daemon."""
    stream = io.BytesIO()
    stream.write(frame(Cancel(7)))
    assert read_frame(io.BytesIO(stream.getvalue()[:-missing])) is None


@pytest.mark.parametrize("number", [2**64, -(2**63) - 1])
def test_a_schema_with_a_number_beyond_64_bits_is_refused(number: int) -> None:
    """msgpack has none; the request failed as a fault of ours, and was counted as open for ever."""
    chat = Chat((), (Tool("f", None, {"maximum": number}),))
    with pytest.raises(InvalidRequest) as caught:
        encode(Begin(1, GenerationRequest(chat)))
    assert caught.value.param == "tools"
