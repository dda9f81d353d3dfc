"""OpenAI's chat completions: each field obeyed or refused by name, and the shape of every answer."""

from __future__ import annotations

import json
import time
from typing import Any

import msgspec
import pytest

from foundry_lite.errors import InvalidRequest
from foundry_lite.generation import (
    Chat,
    Delta,
    Finish,
    GenerationRequest,
    Message,
    Role,
    Sampling,
    Timings,
    Tool,
    ToolCall,
    Usage,
)
from foundry_lite.protocol.chat import ChatCall, ChatWriter, decode_chat

HELLO = [{"role": "user", "content": "hello"}]
CALL = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}


def body(**fields: Any) -> bytes:
    return json.dumps({"model": "mine", "messages": HELLO, **fields}).encode()


def request(**fields: Any) -> GenerationRequest:
    return decode_chat(body(**fields)).request


def messages(*wire: Any) -> tuple[Message, ...]:
    prompt = request(messages=list(wire)).prompt
    assert isinstance(prompt, Chat)
    return prompt.messages


def refusal(**fields: Any) -> tuple[str | None, str | None, str]:
    """Decode a body that must be refused; return param, code and message."""
    with pytest.raises(InvalidRequest) as caught:
        decode_chat(body(**fields))
    return caught.value.param, caught.value.code, caught.value.message


def test_the_smallest_body_leaves_everything_to_the_model() -> None:
    assert decode_chat(body()) == ChatCall(
        model="mine",
        request=GenerationRequest(Chat((Message(Role.USER, "hello"),)), Sampling(), None, ()),
        streams=False,
        includes_usage=False,
    )


def test_every_supported_field_is_obeyed() -> None:
    schema = {"type": "object", "properties": {"x": {"type": "integer"}}}
    call = decode_chat(
        body(
            stream=True,
            stream_options={"include_usage": True, "include_obfuscation": False},
            max_completion_tokens=9,
            temperature=0.5,
            top_p=0.25,
            seed=-7,
            stop=["a", "b"],
            tools=[
                {
                    "type": "function",
                    "function": {"name": "f", "description": "d", "parameters": schema, "strict": False},
                },
                {"function": {"name": "g"}},
            ],
        )
    )
    assert call == ChatCall(
        model="mine",
        request=GenerationRequest(
            prompt=Chat((Message(Role.USER, "hello"),), (Tool("f", "d", schema), Tool("g", None, None))),
            sampling=Sampling(temperature=0.5, top_p=0.25, top_k=None, seed=-7),
            max_new_tokens=9,
            stop=("a", "b"),
        ),
        streams=True,
        includes_usage=True,
    )


@pytest.mark.parametrize(
    "field",
    [
        "stream",
        "stream_options",
        "max_tokens",
        "max_completion_tokens",
        "temperature",
        "top_p",
        "seed",
        "stop",
        "tools",
    ],
)
def test_null_is_as_if_a_field_were_not_sent(field: str) -> None:
    assert decode_chat(body(**{field: None})) == decode_chat(body())


@pytest.mark.parametrize(
    ("stop", "stops"),
    [
        ("x", ("x",)),
        ([], ()),
        (["x"], ("x",)),
        (["1", "2", "3", "4"], ("1", "2", "3", "4")),
        ("s" * 1000, ("s" * 1000,)),
    ],
)
def test_stop_is_a_string_or_up_to_four(stop: Any, stops: tuple[str, ...]) -> None:
    assert request(stop=stop).stop == stops


@pytest.mark.parametrize(
    ("fields", "most"),
    [
        ({"max_tokens": 5}, 5),
        ({"max_completion_tokens": 6}, 6),
        ({"max_tokens": 7, "max_completion_tokens": 7}, 7),
        ({"max_tokens": None, "max_completion_tokens": 8}, 8),
    ],
)
def test_both_names_of_the_most_tokens_are_understood(fields: dict[str, Any], most: int) -> None:
    assert request(**fields).max_new_tokens == most


