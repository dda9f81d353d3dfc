"""OpenAI's chat completions: the shape of every answer, whole and in chunks."""

from __future__ import annotations

import json
import time
from typing import Any

import msgspec

from foundry_lite.generation import CallPiece, Delta, Finish, Logprob, Timings, TokenLogprob, Usage
from foundry_lite.protocol.chat.writer import AnswerWriter
from foundry_lite.protocol.common.usage import total_usage
from tests.support import served

CALLS = (CallPiece(0, "call_1", "f", '{"x":1}'), CallPiece(1, "call_2", "g", "{}"))
LAST = Delta("", (), 1, Finish.STOP, Usage(7, 3, 5), Timings(0.01, 0.02, 0.05))
USAGE = {
    "prompt_tokens": 7,
    "completion_tokens": 3,
    "total_tokens": 10,
    "prompt_tokens_details": {"cached_tokens": 5, "audio_tokens": 0},
    "completion_tokens_details": {
        "reasoning_tokens": 0,
        "audio_tokens": 0,
        "accepted_prediction_tokens": 0,
        "rejected_prediction_tokens": 0,
    },
}


def wire(value: Any) -> Any:
    """The value as a client reads it."""
    return json.loads(msgspec.json.encode(value))


def test_a_whole_answer_has_openais_shape() -> None:
    writer = AnswerWriter(served("mine"))
    answer = wire(writer.whole([Delta("Hel", tokens=1), Delta("lo", tokens=1), LAST]))
    assert abs(answer.pop("created") - time.time()) < 60
    assert answer == {
        "id": writer.id,
        "object": "chat.completion",
        "model": "mine",
        "system_fingerprint": "fp_0123456789abcdef",
        "foundry_lite": {"model": "mine:cpu-int4", "variant": "cpu-int4"},
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Hello", "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": USAGE,
        "timings": {
            "cache_n": 5,
            "prompt_n": 2,
            "prompt_ms": 20.0,
            "prompt_per_token_ms": 10.0,
            "prompt_per_second": 100.0,
            "predicted_n": 3,
            "predicted_ms": 50.0,
            "predicted_per_token_ms": 25.0,
            "predicted_per_second": 40.0,
            "queue_ms": 10.0,
        },
    }


def test_an_answer_that_only_calls_has_no_content() -> None:
    (choice,) = wire(AnswerWriter(served("m")).whole([Delta("", CALLS, 1), Delta(finish=Finish.TOOL_CALLS)]))["choices"]
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


def test_what_the_model_thought_is_told_beside_what_it_said() -> None:
    deltas = [Delta(reasoning="let me "), Delta("So", reasoning="see", tokens=2), LAST]
    message = wire(AnswerWriter(served("m")).whole(deltas))["choices"][0]["message"]
    assert (message["reasoning_content"], message["content"]) == ("let me see", "So")
    bodies = [choice["delta"] for chunk in stream(*deltas) for choice in chunk["choices"]]
    assert bodies[1:] == [{"reasoning_content": "let me "}, {"reasoning_content": "see"}, {"content": "So"}, {}]


def test_an_answer_of_nothing_has_an_empty_content_and_no_calls() -> None:
    message = wire(AnswerWriter(served("m")).whole([LAST]))["choices"][0]["message"]
    assert message == {"role": "assistant", "content": "", "refusal": None}


def stream(*deltas: Delta, choices: int = 1, **options: Any) -> list[dict[str, Any]]:
    """All chunks of an answer, as a client reads them."""
    writer = AnswerWriter(served("mine"), choices, **options)
    sent = writer.opening() + b"".join(writer.write([delta]) for delta in deltas) + writer.closing()
    *events, done, nothing = sent.split(b"\n\n")
    assert (done, nothing) == (b"data: [DONE]", b"")
    return [json.loads(one.removeprefix(b"data: ")) for one in events]


