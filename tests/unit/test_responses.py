"""OpenAI's Responses API: what requests become, and the shape of every answer and event, by OpenAI's own types."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from openai.types.responses import Response, ResponseFunctionToolCall, ResponseStreamEvent
from pydantic import TypeAdapter

from foundry_lite.errors import ContextExceeded, InvalidRequest
from foundry_lite.generation import (
    CallPiece,
    Chat,
    Delta,
    Finish,
    GrammarKind,
    Logprob,
    Message,
    Role,
    Timings,
    TokenLogprob,
    Tool,
    ToolCall,
    ToolMode,
    Usage,
)
from foundry_lite.protocol.errors import reply_for
from foundry_lite.protocol.responses.bodies import Circumstances, ResponseErrorBody
from foundry_lite.protocol.responses.items import (
    FunctionCall,
    InputMessage,
    OutputMessage,
    OutputText,
    as_input,
    item_id,
    listed,
    read_items,
    response_of,
)
from foundry_lite.protocol.responses.queries import ItemsQuery, RetrieveQuery, page, read_query
from foundry_lite.protocol.responses.request import (
    UNSUPPORTED,
    ResponseBody,
    ResponseCall,
    decode_response,
    renamed,
    without_oldest,
)
from foundry_lite.protocol.responses.writer import ResponseWriter
from tests.support import served

EVENTS: Any = TypeAdapter(ResponseStreamEvent)
AROUND = Circumstances(served("mine:cpu-int4"), 0.5, 0.25, is_kept=True)
LAST = Delta("", (), 1, Finish.STOP, Usage(7, 3, 5, 1), Timings(0.01, 0.02, 0.05))
F: dict[str, Any] = {"type": "function", "name": "f", "parameters": {"type": "object"}}


def decode(**fields: Any) -> ResponseCall:
    return decode_response(json.dumps({"model": "mine", "input": "hi", **fields}).encode())


def refusal(**fields: Any) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        decode(**fields)
    return caught.value


def messages(*items: Any) -> tuple[Message, ...]:
    return decode(input=list(items)).continuing()


def events(sent: bytes) -> list[dict[str, Any]]:
    """The events of a stream; each has a line with its name, and is what OpenAI's client takes it for."""
    found = []
    for block in sent.decode().split("\n\n")[:-1]:
        name, data = block.split("\n")
        value = json.loads(data.removeprefix("data: "))
        assert name == f"event: {value['type']}"
        assert EVENTS.validate_json(data.removeprefix("data: ")).type == value["type"]
        found.append(value)
    return found


def stream(*deltas: Delta, **fields: Any) -> list[dict[str, Any]]:
    writer = ResponseWriter(decode(**fields), AROUND)
    sent = events(writer.opening() + b"".join(writer.write([delta]) for delta in deltas) + writer.closing())
    whole = json.loads(msgspec.json.encode(writer.whole(list(deltas))))
    last = sent[-1]["response"]
    assert {**last, "completed_at": None} == {**whole, "completed_at": None}
    assert [event["sequence_number"] for event in sent] == list(range(len(sent)))
    return sent


# The request.


def test_a_text_is_a_message_of_the_user_behind_the_instructions() -> None:
    call = decode(instructions="Be brief.", temperature=0.5, max_output_tokens=9, seed=3, top_k=4, stop=["x"])
    request = call.request(call.continuing())
    assert request.prompt == Chat((Message(Role.SYSTEM, "Be brief."), Message(Role.USER, "hi")))
    assert (request.sampling.temperature, request.max_new_tokens) == (0.5, 9)
    assert (request.sampling.seed, request.sampling.top_k, request.stop) == (3, 4, ("x",))


def test_messages_come_easy_or_typed_and_in_parts() -> None:
    assert messages(
        {"role": "developer", "content": "one"},
        {
            "type": "message",
            "role": "user",
            "content": [
                {"type": "input_text", "text": "t"},
                {"type": "input_text", "text": "t", "prompt_cache_breakpoint": {"mode": "explicit"}},
            ],
        },
        {
            "type": "message",
            "id": "msg_1",
            "status": "completed",
            "role": "assistant",
            "content": [
                {"type": "output_text", "text": "a", "annotations": [], "logprobs": []},
                {"type": "refusal", "refusal": "b"},
            ],
        },
    ) == (Message(Role.DEVELOPER, "one"), Message(Role.USER, "tt"), Message(Role.ASSISTANT, "ab"))