def test_two_different_limits_are_refused() -> None:
    assert refusal(max_tokens=5, max_completion_tokens=6) == (
        "max_tokens",
        "invalid_value",
        "'max_tokens' and 'max_completion_tokens' disagree",
    )


def test_no_tools_and_an_empty_list_of_tools_are_different() -> None:
    assert request().prompt == Chat((Message(Role.USER, "hello"),), None)
    assert request(tools=[]).prompt == Chat((Message(Role.USER, "hello"),), ())


@pytest.mark.parametrize("role", ["system", "developer", "user", "assistant"])
def test_each_role_may_speak(role: str) -> None:
    assert messages({"role": role, "content": "x", "name": "n"}) == (Message(Role(role), "x", "n"),)


def test_parts_of_text_are_joined() -> None:
    parts = [{"type": "text", "text": "one "}, {"type": "text", "text": "two"}]
    assert messages({"role": "user", "content": parts})[0].content == "one two"


def test_an_empty_text_is_a_text() -> None:
    assert messages({"role": "user", "content": ""})[0].content == ""


def test_a_call_and_its_result_are_history() -> None:
    assert messages(
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "content": "5", "tool_call_id": "call_1"},
    ) == (
        Message(Role.ASSISTANT, None, tool_calls=(ToolCall("call_1", "f", "{}"),)),
        Message(Role.TOOL, "5", tool_call_id="call_1"),
    )


def test_an_assistant_may_speak_and_call() -> None:
    message = messages({"role": "assistant", "content": "ok", "tool_calls": [{**CALL, "index": 0}, CALL]})[0]
    assert (message.content, len(message.tool_calls)) == ("ok", 2)


def test_an_answer_of_ours_may_be_sent_back_as_it_is() -> None:
    answer = ChatWriter("mine").completion([Delta("hi", (ToolCall("call_1", "f", "{}"),), 1, Finish.TOOL_CALLS)])
    sent = {**answer["choices"][0]["message"], "annotations": [], "audio": None, "function_call": None}
    assert messages(sent) == (Message(Role.ASSISTANT, "hi", tool_calls=(ToolCall("call_1", "f", "{}"),)),)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"model": None}, "model"),
        ({"model": 3}, "model"),
        ({"messages": None}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": "hello"}, "messages"),
        ({"messages": ["hello"]}, "messages[0]"),
        ({"messages": [*HELLO, {"role": "robot", "content": "x"}]}, "messages[1].role"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": 1}]}]}, "messages[0].content[0].text"),
        ({"messages": [{"role": "user", "content": "x", "name": 1}]}, "messages[0].name"),
        ({"messages": [{"role": "assistant", "content": "x", "refusal": "no"}]}, "messages[0].refusal"),
        ({"messages": [{"role": "assistant", "content": "x", "annotations": [1]}]}, "messages[0].annotations"),
        ({"messages": [{"role": "user", "content": "x", "tool_calls": [CALL]}]}, "messages[0].tool_calls"),
        (
            {"messages": [{"role": "assistant", "tool_calls": [{**CALL, "type": "custom"}]}]},
            "messages[0].tool_calls[0].type",
        ),
        (
            {
                "messages": [
                    {"role": "assistant", "tool_calls": [{"id": "i", "function": {"name": "f", "arguments": {}}}]}
                ]
            },
            "messages[0].tool_calls[0].function.arguments",
        ),
        ({"stream": 1}, "stream"),
        ({"stream": "true"}, "stream"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"stream": False, "stream_options": {}}, "stream_options"),
        ({"stream": True, "stream_options": {"include_usage": 1}}, "stream_options.include_usage"),
        ({"stream": True, "stream_options": {"include_obfuscation": True}}, "stream_options.include_obfuscation"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 1.5}, "max_tokens"),
        ({"max_tokens": True}, "max_tokens"),
        ({"max_completion_tokens": -1}, "max_completion_tokens"),
        ({"temperature": -0.1}, "temperature"),
        ({"temperature": 2.1}, "temperature"),
        ({"temperature": "0.5"}, "temperature"),
        ({"temperature": True}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"top_p": 1.01}, "top_p"),
        ({"seed": 1.5}, "seed"),
        ({"seed": 2**63}, "seed"),
        ({"stop": ""}, "stop"),
        ({"stop": 5}, "stop"),
        ({"stop": ["a", ""]}, "stop[1]"),
        ({"stop": ["1", "2", "3", "4", "5"]}, "stop"),
        ({"stop": "s" * 1001}, "stop"),
        ({"tools": {}}, "tools"),
        ({"tools": [{"type": "retrieval", "function": {"name": "f"}}]}, "tools[0].type"),
        ({"tools": [{"function": {"name": "two words"}}]}, "tools[0].function.name"),
        ({"tools": [{"function": {"name": ""}}]}, "tools[0].function.name"),
        ({"tools": [{"function": {"name": "f" * 65}}]}, "tools[0].function.name"),
        ({"tools": [{"function": {"name": "f", "parameters": []}}]}, "tools[0].function.parameters"),
        ({"tools": [{"function": {"name": "f", "strict": True}}]}, "tools[0].function.strict"),
        ({"tools": [{"function": {"name": "f"}}] * 129}, "tools"),
    ],
)
def test_a_wrong_value_is_refused_with_its_path(fields: dict[str, Any], param: str) -> None:
    found, code, message = refusal(**fields)
    assert (found, code) == (param, "invalid_value")
    assert message.startswith(f"'{param}'")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": [{"content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": None}]}, "messages[0].content"),
        ({"messages": [{"role": "assistant", "content": None}]}, "messages[0].content"),
        ({"messages": [{"role": "assistant", "content": None, "tool_calls": []}]}, "messages[0].content"),
        ({"messages": [*HELLO, {"role": "tool", "content": "x"}]}, "messages[1].tool_call_id"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content[0].text"),
        ({"messages": [{"role": "assistant", "tool_calls": [{"type": "function"}]}]}, "messages[0].tool_calls[0].id"),
        ({"tools": [{"type": "function"}]}, "tools[0].function"),
        ({"tools": [{"function": {}}]}, "tools[0].function.name"),
    ],
)
def test_a_field_that_is_missing_is_named(fields: dict[str, Any], param: str) -> None:
    assert refusal(**fields) == (param, "missing_required_parameter", f"'{param}' is required")