def test_every_chunk_has_the_same_head() -> None:
    chunks = stream(Delta("a"), Delta("b", CALLS), LAST)
    assert chunks[0].pop("foundry_lite") == {"model": "mine:cpu-int4", "variant": "cpu-int4"}
    heads = [{key: value for key, value in chunk.items() if key not in ("choices", "usage")} for chunk in chunks]
    assert all(head == heads[0] for head in heads)
    assert list(heads[0]) == ["id", "object", "created", "model", "system_fingerprint"]
    assert heads[0]["object"] == "chat.completion.chunk"
    assert heads[0]["id"].startswith("chatcmpl-")


def test_two_answers_have_two_ids() -> None:
    assert AnswerWriter(served("m")).id != AnswerWriter(served("m")).id


def test_a_stream_is_the_role_then_text_then_the_finish_then_the_usage() -> None:
    chunks = stream(Delta("Hel"), Delta("", tokens=1), Delta("lo"), LAST, includes_usage=True)
    assert [chunk["choices"] for chunk in chunks] == [
        [{"index": 0, "delta": {"role": "assistant", "content": ""}, "logprobs": None, "finish_reason": None}],
        [{"index": 0, "delta": {"content": "Hel"}, "logprobs": None, "finish_reason": None}],
        [{"index": 0, "delta": {"content": "lo"}, "logprobs": None, "finish_reason": None}],
        [{"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop"}],
        [],
    ]
    assert [chunk["usage"] for chunk in chunks] == [None, None, None, None, USAGE]


def test_a_usage_may_be_told_all_the_time_and_only_if_it_is_told_at_the_end() -> None:
    deltas = Delta("Hel", tokens=1), Delta("lo", tokens=1, choice=1), Delta("", tokens=1), LAST
    chunks = stream(*deltas, choices=2, includes_usage=True, continuous_usage=True)
    assert [chunk["usage"]["completion_tokens"] for chunk in chunks] == [0, 0, 1, 2, 4, 3]  # the last is that of LAST
    assert chunks[2]["usage"] == {"prompt_tokens": 0, "completion_tokens": 1, "total_tokens": 1}
    assert not any("usage" in chunk for chunk in stream(*deltas, choices=2, continuous_usage=True))


def test_a_usage_that_was_not_asked_for_is_not_sent() -> None:
    chunks = stream(Delta("Hel"), LAST)
    assert [len(chunk["choices"]) for chunk in chunks] == [1, 1, 1]
    assert not any("usage" in chunk for chunk in chunks)


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
    whole = wire(AnswerWriter(served("m")).whole(deltas))["choices"][0]["message"]
    text, calls = "", [{"arguments": ""}, {"arguments": ""}]
    for chunk in stream(*deltas):
        for choice in chunk["choices"]:
            text += choice["delta"].get("content", "")
            for call in choice["delta"].get("tool_calls", ()):
                calls[call["index"]]["arguments"] += call["function"]["arguments"]
    assert text == whole["content"]
    assert [call["arguments"] for call in calls] == [call["function"]["arguments"] for call in whole["tool_calls"]]


def test_the_times_of_a_stream_are_in_its_last_chunk_when_asked_for() -> None:
    (*before, last) = stream(Delta("a"), LAST, includes_timings=True)
    assert not any("timings" in chunk or "usage" in chunk for chunk in before)
    assert (last["choices"], last["timings"]["predicted_n"]) == ([], 3)
    assert "usage" not in last
    both = stream(Delta("a"), LAST, includes_usage=True, includes_timings=True)[-1]
    assert both["usage"]["completion_tokens"] == both["timings"]["predicted_n"] == 3


def test_an_answer_whose_usage_is_not_known_says_null() -> None:
    assert stream(Delta("a"), includes_usage=True)[-1]["usage"] is None


TWO = (
    Delta("a", choice=0),
    Delta("x", CALLS[:1], choice=1),
    Delta("b", CALLS[:1], 1, Finish.TOOL_CALLS, Usage(7, 3, 2), choice=0),
    Delta("y", CALLS[1:], choice=1),
    Delta("", (), 1, Finish.LENGTH, Usage(7, 4, 6), choice=1),
)