def test_what_a_model_thought_said_and_called_at_one_go_is_one_message() -> None:
    call = {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"}
    result = {"type": "function_call_output", "call_id": "c1", "output": [{"type": "input_text", "text": "42"}]}
    thought = {"type": "reasoning", "id": "r", "summary": [], "content": [{"type": "reasoning_text", "text": "hm"}]}
    assert messages(
        {"role": "user", "content": "q"},
        thought,
        {"role": "assistant", "content": "let me see"},
        call,
        {**call, "call_id": "c2"},
        result,
        {**result, "call_id": "c2", "output": "43", "name": "f"},
        {**call, "call_id": "c3"},
    )[1:] == (
        Message(
            Role.ASSISTANT,
            "let me see",
            tool_calls=(ToolCall("c1", "f", "{}"), ToolCall("c2", "f", "{}")),
            reasoning="hm",
        ),
        Message(Role.TOOL, "42", tool_call_id="c1"),
        Message(Role.TOOL, "43", "f", tool_call_id="c2"),
        Message(Role.ASSISTANT, tool_calls=(ToolCall("c3", "f", "{}"),)),
    )


def test_a_result_must_answer_a_call_of_the_request_or_of_the_conversation() -> None:
    result = {"type": "function_call_output", "call_id": "c1", "output": "42"}
    assert refusal(input=[result]).param == "input[0].call_id"
    call = decode(input=[result], previous_response_id="resp_1")
    history = (Message(Role.ASSISTANT, tool_calls=(ToolCall("c1", "f", "{}"),)),)
    assert call.continuing(history)[1] == Message(Role.TOOL, "42", tool_call_id="c1")


def test_references_are_replaced_by_what_was_found() -> None:
    call = decode(input=[{"type": "item_reference", "id": "msg_1"}, {"id": "msg_2"}])
    assert call.references == ("msg_1", "msg_2")
    [one] = as_input([OutputMessage("msg_1", [OutputText("said")], "completed")])
    assert call.continuing((), {"msg_1": one, "msg_2": one}) == (Message(Role.ASSISTANT, "said"),) * 2
    with pytest.raises(InvalidRequest) as caught:
        call.continuing((), {"msg_1": one})
    assert caught.value.param == "input[1].id"


def test_tools_formats_and_effort_become_what_the_engine_knows() -> None:
    schema = {"type": "object"}
    call = decode(
        tools=[{**F, "strict": True, "description": "d"}],
        tool_choice={"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "f"}]},
        parallel_tool_calls=False,
        text={"format": {"type": "json_schema", "name": "n", "schema": schema, "strict": True}, "verbosity": "medium"},
        reasoning={"effort": "low", "summary": "auto"},
        include=["message.output_text.logprobs"],
        top_logprobs=2,
    )
    request = call.request(call.continuing())
    assert isinstance(request.prompt, Chat)
    assert request.prompt.tools == (Tool("f", "d", schema, strict=True),)
    assert request.prompt.reasoning_effort == "low"
    assert (request.tool_choice.mode, request.tool_choice.names) == (ToolMode.AUTO, ("f",))
    assert not request.tool_choice.is_parallel
    assert request.grammar is not None
    assert (request.grammar.kind, json.loads(request.grammar.text)) == (GrammarKind.JSON_SCHEMA, schema)
    assert request.grammar.param == "text.format.schema"
    assert request.top_logprobs == 2


@pytest.mark.parametrize(
    ("choice", "mode", "names"),
    [
        (None, ToolMode.AUTO, ()),
        ("none", ToolMode.NONE, ()),
        ("required", ToolMode.REQUIRED, ()),
        ({"type": "function", "name": "f"}, ToolMode.REQUIRED, ("f",)),
    ],
)
def test_a_tool_choice_is_read(choice: Any, mode: ToolMode, names: tuple[str, ...]) -> None:
    found = decode(tools=[F], tool_choice=choice).generation.tool_choice
    assert (found.mode, found.names) == (mode, names)


def test_a_forced_call_leaves_no_text_for_a_format() -> None:
    """Instructor's mode for responses sends both."""
    forced: dict[str, Any] = {"tools": [F], "tool_choice": {"type": "function", "name": "f"}}
    form = {"format": {"type": "json_schema", "name": "f", "schema": {"type": "object"}}}
    assert decode(**forced, text=form).generation == decode(**forced).generation


@pytest.mark.parametrize("field", sorted(UNSUPPORTED))
def test_a_field_that_is_not_supported_is_refused_by_name_unless_it_is_null(field: str) -> None:
    error = refusal(**{field: {}})
    assert (error.param, error.code) == (field, "unsupported_parameter")
    assert decode(**{field: None}).model == "mine"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": None}, "input"),
        ({"input": []}, "input"),
        ({"input": 3}, "input"),
        ({"input": [{"role": "user"}]}, "input[0].content"),
        ({"input": [3]}, "input[0]"),
        ({"input": [{"role": "tool", "content": "x"}]}, "input[0].role"),
        ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, "input[0].content[0].type"),
        ({"input": [{"type": "function_call_output", "output": [{"type": "input_file"}]}]}, "input[0].output[0].type"),
        ({"input": [{"type": "web_search_call"}]}, "input[0].type"),
        ({"input": [{"type": "reasoning", "summary": [], "encrypted_content": "x"}]}, "input[0].encrypted_content"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"tools": [F, {"type": "mcp", "server_label": "x"}]}, "tools[1].type"),
        ({"tools": [{**F, "output_schema": {}}]}, "tools[0].output_schema"),
        ({"tools": [{**F, "async": True}]}, "tools[0].async"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": {"type": "function", "name": "g"}, "tools": [F]}, "tool_choice"),
        ({"tool_choice": {"type": "mcp", "server_label": "x"}}, "tool_choice.type"),
        ({"text": {"verbosity": "low"}}, "text.verbosity"),
        ({"text": {"format": {"type": "json_schema", "name": "n"}}}, "text.format.schema"),
        ({"reasoning": {"effort": "some"}}, "reasoning.effort"),
        ({"reasoning": {"summary": "detailed"}}, "reasoning.summary"),
        ({"include": ["file_search_call.results"]}, "include[0]"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"top_logprobs": 3, "include": ["reasoning.encrypted_content"]}, "top_logprobs"),
        ({"client_metadata": {"turn": 1}}, "client_metadata"),
        ({"input": [{"role": "assistant", "content": "hi", "phase": "later"}]}, "input[0].phase"),
        ({"top_logprobs": 21, "include": ["message.output_text.logprobs"]}, "top_logprobs"),
        ({"background": True, "store": False}, "background"),
        ({"stream_options": {}}, "stream_options"),
        ({"stream": True, "stream_options": {"include_obfuscation": True}}, "stream_options.include_obfuscation"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"truncation": "never"}, "truncation"),
        ({"metadata": {"k": 1}}, "metadata"),
        ({"service_tier": "flex"}, "service_tier"),
        ({"prompt_cache_options": {"comparison_response_id": "x"}}, "prompt_cache_options.comparison_response_id"),
        ({"n": 2}, "n"),
    ],
)
def test_what_cannot_be_obeyed_is_refused_by_its_place(fields: dict[str, Any], param: str) -> None:
    assert refusal(**fields).param == param


