"""OpenAI's chat completions: each field of a request obeyed or refused by name."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundry_lite.engine.ipc import messages as pipe
from foundry_lite.errors import InvalidRequest
from foundry_lite.generation import (
    CallPiece,
    Chat,
    Delta,
    Finish,
    GenerationRequest,
    Message,
    Role,
    Sampling,
    Tool,
    ToolCall,
    ToolChoice,
    ToolMode,
)
from foundry_lite.protocol.chat.request import ChatBody, ChatCall, decode_chat
from foundry_lite.protocol.chat.writer import AnswerWriter
from tests.support import served

HELLO = [{"role": "user", "content": "hello"}]
CALL = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
CALLING = {"role": "assistant", "tool_calls": [CALL]}


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
            n=3,
            presence_penalty=-2,
            frequency_penalty=1.5,
            logit_bias={"0": -100, "151643": 0.5},
            logprobs=True,
            top_logprobs=20,
            parallel_tool_calls=False,
            tool_choice="none",
            top_k=40,
            min_p=0.125,
            repetition_penalty=1.25,
            min_tokens=9,
            ignore_eos=True,
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
            sampling=Sampling(
                temperature=0.5,
                top_p=0.25,
                top_k=40,
                seed=-7,
                min_p=0.125,
                presence_penalty=-2.0,
                frequency_penalty=1.5,
                repetition_penalty=1.25,
                logit_bias={0: -100.0, 151643: 0.5},
                min_tokens=9,
            ),
            max_new_tokens=9,
            stop=("a", "b"),
            ignore_eos=True,
            choices=3,
            top_logprobs=20,
            tool_choice=ToolChoice(ToolMode.NONE, (), is_parallel=False),
        ),
        streams=True,
        includes_usage=True,
    )


@pytest.mark.parametrize("field", sorted(set(ChatBody.__struct_fields__) - {"model", "messages"}))
def test_null_is_as_if_a_field_were_not_sent(field: str) -> None:
    assert decode_chat(body(**{field: None})) == decode_chat(body())


@pytest.mark.parametrize(
    ("stop", "stops"),
    [
        ("x", ("x",)),
        ([], ()),
        (["x"], ("x",)),
        ([str(number) for number in range(64)], tuple(str(number) for number in range(64))),
        (["s" * 1000] * 4, ("s" * 1000,) * 4),
    ],
)
def test_stop_is_a_string_or_up_to_64(stop: Any, stops: tuple[str, ...]) -> None:
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
        "'max_tokens': it is not what 'max_completion_tokens' says",
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


@pytest.mark.parametrize(
    "history",
    [
        [*HELLO, {"role": "tool", "content": "x", "tool_call_id": "a"}],
        [CALLING, {"role": "tool", "content": "x", "tool_call_id": "another"}],
        [{"role": "tool", "content": "x", "tool_call_id": "call_1"}, CALLING],
    ],
)
def test_a_result_without_a_call_before_it_is_refused(history: list[Any]) -> None:
    with pytest.raises(InvalidRequest, match="no tool call before it has the id") as refused:
        messages(*history)
    assert re.fullmatch(r"messages\[\d\]\.tool_call_id", refused.value.param or "")


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
    answer = AnswerWriter(served("mine")).whole(
        [Delta("hi", (CallPiece(0, "call_1", "f", "{}"),), 1, Finish.TOOL_CALLS)]
    )
    sent = {**msgspec.to_builtins(answer.choices[0].message), "annotations": [], "audio": None, "function_call": None}
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
        ({"messages": [{"role": "user", "content": "x", "refusal": "no"}]}, "messages[0].refusal"),
        ({"messages": [{"role": "user", "content": "x", "reasoning_content": "hm"}]}, "messages[0].reasoning_content"),
        ({"messages": [{"role": "user", "content": "x", "tool_call_id": "call_1"}]}, "messages[0].tool_call_id"),
        ({"messages": [{"role": "user", "content": [{"type": "refusal", "refusal": "x"}]}]}, "messages[0].content[0]"),
        (
            {"messages": [{"role": "assistant", "content": "x", "reasoning": "a", "reasoning_content": "b"}]},
            "messages[0].reasoning",
        ),
        ({"messages": [{"role": "function", "name": "f", "content": "x"}]}, "messages[0].role"),
        ({"messages": HELLO * 2049}, "messages"),
        ({"messages": [{"role": "assistant", "content": "x", "tool_calls": [CALL] * 129}]}, "messages[0].tool_calls"),
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
        ({"top_p": -0.01}, "top_p"),
        ({"top_p": 1.01}, "top_p"),
        ({"seed": 1.5}, "seed"),
        ({"seed": 2**63}, "seed"),
        ({"stop": ""}, "stop"),
        ({"stop": 5}, "stop"),
        ({"stop": ["a", ""]}, "stop[1]"),
        ({"stop": ["x"] * 65}, "stop"),
        ({"stop": ["s" * 800] * 6}, "stop"),
        ({"stop": "s" * 1001}, "stop"),
        ({"n": 0}, "n"),
        ({"n": 129}, "n"),
        ({"n": "1"}, "n"),
        ({"n": True}, "n"),
        ({"presence_penalty": 2.1}, "presence_penalty"),
        ({"presence_penalty": False}, "presence_penalty"),
        ({"frequency_penalty": -2.1}, "frequency_penalty"),
        ({"logit_bias": []}, "logit_bias"),
        ({"logit_bias": {"5": "1"}}, "logit_bias"),
        ({"logit_bias": {"5": True}}, "logit_bias"),
        ({"logit_bias": {"5": 100.5}}, "logit_bias"),
        ({"logit_bias": {"5": -101}}, "logit_bias"),
        ({"logit_bias": {"hello": 1}}, "logit_bias"),
        ({"logit_bias": {"-1": 1}}, "logit_bias"),
        ({"logit_bias": {"05": 1}}, "logit_bias"),
        ({"logit_bias": {"1.0": 1}}, "logit_bias"),
        ({"logit_bias": {"\u0665": 1}}, "logit_bias"),
        ({"logit_bias": {"9" * 5000: 1}}, "logit_bias"),
        ({"logit_bias": {str(token): 1 for token in range(301)}}, "logit_bias"),
        ({"logprobs": 1}, "logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": -1}, "top_logprobs"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"logprobs": False, "top_logprobs": 1}, "top_logprobs"),
        ({"parallel_tool_calls": 0}, "parallel_tool_calls"),
        ({"top_k": -2}, "top_k"),
        ({"top_k": 1.5}, "top_k"),
        ({"min_p": -0.1}, "min_p"),
        ({"min_p": 1.1}, "min_p"),
        ({"repetition_penalty": 0}, "repetition_penalty"),
        ({"repetition_penalty": 10.1}, "repetition_penalty"),
        ({"min_tokens": -1}, "min_tokens"),
        ({"min_tokens": 9, "max_tokens": 8}, "min_tokens"),
        ({"ignore_eos": "yes"}, "ignore_eos"),
        ({"tools": {}}, "tools"),
        ({"tools": [{"type": "retrieval", "function": {"name": "f"}}]}, "tools[0].type"),
        ({"tools": [{"type": "custom", "custom": {"name": "f"}}]}, "tools[0].type"),
        ({"tools": [{"function": {"name": "two words"}}]}, "tools[0].function.name"),
        ({"tools": [{"function": {"name": ""}}]}, "tools[0].function.name"),
        ({"tools": [{"function": {"name": "f" * 65}}]}, "tools[0].function.name"),
        ({"tools": [{"function": {"name": "f", "parameters": []}}]}, "tools[0].function.parameters"),
        ({"tools": [{"function": {"name": "f", "strict": 1}}]}, "tools[0].function.strict"),
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
        ({"best_of": 5}, "best_of"),
        ({"guided_chioce": ["a"]}, "guided_chioce"),
        ({"messages": [{"role": "user", "content": "x", "mood": 1}]}, "messages[0].mood"),
        ({"stream": True, "stream_options": {"x": 1}}, "stream_options.x"),
        ({"tools": [{"function": {"name": "f", "x": 1}}]}, "tools[0].function.x"),
    ],
)
def test_an_unknown_field_is_refused_by_name(fields: dict[str, Any], param: str) -> None:
    assert refusal(**fields) == (param, "unknown_parameter", f"unknown field '{param}'")


@pytest.mark.parametrize("kind", ["image_url", "input_audio", "file", "video_url"])
def test_a_part_that_is_no_text_is_refused_by_its_place_and_its_kind(kind: str) -> None:
    part = {"type": kind, kind: {"url": "data:image/png;base64,AA=="}}
    param, code, message = refusal(messages=[{"role": "user", "content": [{"type": "text", "text": "look"}, part]}])
    assert (param, code) == ("messages[0].content[1]", "invalid_value")
    assert repr(kind) in message


@pytest.mark.parametrize("order", [("type", "custom", "id"), ("id", "custom", "type")])
def test_a_custom_tool_is_refused_by_its_kind_whatever_else_it_has(order: tuple[str, ...]) -> None:
    whole = {"type": "custom", "custom": {"name": "f", "input": "x"}, "id": "call_1"}
    call = {name: whole[name] for name in order}
    found = refusal(messages=[{"role": "assistant", "tool_calls": [call]}])
    assert found[:2] == ("messages[0].tool_calls[0].type", "invalid_value")
    assert "'custom'" in found[2]
    assert refusal(tool_choice={"type": "custom", "custom": {"name": "f"}})[0] == "tool_choice.type"


def test_what_an_assistant_refused_with_is_what_it_said() -> None:
    parts = [{"type": "text", "text": "Well, "}, {"type": "refusal", "refusal": "no."}]
    assert messages({"role": "assistant", "content": parts})[0].content == "Well, no."
    assert messages({"role": "assistant", "content": None, "refusal": "no."})[0].content == "no."


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
def test_what_an_assistant_thought_may_be_sent_back_under_either_name(field: str) -> None:
    assert messages({"role": "assistant", "content": "x", field: "hm"}) == (
        Message(Role.ASSISTANT, "x", reasoning="hm"),
    )


def test_parts_may_say_where_a_prompt_that_will_come_again_ends() -> None:
    part = {"type": "text", "text": "x", "prompt_cache_breakpoint": {"mode": "explicit", "ttl": "30m"}}
    assert messages({"role": "user", "content": [part]})[0].content == "x"


@pytest.mark.parametrize("role", ["assistant", "tool"])
@pytest.mark.parametrize("content", ["", []])
def test_an_assistant_and_a_tool_may_say_nothing(role: str, content: Any) -> None:
    call_id = {"tool_call_id": "call_1"} if role == "tool" else {}
    assert messages(CALLING, {"role": role, "content": content, **call_id})[1].content == ""


UNSUPPORTED = {
    "audio": {"voice": "x"},
    "function_call": "auto",
    "functions": [{"name": "f"}],
    "modalities": ["audio"],
    "moderation": {"model": "m"},
    "prediction": {},
    "verbosity": "low",
    "web_search_options": {},
}


@pytest.mark.parametrize(("field", "value"), UNSUPPORTED.items())
def test_a_field_of_openai_that_we_do_not_support_is_refused_by_name(field: str, value: Any) -> None:
    param, code, message = refusal(**{field: value})
    assert (param, code) == (field, "unsupported_parameter")
    assert message.startswith(f"'{field}' is not supported")


@pytest.mark.parametrize(("field", "instead"), [("functions", "tools"), ("function_call", "tool_choice")])
def test_the_old_way_to_call_functions_is_refused_with_the_new_one(field: str, instead: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        decode_chat(body(**{field: "auto"}))
    assert f"'{instead}'" in caught.value.hint


@pytest.mark.parametrize("field", UNSUPPORTED)
def test_an_unsupported_field_may_be_null(field: str) -> None:
    assert decode_chat(body(**{field: None})) == decode_chat(body())


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("modalities", ["text"]),
        ("verbosity", "medium"),
    ],
)
def test_an_unsupported_field_may_ask_for_what_happens_anyway(field: str, value: Any) -> None:
    assert decode_chat(body(**{field: value})) == decode_chat(body())


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("modalities", "text"),
        ("modalities", ["text", "audio"]),
    ],
)
def test_a_value_that_only_resembles_the_neutral_one_is_refused(field: str, value: Any) -> None:
    assert refusal(**{field: value})[:2] == (field, "unsupported_parameter")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("n", 1),
        ("presence_penalty", 0),
        ("frequency_penalty", -0.0),
        ("logit_bias", {}),
        ("logprobs", False),
        ("tool_choice", "auto"),
        ("parallel_tool_calls", True),
        ("response_format", {"type": "text"}),
        ("ignore_eos", False),
    ],
)
def test_a_default_may_be_said(field: str, value: Any) -> None:
    assert decode_chat(body(**{field: value})) == decode_chat(body())


def test_logprobs_without_a_number_are_of_the_chosen_tokens_only() -> None:
    assert request(logprobs=True).top_logprobs == 0
    assert request(logprobs=False, top_logprobs=0).top_logprobs is None


@pytest.mark.parametrize("everything", [0, -1])
def test_top_k_has_two_ways_to_say_all(everything: int) -> None:
    assert request(top_k=everything).sampling.top_k == 0


def test_the_largest_values_are_in_range() -> None:
    biases = {str(token): 100 for token in range(300)}
    read = request(n=128, logit_bias=biases, min_p=1, repetition_penalty=10, max_tokens=3, min_tokens=3)
    assert (read.choices, len(read.sampling.logit_bias), read.sampling.min_tokens) == (128, 300, 3)


@pytest.mark.parametrize("raw", [b"", b"{", b"not json", b'{"model": "m",}', b"\xff", b"[" * 40_000, b"[]", b"null"])
def test_a_body_that_is_no_json_object_is_refused(raw: bytes) -> None:
    with pytest.raises(InvalidRequest) as caught:
        decode_chat(raw)
    assert (caught.value.param, caught.value.code) == (None, "invalid_json")


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
    | st.sampled_from(["auto", "required", "function", "json_schema", "json_object", "text", "1", "f"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["type", "function", "name", "json_schema", "schema", "allowed_tools", "mode", "tools", "7"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(sorted(set(ChatBody.__struct_fields__) - {"model"})), VALUES, max_size=5))
def test_whatever_comes_is_passed_on_or_refused(fields: dict[str, Any]) -> None:
    try:
        call = decode_chat(body(**fields))
        frame = pipe.encode(pipe.Begin(0, call.request))
    except InvalidRequest as error:
        assert error.message
    else:
        assert pipe.decode_command(frame) == pipe.Begin(0, call.request)


def test_the_fields_that_only_pass_through_are_passed_on() -> None:
    call = decode_chat(
        body(
            reasoning_effort="low",
            chat_template_kwargs={"enable_thinking": False},
            keep_alive="5m",
            stream=True,
            stream_options={"include_timings": True},
        )
    )
    prompt = call.request.prompt
    assert isinstance(prompt, Chat)
    assert (prompt.reasoning_effort, prompt.variables) == ("low", {"enable_thinking": False})
    assert (call.keep_alive, call.includes_timings, call.includes_usage) == (timedelta(minutes=5), True, False)


@pytest.mark.parametrize(
    ("value", "param"),
    [
        ([], "chat_template_kwargs"),
        ({"": 1}, "chat_template_kwargs"),
        ({"k" * 65: 1}, "chat_template_kwargs"),
        ({f"k{number}": 1 for number in range(33)}, "chat_template_kwargs"),
        ({"k": "x" * 17_000}, "chat_template_kwargs"),
    ],
)
def test_what_is_given_to_a_template_has_bounds(value: Any, param: str) -> None:
    assert refusal(chat_template_kwargs=value)[:2] == (param, "invalid_value")


def test_foundry_locals_names_mean_what_ours_mean() -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": "a"}]}
    call = decode_chat(json.dumps({**body, "random_seed": 7, "ttl": 60, "ep": "CPU"}).encode())
    assert (call.request.sampling.seed, call.keep_alive, call.ep) == (7, timedelta(seconds=60), "cpu")
    assert decode_chat(json.dumps({**body, "ttl": 0}).encode()).keep_alive is None
    for fields in ({"seed": 1, "random_seed": 2}, {"keep_alive": "5m", "ttl": 60}):
        with pytest.raises(InvalidRequest, match="it is not what"):
            decode_chat(json.dumps({**body, **fields}).encode())