@pytest.mark.parametrize("field", ["model", "messages"])
def test_a_body_without_model_or_messages_is_refused(field: str) -> None:
    whole = json.loads(body())
    del whole[field]
    with pytest.raises(InvalidRequest) as caught:
        decode_chat(json.dumps(whole).encode())
    assert (caught.value.param, caught.value.code) == (field, "missing_required_parameter")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"temprature": 1}, "temprature"),
        ({"top_k": 5}, "top_k"),
        ({"messages": [{"role": "user", "content": "x", "mood": 1}]}, "messages[0].mood"),
        ({"stream": True, "stream_options": {"x": 1}}, "stream_options.x"),
        ({"tools": [{"function": {"name": "f", "x": 1}}]}, "tools[0].function.x"),
    ],
)
def test_an_unknown_field_is_refused_by_name(fields: dict[str, Any], param: str) -> None:
    assert refusal(**fields) == (param, "unknown_parameter", f"unknown field '{param}'")


def test_an_image_is_refused_by_its_place() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
    param, _, message = refusal(messages=[{"role": "user", "content": [{"type": "text", "text": "look"}, image]}])
    assert param == "messages[0].content[1].type"
    assert "image_url" in message


UNSUPPORTED = {
    "audio": {"voice": "x"},
    "frequency_penalty": 0.5,
    "function_call": "auto",
    "functions": [],
    "logit_bias": {"5": 1},
    "logprobs": True,
    "metadata": {},
    "modalities": ["audio"],
    "n": 2,
    "parallel_tool_calls": False,
    "prediction": {},
    "presence_penalty": -1,
    "prompt_cache_key": "k",
    "prompt_cache_retention": "24h",
    "reasoning_effort": "low",
    "response_format": {"type": "json_object"},
    "safety_identifier": "u",
    "service_tier": "auto",
    "store": True,
    "tool_choice": "required",
    "top_logprobs": 3,
    "user": "u",
    "verbosity": "low",
    "web_search_options": {},
}