def test_thoughts_are_not_encrypted_and_asking_for_it_asks_for_nothing_else() -> None:
    asked = decode(include=["reasoning.encrypted_content"], store=False)
    assert asked.generation == decode(store=False).generation
    assert asked.generation.top_logprobs is None


def test_what_codex_sends_by_itself_changes_nothing() -> None:
    """As its version 0.169 does with a model that it has no description of."""
    body = {"reasoning": {"summary": "auto"}, "include": ["reasoning.encrypted_content"], "store": False}
    asked = decode(
        **body, client_metadata={"turn_id": "t"}, prompt_cache_key="k", parallel_tool_calls=True, stream=True
    )
    assert asked.generation == decode().generation


def test_a_call_may_come_back_however_openais_client_dumps_it() -> None:
    call = ResponseFunctionToolCall(type="function_call", call_id="c", name="f", arguments="{}", id="fc_1")
    said = {"role": "user", "content": "x"}
    plain = messages(said, call.to_dict())
    more = {"async": False, "caller": {"type": "direct"}, "created_by": None, "parsed_arguments": {"x": 1}}
    for dumped in (call.model_dump(), call.model_dump(by_alias=True), {**call.to_dict(), **more}):
        assert messages(said, dumped) == plain
    text = {"type": "output_text", "text": "a"}
    answer = {"type": "message", "role": "assistant"}
    parsed = messages(said, {**answer, "content": [{**text, "parsed": {"x": 1}}]})
    assert parsed == messages(said, {**answer, "content": [text]})
    assert decode(tools=[{**F, "async_": None}]).generation == decode(tools=[F]).generation
    for wrong in (
        {"async": True},
        {"async_": True},
        {"created_by": "u"},
        {"caller": {"type": "program", "caller_id": "c"}},
    ):
        with pytest.raises(InvalidRequest):
            messages(said, {**call.to_dict(), **wrong})


