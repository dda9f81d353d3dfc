"""Plain completions: what a request asks for, what is refused, and what an answer looks like."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from foundry_lite.errors import InvalidRequest
from foundry_lite.generation import Delta, Echo, Finish, Logprob, Text, Timings, TokenLogprob, Tokens, Usage
from foundry_lite.protocol.chat.request import decode_chat
from foundry_lite.protocol.completions.request import CompletionCall, decode_completion
from foundry_lite.protocol.completions.writer import CompletionWriter
from foundry_lite.protocol.tokenize import decode_detokenize, decode_tokenize
from tests.support import served


def decode(**fields: Any) -> CompletionCall:
    return decode_completion(json.dumps({"model": "m", "prompt": "p", **fields}).encode())


def refusal(**fields: Any) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        decode(**fields)
    return caught.value


@pytest.mark.parametrize(
    ("prompt", "prompts"),
    [
        ("p", [Text("p", True)]),
        ("", [Text("", True)]),
        (["a", "b"], [Text("a", True), Text("b", True)]),
        ([1, 2, 0], [Tokens((1, 2, 0))]),
        ([[1, 2], [3]], [Tokens((1, 2)), Tokens((3,))]),
    ],
)
def test_a_prompt_is_a_text_or_tokens_or_several_of_either(prompt: Any, prompts: list[Text | Tokens]) -> None:
    assert [request.prompt for request in decode(prompt=prompt).requests] == prompts


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": None}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": [[]]}, "prompt"),
        ({"prompt": ["a", 1]}, "prompt"),
        ({"prompt": [[1], "a"]}, "prompt"),
        ({"prompt": [1, [2]]}, "prompt"),
        ({"prompt": [True]}, "prompt[0]"),
        ({"prompt": [-1]}, "prompt[0]"),
        ({"prompt": [2**31]}, "prompt[0]"),
        ({"prompt": [[2**31]]}, "prompt[0][0]"),
        ({"prompt": "x" * (2**20 + 1)}, "prompt"),
        ({"prompt": ["x"] * 129}, "prompt"),
        ({"prompt": ["x"] * 65, "n": 2}, "prompt"),
        ({"prompt": ["x"] * 2, "best_of": 65}, "prompt"),
        ({"n": 0}, "n"),
        ({"n": 129}, "n"),
        ({"n": 2, "best_of": 1}, "best_of"),
        ({"best_of": 2, "stream": True}, "best_of"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"logprobs": 21}, "logprobs"),
        ({"logprobs": True}, "logprobs"),
        ({"suffix": "x"}, "suffix"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"messages": []}, "messages"),
        ({"guided_regex": "a", "ignore_eos": True}, "ignore_eos"),
        ({"min_tokens": 17}, "min_tokens"),
    ],
)
def test_what_cannot_be_obeyed_is_refused_by_its_name(fields: dict[str, Any], param: str) -> None:
    assert refusal(**fields).param == param


def test_unset_fields_are_openais_defaults() -> None:
    call = decode(suffix="", best_of=None, n=None, logprobs=None, echo=None, stream=None)
    (request,) = call.requests
    assert (request.max_new_tokens, request.choices, request.top_logprobs) == (16, 1, None)
    assert (request.echo, request.prompt_logprobs, call.streams, call.has_logprobs) == (False, None, False, False)


def test_an_echo_with_logprobs_scores_the_prompt_and_needs_no_answer() -> None:
    (request,) = decode(echo=True, logprobs=1, max_tokens=0).requests
    assert (request.echo, request.prompt_logprobs, request.top_logprobs, request.max_new_tokens) == (True, 1, 1, 0)
    assert decode(echo=True).requests[0].prompt_logprobs is None


def test_the_best_of_several_are_found_by_their_logprobs_though_nobody_asked_for_them() -> None:
    call = decode(n=2, best_of=5)
    assert (call.choices, call.best_of, call.requests[0].choices) == (2, 5, 5)
    assert (call.requests[0].top_logprobs, call.has_logprobs) == (0, False)


def test_special_tokens_are_added_to_texts_unless_not_wanted() -> None:
    assert decode(add_special_tokens=False).requests[0].prompt == Text("p", False)


def token(text: bytes | str, logprob: float, *top: tuple[str, float], start: int = 0) -> TokenLogprob:
    def spelt(one: bytes | str, value: float) -> Logprob:
        raw = one.encode() if isinstance(one, str) else one
        return Logprob(raw.decode(errors="replace"), raw, value)

    return TokenLogprob(spelt(text, logprob), tuple(spelt(*one) for one in top), start)


def end(choice: int, text: str = "", tokens: int = 1, finish: Finish = Finish.STOP, prompt: int = 2) -> Delta:
    usage, timings = Usage(prompt, tokens, 1), Timings(0.5, 0.25, 1.0, tokenize=0.125)
    return Delta(text, tokens=1, finish=finish, usage=usage, timings=timings, choice=choice)


def whole(call: CompletionCall, *deltas: Delta) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(msgspec.json.encode(CompletionWriter(served("m:v"), call).whole(list(deltas))))
    return body


def chunks(call: CompletionCall, *batches: list[Delta]) -> list[dict[str, Any]]:
    writer = CompletionWriter(served("m:v"), call)
    stream = writer.opening() + b"".join(map(writer.write, batches)) + writer.closing()
    events = stream.decode().split("\n\n")
    assert events[-2:] == ["data: [DONE]", ""]
    return [json.loads(event.removeprefix("data: ")) for event in events[:-2]]


ECHO = Echo("hé", (token("h", 0.0), token(b"\xc3", -1.0, ("i", -0.5), start=1), token(b"\xa9", -2.0, start=1)))


def test_an_answer_is_its_choices_in_order_and_the_sum_of_its_tokens() -> None:
    body = whole(decode(prompt=["a", "b"], n=2), end(3, "D"), end(0, "A", 2), end(2, "C"), end(1, "B"))
    assert [(one["index"], one["text"], one["finish_reason"]) for one in body["choices"]] == [
        (0, "A", "stop"),
        (1, "B", "stop"),
        (2, "C", "stop"),
        (3, "D", "stop"),
    ]
    assert (body["object"], body["model"], body["id"][:5]) == ("text_completion", "m:v", "cmpl-")
    usage = body["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]) == (4, 5, 9)
    assert usage["prompt_tokens_details"]["cached_tokens"] == 2
    times = body["timings"]
    assert (times["prompt_ms"], times["tokenize_ms"], times["predicted_ms"], times["queue_ms"]) == (500, 250, 1000, 500)
    assert all(one["logprobs"] is None for one in body["choices"])


def test_an_echo_comes_before_every_choice_of_its_prompt_with_its_logprobs() -> None:
    call = decode(n=2, echo=True, logprobs=1)
    first = Delta("x", tokens=1, logprobs=(token("x", -3.0, ("y", -0.25)),), echo=ECHO)
    body = whole(call, first, end(0), Delta("z", choice=1, logprobs=(token("z", -4.0, ("z", -4.0)),)), end(1))
    assert [one["text"] for one in body["choices"]] == ["héx", "héz"]
    assert body["choices"][0]["logprobs"] == {
        "tokens": ["h", "bytes:\\xc3", "bytes:\\xa9", "x"],
        "token_logprobs": [None, -1.0, -2.0, -3.0],
        "top_logprobs": [None, {"i": -0.5, "bytes:\\xc3": -1.0}, {"bytes:\\xa9": -2.0}, {"y": -0.25, "x": -3.0}],
        "text_offset": [0, 1, 1, 2],
    }
    assert body["choices"][1]["logprobs"]["token_logprobs"] == [None, -1.0, -2.0, -4.0]


def test_a_stream_tells_the_prompt_with_the_first_piece_of_each_choice() -> None:
    call = decode(n=2, echo=True, logprobs=0, stream=True, stream_options={"include_usage": True})
    first = [Delta("x", echo=ECHO, logprobs=(token("x", -3.0),)), Delta("y", choice=1, logprobs=(token("y", -1.0),))]
    then = [Delta("z", logprobs=(token("z", -2.0, start=1),)), Delta("", choice=1), end(1), end(0, "!")]
    got = chunks(call, first, then)
    told = [(one["index"], one["text"], one["finish_reason"]) for chunk in got[:-1] for one in chunk["choices"]]
    assert told == [(0, "héx", None), (1, "héy", None), (0, "z", None), (1, "", "stop"), (0, "!", "stop")]
    assert got[0]["choices"][0]["logprobs"]["text_offset"] == [0, 1, 1, 2]
    assert got[2]["choices"][0]["logprobs"] == {
        "tokens": ["z"],
        "token_logprobs": [-2.0],
        "top_logprobs": [{"z": -2.0}],
        "text_offset": [3],
    }
    assert all(chunk["usage"] is None for chunk in got[:-1])
    assert (got[-1]["choices"], got[-1]["usage"]["total_tokens"]) == ([], 4)
    assert len({(chunk["id"], chunk["created"]) for chunk in got}) == 1


def test_a_stream_has_no_usage_and_no_times_that_nobody_asked_for() -> None:
    assert all("usage" not in chunk and "timings" not in chunk for chunk in chunks(decode(stream=True), [end(0)]))
    timed = chunks(decode(stream=True, stream_options={"include_timings": True}), [end(0)])
    assert timed[-1]["timings"]["predicted_n"] == 1
    assert "usage" not in timed[-1]


def test_the_best_answers_of_each_prompt_are_told_the_best_first_and_all_are_counted() -> None:
    call = decode(prompt=["a", "b"], best_of=3, n=2)
    means = [(-1.0, -1.0), (-3.0, -0.5), (-0.1, -0.5), (-1.0, -2.0), (0.0, -0.5), (-9.0, 0.0)]
    deltas = []
    for number, values in enumerate(means):
        told = tuple(token("t", value) for value in values)
        deltas += [Delta(str(number), choice=number, logprobs=told), end(number, tokens=2)]
    body = whole(call, *deltas)
    assert [(one["index"], one["text"]) for one in body["choices"]] == [(0, "2"), (1, "0"), (2, "4"), (3, "3")]
    assert body["usage"]["completion_tokens"] == 12
    assert all(one["logprobs"] is None for one in body["choices"])


def test_what_is_to_be_tokenized_is_one_text_or_one_conversation() -> None:
    assert decode_tokenize(b'{"model": "m", "content": ""}').prompt == Text("", True)
    call = decode_tokenize(b'{"model": "m", "prompt": "p", "add_special_tokens": false, "with_pieces": true}')
    assert (call.prompt, call.with_pieces, call.param) == (Text("p", False), True, "prompt")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({}, "content"),
        ({"content": "a", "prompt": "b"}, "prompt"),
        ({"content": "a", "messages": [{"role": "user", "content": "b"}]}, "messages"),
        ({"content": "a", "tools": []}, "tools"),
        ({"messages": [{"role": "user", "content": "b"}], "add_special_tokens": True}, "add_special_tokens"),
        ({"messages": []}, "messages"),
    ],
)
def test_what_cannot_be_tokenized_is_refused_by_its_name(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        decode_tokenize(json.dumps({"model": "m", **fields}).encode())
    assert caught.value.param == param


def test_tools_that_must_not_be_called_are_not_counted() -> None:
    tools = [{"type": "function", "function": {"name": name}} for name in "fg"]
    allowed = {"mode": "auto", "tools": [{"type": "function", "function": {"name": "g"}}]}
    body = {"model": "m", "messages": [{"role": "user", "content": "x"}], "tools": tools}
    for choice, shown in (("auto", 2), ("none", 0), ({"type": "allowed_tools", "allowed_tools": allowed}, 1)):
        call = decode_chat(json.dumps({**body, "tool_choice": choice}).encode())
        assert len(getattr(call.request.shown_prompt, "tools", None) or ()) == shown


def test_token_ids_to_decode_are_whole_numbers() -> None:
    assert decode_detokenize(b'{"model": "m", "tokens": [0, 7]}') == ("m", (0, 7))
    with pytest.raises(InvalidRequest):
        decode_detokenize(b'{"model": "m", "tokens": [-1]}')