def test_each_choice_has_its_own_text_calls_and_finish() -> None:
    first, second = wire(AnswerWriter(served("m"), 2).whole(list(TWO)))["choices"]
    assert (first["index"], first["message"]["content"], first["finish_reason"]) == (0, "ab", "tool_calls")
    assert (second["index"], second["message"]["content"], second["finish_reason"]) == (1, "xy", "length")
    assert [len(choice["message"]["tool_calls"]) for choice in (first, second)] == [1, 2]


def test_choices_share_one_prompt_and_each_has_completion_tokens() -> None:
    usage = wire(AnswerWriter(served("m"), 2).whole(list(TWO)))["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]) == (7, 7, 14)
    assert usage["prompt_tokens_details"]["cached_tokens"] == 2
    assert stream(*TWO, choices=2, includes_usage=True)[-1]["usage"] == usage


def test_a_stream_of_two_choices_is_told_apart_by_index() -> None:
    chunks = [choice for chunk in stream(*TWO, choices=2) for choice in chunk["choices"]]
    assert [(one["index"], one["delta"].get("role")) for one in chunks[:2]] == [(0, "assistant"), (1, "assistant")]
    assert all("role" not in one["delta"] for one in chunks[2:])
    for index, text, calls, finish in ((0, "ab", [0, 0], "tool_calls"), (1, "xy", [0, 0, 1, 1], "length")):
        mine = [one for one in chunks if one["index"] == index]
        assert "".join(one["delta"].get("content", "") for one in mine) == text
        assert [call["index"] for one in mine for call in one["delta"].get("tool_calls", ())] == calls
        assert [one["finish_reason"] for one in mine] == [None] * (len(mine) - 1) + [finish]


def token(text: str, logprob: float = -0.5, top: tuple[Logprob, ...] = ()) -> TokenLogprob:
    return TokenLogprob(Logprob(text, text.encode(), logprob), top)


def test_logprobs_are_written_as_openai_does() -> None:
    top = (Logprob("h", b"h", -0.5), Logprob("\ufffd", b"\xc3", -9999.0))
    writer = AnswerWriter(served("m"), has_logprobs=True)
    (choice,) = wire(writer.whole([Delta("h", logprobs=(token("h", -0.5, top),)), LAST]))["choices"]
    assert choice["logprobs"] == {
        "content": [
            {
                "token": "h",
                "bytes": [104],
                "logprob": -0.5,
                "top_logprobs": [
                    {"token": "h", "bytes": [104], "logprob": -0.5},
                    {"token": "\ufffd", "bytes": [195], "logprob": -9999.0},
                ],
            }
        ],
        "refusal": None,
    }


def test_an_answer_without_tokens_has_empty_logprobs_when_they_were_asked_for() -> None:
    (choice,) = wire(AnswerWriter(served("m"), has_logprobs=True).whole([LAST]))["choices"]
    assert choice["logprobs"] == {"content": [], "refusal": None}


def test_no_logprob_of_a_stream_is_lost_and_each_is_told_once() -> None:
    """Held-back text, text, a call, a bare finish: whatever a delta brings, its logprobs come with it."""
    deltas = (
        Delta("", tokens=1, logprobs=(token("a"),)),
        Delta("ab", tokens=1, logprobs=(token("b"), token("c"))),
        Delta("", CALLS[:1], tokens=1, logprobs=(token("d"),)),
        Delta("", (), 1, Finish.TOOL_CALLS, Usage(7, 3), logprobs=(token("e"),)),
    )
    chunks = [choice for chunk in stream(*deltas) for choice in chunk["choices"]]
    told = [[one["token"] for one in chunk["logprobs"]["content"]] if chunk["logprobs"] else [] for chunk in chunks]
    assert told == [[], ["a"], ["b", "c"], ["d"], [], ["e"]]
    assert [chunk["delta"].get("content") for chunk in chunks] == ["", "", "ab", None, None, None]
    (whole,) = wire(AnswerWriter(served("m"), has_logprobs=True).whole(list(deltas)))["choices"]
    assert [one["token"] for one in whole["logprobs"]["content"]] == ["a", "b", "c", "d", "e"]


def test_the_usage_of_nothing_is_not_known() -> None:
    assert total_usage([None, None]) is None