def test_the_phase_of_a_message_is_kept_and_shown_to_no_model() -> None:
    said = {"type": "message", "role": "assistant", "content": "hi"}
    hello = {"role": "user", "content": "hi"}
    assert messages({**said, "phase": "commentary"}, hello) == messages(said, hello)
    (item,) = listed(decode(input=[{**said, "phase": "final_answer"}]).items, "resp_00")
    assert isinstance(item, InputMessage)
    assert item.phase == "final_answer"


def test_an_error_of_the_engine_is_told_in_the_words_of_this_api() -> None:
    error = renamed(ContextExceeded(9, 8))
    assert (error.param, error.code) == ("input", "context_length_exceeded")
    assert "input" in error.hint
    assert renamed(InvalidRequest("x", "tools[1].function.parameters")).param == "tools[1].parameters"
    assert renamed(InvalidRequest("x", "messages[2].content")).param == "input"
    assert renamed(InvalidRequest("x")).param is None


def test_the_oldest_turns_are_dropped_whole_but_never_what_the_system_says() -> None:
    told, asked, said = Message(Role.SYSTEM, "s"), Message(Role.USER, "q"), Message(Role.ASSISTANT, "a")
    assert without_oldest((told, asked, said, asked, said, asked), 2) == (told, asked)
    assert without_oldest((said, asked, told, asked), 1) == (told, asked)


# The answer.


def test_a_whole_response_is_what_openais_client_expects() -> None:
    call = decode(
        metadata={"k": "v"}, top_p=0.5, tools=[F], tool_choice={"type": "function", "name": "f"}, instructions="x"
    )
    writer = ResponseWriter(call, AROUND)
    wire = json.loads(msgspec.json.encode(writer.whole([Delta("Hel"), Delta("lo"), LAST])))
    found = Response.model_validate(wire)
    assert (found.output_text, found.status, found.model) == ("Hello", "completed", "mine:cpu-int4")
    assert (found.metadata, found.top_p, found.temperature) == ({"k": "v"}, 0.5, 0.5)
    assert found.usage is not None
    assert found.usage.model_dump(exclude_none=True) == {
        "input_tokens": 7,
        "input_tokens_details": {"cached_tokens": 5, "cache_write_tokens": 0},
        "output_tokens": 3,
        "output_tokens_details": {"reasoning_tokens": 1},
        "total_tokens": 10,
    }
    assert wire["tools"] == [{**F, "description": None, "strict": None}]
    assert wire["tool_choice"] == {"type": "function", "name": "f"}
    assert wire["text"] == {"format": {"type": "text"}, "verbosity": "medium"}
    assert wire["output"][0]["id"] == item_id("message", writer.id, 1)
    assert wire["timings"]["cache_n"] == 5


def test_a_schema_is_told_as_strict_where_nothing_was_said_since_it_is_followed() -> None:
    form = {"type": "json_schema", "name": "n", "schema": {}}
    for given, told in ({}, True), ({"strict": None}, True), ({"strict": False}, False):
        writer = ResponseWriter(decode(text={"format": {**form, **given}}), AROUND)
        wire = json.loads(msgspec.json.encode(writer.whole([LAST])))
        assert wire["text"]["format"] == {**form, "description": None, "strict": told}


