"""OpenAI's own Python client: what its users call, against a running daemon."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from typing import Any, Literal

import openai
from checks import ALPHABET, API, EMBEDDER, MODEL, NARROW, SLOW, check, equal, run, wait_until_idle
from pydantic import BaseModel

client = openai.OpenAI(base_url=API, api_key="any text", max_retries=0, timeout=30)
LETTERS = "abcdefghijklmnopqrstuvwxyz"
HI: Any = [{"role": "user", "content": "hi"}]
LAMP: Any = [{"role": "user", "content": "turn on the lamp in the kitchen"}]


class Target(BaseModel):
    device: str
    room: str


class Command(BaseModel):
    name: Literal["turn_on", "turn_off"]
    arguments: Target


class Temperature(BaseModel):
    room: str
    degrees: float


TOOL = openai.pydantic_function_tool(Target, name="turn_on")
HEAT = openai.pydantic_function_tool(Temperature, name="set_temperature")


def raised(kind: type[Exception], call: Any, **given: Any) -> Any:
    try:
        call(**given)
    except kind as error:
        return error
    raise AssertionError(f"no {kind.__name__}")


@check
def models_are_listed_and_retrieved() -> None:
    names = [one.id for one in client.models.list()]
    for name in (MODEL, f"{MODEL}:cpu-int4"):
        assert name in names, names
        one = client.models.retrieve(name)
        equal((one.object, one.id), ("model", name))
        assert one.created > 0
    raised(openai.NotFoundError, client.models.retrieve, model="nobody")


@check
def a_chat_is_answered_whole() -> None:
    messages: Any = [
        {"role": "system", "content": "You are a kind helper for the family."},
        {"role": "user", "name": "lena", "content": [{"type": "text", "text": "who are you?"}]},
    ]
    answer = client.chat.completions.create(model=MODEL, messages=messages, temperature=0)
    assert "assistant" in str(answer.choices[0].message.content), answer
    equal(answer.choices[0].finish_reason, "stop")
    assert answer.usage is not None
    equal(answer.usage.total_tokens, answer.usage.prompt_tokens + answer.usage.completion_tokens)


@check
def several_choices_have_logprobs_of_their_own() -> None:
    answer = client.chat.completions.create(
        model=ALPHABET, messages=HI, n=3, max_tokens=4, logprobs=True, top_logprobs=2, seed=1
    )
    equal([choice.index for choice in answer.choices], [0, 1, 2])
    for choice in answer.choices:
        assert choice.logprobs is not None
        content = choice.logprobs.content or []
        equal("".join(one.token for one in content), choice.message.content)
        equal([len(one.top_logprobs) for one in content], [2] * 4)
        equal(choice.finish_reason, "length")


@check
def a_plain_stream_joins_to_the_whole_answer() -> None:
    stream = client.chat.completions.create(
        model=ALPHABET, messages=HI, stream=True, n=2, stream_options={"include_usage": True}
    )
    texts, chunks = ["", ""], list(stream)
    for chunk in chunks:
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
    equal(texts, [LETTERS] * 2)
    equal(len({chunk.id for chunk in chunks}), 1)
    equal(chunks[-1].choices, [])
    assert chunks[-1].usage is not None
    equal(chunks[-1].usage.completion_tokens, 2 * 27)


@check
def the_stream_helper_tells_text_and_logprobs_as_events() -> None:
    with client.chat.completions.stream(model=ALPHABET, messages=HI, logprobs=True) as stream:
        events = list(stream)
        final = stream.get_final_completion()
    equal("".join(event.delta for event in events if event.type == "content.delta"), LETTERS)
    equal([event.content for event in events if event.type == "content.done"], [LETTERS])
    told = [one.token for event in events if event.type == "logprobs.content.delta" for one in event.content]
    equal("".join(told), LETTERS)
    equal(final.choices[0].message.content, LETTERS)
    equal(final.choices[0].finish_reason, "stop")


@check
def the_stream_helper_parses_an_object_while_it_grows() -> None:
    with client.chat.completions.stream(
        model=MODEL, messages=LAMP, response_format=Command, temperature=0, max_tokens=100
    ) as stream:
        grown = [event.parsed for event in stream if event.type == "content.delta"]
        parsed = stream.get_final_completion().choices[0].message.parsed
    equal(parsed, Command(name="turn_on", arguments=Target(device="lamp", room="kitchen")))
    assert len(grown) > 2, grown


@check
def the_stream_helper_tells_a_call_and_its_parsed_arguments() -> None:
    with client.chat.completions.stream(model=MODEL, messages=LAMP, tools=[TOOL], temperature=0) as stream:
        events = list(stream)
        final = stream.get_final_completion()
    pieces = [event for event in events if event.type == "tool_calls.function.arguments.delta"]
    done = [event for event in events if event.type == "tool_calls.function.arguments.done"]
    equal(json.loads("".join(piece.arguments_delta for piece in pieces)), {"device": "lamp", "room": "kitchen"})
    equal([(one.name, one.parsed_arguments) for one in done], [("turn_on", Target(device="lamp", room="kitchen"))])
    equal(final.choices[0].finish_reason, "tool_calls")
    call: Any = (final.choices[0].message.tool_calls or [None])[0]
    equal(call.function.parsed_arguments, Target(device="lamp", room="kitchen"))


@check
def an_answer_is_parsed_into_a_class_and_sent_back_as_history() -> None:
    answer = client.chat.completions.parse(
        model=MODEL, messages=LAMP, response_format=Command, temperature=0, max_tokens=100
    )
    equal(answer.choices[0].message.parsed, Command(name="turn_on", arguments=Target(device="lamp", room="kitchen")))
    history: list[Any] = [*LAMP, answer.choices[0].message, {"role": "user", "content": "turn off the fan"}]
    again = client.chat.completions.parse(
        model=MODEL, messages=history, response_format=Command, temperature=0, max_tokens=100
    )
    parsed = again.choices[0].message.parsed
    assert parsed is not None
    equal((parsed.name, parsed.arguments.device), ("turn_off", "fan"))


@check
def strict_tools_make_a_round_trip() -> None:
    messages: list[Any] = [{"role": "user", "content": "make it 21 degrees in the kitchen"}]
    answer = client.chat.completions.parse(model=MODEL, messages=messages, tools=[HEAT, TOOL], temperature=0)
    message = answer.choices[0].message
    call = (message.tool_calls or [])[0]
    equal(call.function.parsed_arguments, Temperature(room="kitchen", degrees=21))
    messages += [message, {"role": "tool", "tool_call_id": call.id, "content": '{"ok": true}'}]
    last = client.chat.completions.create(model=MODEL, messages=messages, tools=[HEAT, TOOL], temperature=0)
    assert "21 degrees" in str(last.choices[0].message.content), last
    equal(last.choices[0].finish_reason, "stop")


@check
def a_tool_can_be_forced_and_forbidden() -> None:
    for choice in ("required", {"type": "function", "function": {"name": "turn_on"}}):
        answer = client.chat.completions.create(
            model=MODEL, messages=HI, tools=[TOOL], tool_choice=choice, temperature=0, max_tokens=100
        )
        calls: Any = answer.choices[0].message.tool_calls
        equal(calls[0].function.name, "turn_on")
    answer = client.chat.completions.create(model=MODEL, messages=LAMP, tools=[TOOL], tool_choice="none", max_tokens=8)
    equal(answer.choices[0].message.tool_calls, None)


@check
def a_raw_response_has_headers_and_a_parsed_body() -> None:
    raw = client.chat.completions.with_raw_response.create(model=ALPHABET, messages=HI)
    assert raw.headers["content-type"].startswith("application/json")
    equal(raw.retries_taken, 0)
    equal(raw.parse().choices[0].message.content, LETTERS)


@check
def a_streamed_response_can_be_read_line_by_line() -> None:
    with client.chat.completions.with_streaming_response.create(model=ALPHABET, messages=HI, stream=True) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        lines = [line for line in response.iter_lines() if line]
    equal(lines[-1], "data: [DONE]")
    assert all(line.startswith(("data: ", ":")) for line in lines), lines


@check
async def many_asynchronous_requests_and_streams_run_together() -> None:
    async with openai.AsyncOpenAI(base_url=API, api_key="x", max_retries=0) as together:

        async def whole() -> str | None:
            answer = await together.chat.completions.create(model=ALPHABET, messages=HI)
            return answer.choices[0].message.content

        async def streamed() -> str:
            text = ""
            async for chunk in await together.chat.completions.create(model=ALPHABET, messages=HI, stream=True):
                text += chunk.choices[0].delta.content or ""
            return text

        texts = await asyncio.gather(*(whole() for _ in range(6)), *(streamed() for _ in range(6)))
        equal(texts, [LETTERS] * 12)
        async with together.chat.completions.stream(model=ALPHABET, messages=HI) as stream:
            equal((await stream.get_final_completion()).choices[0].message.content, LETTERS)


@check
def closing_a_stream_stops_the_work() -> None:
    stream = client.chat.completions.create(model=SLOW, messages=HI, stream=True)
    for _, chunk in zip(range(3), stream, strict=False):
        assert chunk.choices
    stream.close()
    wait_until_idle(SLOW)


@check
async def cancelling_a_task_stops_the_work() -> None:
    async with openai.AsyncOpenAI(base_url=API, api_key="x", max_retries=0) as alone:
        task = asyncio.create_task(alone.chat.completions.create(model=SLOW, messages=HI))
        await asyncio.sleep(0.3)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    await asyncio.to_thread(wait_until_idle, SLOW)


@check
def running_out_of_time_is_the_clients_timeout_and_stops_the_work() -> None:
    raised(openai.APITimeoutError, client.with_options(timeout=0.3).chat.completions.create, model=SLOW, messages=HI)
    wait_until_idle(SLOW)


@check
def mistakes_have_their_exception_and_name_the_field() -> None:
    ask = client.chat.completions.create
    error = raised(openai.BadRequestError, ask, model=MODEL, messages=HI, temperature=3)
    equal((error.param, error.status_code, error.type), ("temperature", 400, "invalid_request_error"))
    error = raised(openai.BadRequestError, ask, model=MODEL, messages=[{"role": "user", "content": "hi " * 9000}])
    equal(error.code, "context_length_exceeded")
    error = raised(openai.NotFoundError, ask, model="nobody", messages=HI)
    equal((error.param, error.code), ("model", "model_not_found"))
    error = raised(openai.BadRequestError, ask, model=MODEL, messages=HI, extra_body={"temprature": 1})
    equal((error.param, error.code), ("temprature", "unknown_parameter"))
    error = raised(openai.NotFoundError, client.moderations.create, input="hi")
    assert "/v1/moderations" in error.message


@check
def advisory_fields_are_taken() -> None:
    answer = client.chat.completions.create(
        model=ALPHABET, messages=HI, user="lena", metadata={"a": "b"}, store=False, safety_identifier="x",
        prompt_cache_key="y", service_tier="auto",
    )  # fmt: skip
    equal(answer.choices[0].message.content, LETTERS)


@check
def fields_beyond_openais_go_in_the_extra_body() -> None:
    answer = client.chat.completions.create(
        model=ALPHABET, messages=HI, max_tokens=30, extra_body={"min_tokens": 30, "ignore_eos": True, "top_k": 1}
    )
    assert answer.usage is not None
    equal(answer.usage.completion_tokens, 30)


@check
def a_full_queue_is_retried_when_the_daemon_says() -> None:
    patient = openai.OpenAI(base_url=f"{NARROW}/v1", api_key="x", max_retries=4, timeout=30)
    holding = patient.chat.completions.create(model=SLOW, messages=HI, stream=True)
    next(iter(holding))
    impatient = patient.with_options(max_retries=0)
    error = raised(openai.RateLimitError, impatient.chat.completions.create, model=SLOW, messages=HI, max_tokens=2)
    wait = float(error.response.headers["retry-after"])
    threading.Timer(0.1, holding.close).start()
    began = time.monotonic()
    raw = patient.chat.completions.with_raw_response.create(model=SLOW, messages=HI, max_tokens=2)
    assert raw.retries_taken >= 1, raw.retries_taken
    assert time.monotonic() - began >= wait
    equal(raw.parse().choices[0].finish_reason, "length")


@check
def completions_continue_texts_and_score_them() -> None:
    answer = client.completions.create(model=ALPHABET, prompt=["x", "y"], max_tokens=3)
    equal([choice.index for choice in answer.choices], [0, 1])
    stream = client.completions.create(model=ALPHABET, prompt="abc", max_tokens=3, stream=True)
    equal("".join(chunk.choices[0].text for chunk in stream if chunk.choices), "def")
    # What evaluation harnesses send: the prompt's own logprobs, of text and of tokens.
    scored = client.completions.create(model=ALPHABET, prompt="abcd", max_tokens=0, echo=True, logprobs=1)
    logprobs = scored.choices[0].logprobs
    assert logprobs is not None
    equal(logprobs.tokens, list("abcd"))
    equal(logprobs.text_offset, [0, 1, 2, 3])
    equal((logprobs.token_logprobs or [0])[0], None)
    assert all(one is not None and one > -0.1 for one in (logprobs.token_logprobs or [])[1:]), logprobs
    equal([list(one) for one in (logprobs.top_logprobs or [])[1:] if one], [["b"], ["c"], ["d"]])


@check
def responses_are_made_streamed_continued_and_deleted() -> None:
    first = client.responses.create(model=MODEL, input="who are you?", temperature=0, instructions="Be kind.")
    assert "assistant" in first.output_text, first
    equal(first.status, "completed")
    with client.responses.stream(
        model=MODEL, input="what can you do?", previous_response_id=first.id, temperature=0
    ) as stream:
        events = list(stream)
        last = stream.get_final_response()
    equal([event.sequence_number for event in events], list(range(len(events))))
    equal(events[0].type, "response.created")
    equal(events[-1].type, "response.completed")
    equal("".join(event.delta for event in events if event.type == "response.output_text.delta"), last.output_text)
    assert first.usage is not None
    assert last.usage is not None
    assert last.usage.input_tokens > first.usage.input_tokens
    equal(client.responses.retrieve(last.id).output_text, last.output_text)
    assert [one.type for one in client.responses.input_items.list(last.id)], "no input items"
    for one in (first, last):
        client.responses.delete(one.id)
    raised(openai.NotFoundError, client.responses.retrieve, response_id=last.id)


@check
def responses_are_parsed_and_call_tools() -> None:
    parsed = client.responses.parse(
        model=MODEL, input="turn on the lamp in the kitchen", text_format=Command, temperature=0, max_output_tokens=100
    )
    equal(parsed.output_parsed, Command(name="turn_on", arguments=Target(device="lamp", room="kitchen")))
    tools: Any = [{"type": "function", **HEAT["function"]}]
    asked: list[Any] = [{"role": "user", "content": "make it 21 degrees in the kitchen"}]
    answer = client.responses.create(model=MODEL, input=asked, tools=tools, temperature=0, store=False)
    call: Any = answer.output[0]
    equal((call.type, json.loads(call.arguments)), ("function_call", {"room": "kitchen", "degrees": 21}))
    asked += [*answer.output, {"type": "function_call_output", "call_id": call.call_id, "output": '{"ok": true}'}]
    last = client.responses.create(model=MODEL, input=asked, tools=tools, temperature=0, store=False)
    assert "21 degrees" in last.output_text, last


@check
def embeddings_are_the_same_as_base64_and_as_numbers() -> None:
    texts = ["a warm house", "the cat sleeps", "a"]
    packed = client.embeddings.create(model=EMBEDDER, input=texts)  # the client asks for base64 and unpacks it
    plain = client.embeddings.create(model=EMBEDDER, input=texts, encoding_format="float")
    equal([one.index for one in packed.data], [0, 1, 2])
    for one, other in zip(packed.data, plain.data, strict=True):
        assert max(abs(a - b) for a, b in zip(one.embedding, other.embedding, strict=True)) < 1e-6
    equal(packed.usage.prompt_tokens, plain.usage.prompt_tokens)
    alone = client.embeddings.create(model=EMBEDDER, input=texts[1]).data[0].embedding
    assert max(abs(a - b) for a, b in zip(alone, packed.data[1].embedding, strict=True)) < 1e-5


if __name__ == "__main__":
    run()