@pytest.mark.parametrize(("field", "value"), UNSUPPORTED.items())
def test_a_field_of_openai_that_we_do_not_support_is_refused_by_name(field: str, value: Any) -> None:
    assert refusal(**{field: value}) == (
        field,
        "unsupported_parameter",
        f"'{field}' is not supported by foundry-lite yet",
    )


@pytest.mark.parametrize("field", UNSUPPORTED)
def test_an_unsupported_field_may_be_null(field: str) -> None:
    assert decode_chat(body(**{field: None})) == decode_chat(body())


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("n", 1),
        ("n", 1.0),
        ("frequency_penalty", 0),
        ("frequency_penalty", 0.0),
        ("presence_penalty", 0),
        ("presence_penalty", -0.0),
        ("logprobs", False),
        ("logit_bias", {}),
        ("tool_choice", "auto"),
        ("response_format", {"type": "text"}),
        ("modalities", ["text"]),
        ("store", False),
    ],
)
def test_an_unsupported_field_may_ask_for_what_happens_anyway(field: str, value: Any) -> None:
    assert decode_chat(body(**{field: value})) == decode_chat(body())


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("n", True),
        ("n", "1"),
        ("n", 0),
        ("frequency_penalty", False),
        ("logprobs", 0),
        ("logprobs", 0.0),
        ("store", 0),
        ("logit_bias", []),
        ("tool_choice", "none"),
        ("tool_choice", {"type": "auto"}),
        ("modalities", "text"),
        ("modalities", ["text", "audio"]),
        ("response_format", {"type": "text", "x": 1}),
    ],
)
def test_a_value_that_only_resembles_the_neutral_one_is_refused(field: str, value: Any) -> None:
    assert refusal(**{field: value})[:2] == (field, "unsupported_parameter")


@pytest.mark.parametrize("raw", [b"", b"{", b"not json", b'{"model": "m",}', b"\xff", b"[" * 100_000, b"[]", b"null"])
def test_a_body_that_is_no_json_object_is_refused(raw: bytes) -> None:
    with pytest.raises(InvalidRequest) as caught:
        decode_chat(raw)
    assert (caught.value.param, caught.value.code) == (None, "invalid_json")


CALLS = (ToolCall("call_1", "f", '{"x":1}'), ToolCall("call_2", "g", "{}"))
LAST = Delta("", (), 1, Finish.STOP, Usage(7, 3), Timings(0, 0, 0))


def wire(value: Any) -> Any:
    """The value as a client reads it."""
    return json.loads(msgspec.json.encode(value))


def test_a_whole_answer_has_openais_shape() -> None:
    writer = ChatWriter("mine:cpu-int4")
    answer = wire(writer.completion([Delta("Hel", tokens=1), Delta("lo", tokens=1), LAST]))
    assert abs(answer.pop("created") - time.time()) < 60
    assert answer == {
        "id": writer.id,
        "object": "chat.completion",
        "model": "mine:cpu-int4",
        "system_fingerprint": None,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Hello", "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10},
    }


def test_an_answer_that_only_calls_has_no_content() -> None:
    (choice,) = wire(ChatWriter("m").completion([Delta("", CALLS, 1), Delta(finish=Finish.TOOL_CALLS)]))["choices"]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"] == {
        "role": "assistant",
        "content": None,
        "refusal": None,
        "tool_calls": [
            {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"x":1}'}},
            {"id": "call_2", "type": "function", "function": {"name": "g", "arguments": "{}"}},
        ],
    }


def test_an_answer_of_nothing_has_an_empty_content_and_no_calls() -> None:
    message = wire(ChatWriter("m").completion([LAST]))["choices"][0]["message"]
    assert message == {"role": "assistant", "content": "", "refusal": None}