def test_text_comes_in_openais_events() -> None:
    sent = stream(Delta("Hel"), Delta("lo"), LAST)
    assert [event["type"].removeprefix("response.") for event in sent] == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ]
    assert sent[0]["response"]["status"] == "in_progress"
    assert sent[0]["response"]["output"] == sent[2]["item"]["content"] == []
    assert sent[6]["text"] == sent[7]["part"]["text"] == sent[8]["item"]["content"][0]["text"] == "Hello"
    assert sent[9]["response"]["output"] == [sent[8]["item"]]


def test_thoughts_text_and_calls_are_items_one_after_the_other() -> None:
    pieces = (CallPiece(0, "call_1", "f"), CallPiece(0, arguments='{"x":'), CallPiece(0, arguments="1}"))
    more = (CallPiece(1, "call_2", "g", "{}"),)
    last = msgspec.structs.replace(LAST, finish=Finish.TOOL_CALLS)
    sent = stream(Delta(reasoning="h"), Delta(reasoning="m", text="So"), Delta(calls=pieces), Delta(calls=more), last)
    names = [event["type"].removeprefix("response.") for event in sent]
    assert names[2:8] == [
        "output_item.added",
        "content_part.added",
        "reasoning_text.delta",
        "reasoning_text.delta",
        "reasoning_text.done",
        "content_part.done",
    ]
    assert names[-9:-1] == [
        "function_call_arguments.delta",
        "function_call_arguments.delta",
        "function_call_arguments.done",
        "output_item.done",
        "output_item.added",
        "function_call_arguments.delta",
        "function_call_arguments.done",
        "output_item.done",
    ]
    thought, said, first, second = sent[-1]["response"]["output"]
    assert thought["content"] == [{"type": "reasoning_text", "text": "hm"}]
    assert said["content"][0]["text"] == "So"
    assert (first["call_id"], first["name"], first["arguments"]) == ("call_1", "f", '{"x":1}')
    assert (second["call_id"], second["name"], second["arguments"]) == ("call_2", "g", "{}")
    assert [event["output_index"] for event in sent if event["type"].endswith("item.added")] == [0, 1, 2, 3]
    assert len({item["id"] for item in sent[-1]["response"]["output"]}) == 4


def test_an_answer_that_is_cut_is_incomplete_and_so_is_its_last_item() -> None:
    sent = stream(Delta("a"), Delta(calls=(CallPiece(0, "c", "f", "{"),)), Delta(finish=Finish.LENGTH))
    assert sent[-1]["type"] == "response.incomplete"
    response = sent[-1]["response"]
    assert response["incomplete_details"] == {"reason": "max_output_tokens"}
    assert [item["status"] for item in response["output"]] == ["completed", "incomplete"]
    assert response["completed_at"] is None


def test_an_answer_of_nothing_is_an_empty_message() -> None:
    [item] = stream(LAST)[-1]["response"]["output"]
    assert (item["type"], item["content"][0]["text"]) == ("message", "")


def test_logprobs_stand_beside_the_text_of_their_tokens() -> None:
    token = TokenLogprob(Logprob("a", b"a", -0.5), (Logprob("b", b"b", -2.5),))
    sent = stream(Delta("a", logprobs=(token,)), Delta("", logprobs=(token,)), LAST)
    expected = [
        {
            "token": "a",
            "bytes": [97],
            "logprob": -0.5,
            "top_logprobs": [{"token": "b", "bytes": [98], "logprob": -2.5}],
        }
    ]
    assert sent[4]["logprobs"] == sent[5]["logprobs"] == expected
    assert sent[-1]["response"]["output"][0]["content"][0]["logprobs"] == expected


def test_text_that_was_held_back_keeps_its_logprobs_and_the_marks_of_a_call_have_none() -> None:
    """The text of an answer with tools is held back from each mark on that may begin a call."""
    told = {letter: TokenLogprob(Logprob(letter, letter.encode(), -0.5), ()) for letter in "a<bcä"}
    call = (CallPiece(0, "call_1", "f"), CallPiece(0, arguments="{}"))
    sent = stream(
        Delta("a", logprobs=(told["a"],)),
        Delta("", logprobs=(told["<"],)),
        Delta("<b", logprobs=(told["b"],)),
        Delta("", calls=call, logprobs=(told["<"], told["c"])),
        Delta("", logprobs=(told["c"],)),
        Delta("ä", logprobs=(told["ä"],)),
        LAST,
    )
    assert [[one["token"] for one in event["logprobs"]] for event in sent if event["type"].endswith("text.delta")] == [
        ["a"],
        ["<", "b"],
        ["ä"],
    ]