def stream(*deltas: Delta) -> list[dict[str, Any]]:
    """All chunks of an answer, as a client reads them."""
    writer = ChatWriter("mine")
    chunks = [writer.opening(), *(chunk for delta in deltas for chunk in writer.chunks(delta))]
    chunks.append(writer.closing(deltas[-1].usage))
    read: list[dict[str, Any]] = wire(chunks)
    return read


def test_every_chunk_has_the_same_head() -> None:
    chunks = stream(Delta("a"), Delta("b", CALLS), LAST)
    heads = [{key: value for key, value in chunk.items() if key not in ("choices", "usage")} for chunk in chunks]
    assert all(head == heads[0] for head in heads)
    assert list(heads[0]) == ["id", "object", "created", "model", "system_fingerprint"]
    assert heads[0]["object"] == "chat.completion.chunk"
    assert heads[0]["id"].startswith("chatcmpl-")


def test_two_answers_have_two_ids() -> None:
    assert ChatWriter("m").id != ChatWriter("m").id


def test_a_stream_is_the_role_then_text_then_the_finish_then_the_usage() -> None:
    chunks = stream(Delta("Hel"), Delta("", tokens=1), Delta("lo"), LAST)
    assert [chunk["choices"] for chunk in chunks] == [
        [{"index": 0, "delta": {"role": "assistant", "content": ""}, "logprobs": None, "finish_reason": None}],
        [{"index": 0, "delta": {"content": "Hel"}, "logprobs": None, "finish_reason": None}],
        [{"index": 0, "delta": {"content": "lo"}, "logprobs": None, "finish_reason": None}],
        [{"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop"}],
        [],
    ]
    assert ["usage" in chunk for chunk in chunks] == [False, False, False, False, True]
    assert chunks[-1]["usage"] == {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}


def test_the_role_is_said_once() -> None:
    chunks = stream(Delta("a", CALLS), Delta("b"), LAST)
    assert ["role" in choice["delta"] for chunk in chunks for choice in chunk["choices"]] == [True] + [False] * 7


def test_text_that_comes_with_the_finish_is_a_chunk_before_it() -> None:
    chunks = stream(Delta("end", (), 1, Finish.LENGTH))
    assert [(c["delta"], c["finish_reason"]) for chunk in chunks for c in chunk["choices"]] == [
        ({"role": "assistant", "content": ""}, None),
        ({"content": "end"}, None),
        ({}, "length"),
    ]


def test_a_call_is_a_head_with_its_id_and_then_its_arguments() -> None:
    chunks = stream(Delta("", CALLS[:1]), Delta("", CALLS[1:]), Delta(finish=Finish.TOOL_CALLS))
    deltas = [choice["delta"] for chunk in chunks for choice in chunk["choices"]][1:-1]
    assert deltas == [
        {"tool_calls": [{"index": 0, "id": "call_1", "type": "function", "function": {"name": "f", "arguments": ""}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": '{"x":1}'}}]},
        {"tool_calls": [{"index": 1, "id": "call_2", "type": "function", "function": {"name": "g", "arguments": ""}}]},
        {"tool_calls": [{"index": 1, "function": {"arguments": "{}"}}]},
    ]


def test_a_stream_and_a_whole_answer_say_the_same() -> None:
    deltas = [Delta("a "), Delta("b", CALLS[:1]), Delta("c", CALLS[1:], 1, Finish.TOOL_CALLS, Usage(1, 2))]
    whole = wire(ChatWriter("m").completion(deltas))["choices"][0]["message"]
    text, calls = "", [{"arguments": ""}, {"arguments": ""}]
    for chunk in stream(*deltas):
        for choice in chunk["choices"]:
            text += choice["delta"].get("content", "")
            for call in choice["delta"].get("tool_calls", ()):
                calls[call["index"]]["arguments"] += call["function"]["arguments"]
    assert text == whole["content"]
    assert [call["arguments"] for call in calls] == [call["function"]["arguments"] for call in whole["tool_calls"]]


def test_an_answer_whose_usage_is_not_known_says_null() -> None:
    assert ChatWriter("m").closing(None)["usage"] is None