def test_an_error_is_an_event_of_its_own_before_the_stream_and_ends_it_later() -> None:
    reply = reply_for(InvalidRequest("no", "input", "bad"))
    [early] = events(ResponseWriter(decode(), AROUND).failure(reply))
    assert (early["type"], early["message"], early["param"], early["code"]) == ("error", "no", "input", "bad")
    writer = ResponseWriter(decode(), AROUND)
    late = events(writer.opening() + writer.write([Delta("a")]) + writer.failure(reply))[-1]
    assert (late["type"], late["response"]["status"]) == ("response.failed", "failed")
    assert late["response"]["error"] == {"code": "invalid_prompt", "message": "no"}
    assert late["response"]["output"][0]["content"][0]["text"] == "a"


def test_a_response_that_is_broken_off_says_so() -> None:
    writer = ResponseWriter(decode(), AROUND)
    writer.opening()
    [last] = events(writer.broken_off("failed", ResponseErrorBody("server_error", "stopped")))
    assert (last["type"], last["response"]["error"]["message"]) == ("response.failed", "stopped")
    writer.forget()
    assert writer.so_far("cancelled").store is False


# Items that are kept.


def test_an_answer_goes_on_as_input_but_for_a_call_that_was_cut() -> None:
    call = FunctionCall("{}", "c1", "f", "fc_1", "completed")
    cut = FunctionCall("{", "c2", "f", "fc_2", "incomplete")
    said = OutputMessage("msg_1", [OutputText("a")], "completed")
    assert read_items(as_input([said, call, cut])) == [
        Message(Role.ASSISTANT, "a", tool_calls=(ToolCall("c1", "f", "{}"),))
    ]


def test_what_is_listed_has_ids_that_lead_back_to_their_response() -> None:
    response = f"resp_{'0a' * 24}"
    found = listed(
        decode(input=[{"role": "user", "content": "x"}, {"type": "reasoning", "id": "mine"}]).items, response
    )
    assert [item.id for item in found] == [item_id("message", response, 0), "mine"]
    assert response_of(str(found[0].id)) == response
    assert response_of("mine") is response_of(f"msg_../{'0a' * 24}0000") is None


def test_items_are_listed_in_pages() -> None:
    items = listed(decode(input=[{"role": "user", "content": str(n)} for n in range(5)]).items, f"resp_{'a' * 48}")
    ids = [item.id for item in items]
    first = page(items, ItemsQuery(limit="2"))
    assert (first.first_id, first.last_id, first.has_more) == (ids[4], ids[3], True)
    rest = page(items, ItemsQuery(after=first.last_id, order="desc"))
    assert [item.id for item in rest.data] == ids[2::-1]
    assert not rest.has_more
    assert [item.id for item in page(items, ItemsQuery(order="asc", after=ids[3])).data] == ids[4:]
    for query, param in (
        (ItemsQuery(limit="0"), "limit"),
        (ItemsQuery(limit="101"), "limit"),
        (ItemsQuery(after="x"), "after"),
    ):
        with pytest.raises(InvalidRequest) as caught:
            page(items, query)
        assert caught.value.param == param


def test_a_query_is_read_as_openais_clients_write_it() -> None:
    query = read_query([("include[]", "message.output_text.logprobs"), ("starting_after", "3")], RetrieveQuery)
    assert (query.include, query.starting_after) == (["message.output_text.logprobs"], "3")
    for pairs, param in (
        ([("steam", "true")], "steam"),
        ([("starting_after", "-1")], "starting_after"),
        ([("include", "file_search_call.results")], "include[0]"),
    ):
        with pytest.raises(InvalidRequest) as caught:
            read_query(pairs, RetrieveQuery)
        assert caught.value.param == param


def test_every_field_of_openais_reference_is_known() -> None:
    """Of openai 3.52's ``ResponseCreateParams``."""
    from openai.types.responses.response_create_params import ResponseCreateParamsBase

    theirs = {*ResponseCreateParamsBase.__annotations__, "stream"}
    ours = {field.encode_name for field in msgspec.structs.fields(ResponseBody)}
    assert theirs - ours == UNSUPPORTED
