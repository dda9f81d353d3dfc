"""What a request may ask of its answer: the official client, a real daemon, tiny models and the embedded one."""

from __future__ import annotations

import json
import math
from typing import Any

import openai
import pytest

from tests.tiny_model import ALPHABET, _tokenizer

EMBEDDED = "home-assistant"
TURN_ON: Any = {
    "type": "function",
    "function": {
        "name": "turn_on",
        "parameters": {
            "type": "object",
            "properties": {"device": {"type": "string", "maxLength": 20}, "room": {"type": "string", "maxLength": 20}},
            "required": ["device", "room"],
            "additionalProperties": False,
        },
    },
}
TURN_OFF: Any = {"type": "function", "function": {**TURN_ON["function"], "name": "turn_off"}}
LAMP = "turn on the lamp in the kitchen"


def ask(client: openai.OpenAI, model: str = "alphabet", say: str = "hi", **options: Any) -> Any:
    return client.chat.completions.create(model=model, messages=[{"role": "user", "content": say}], **options)


def token_id(letter: str) -> int:
    found = _tokenizer().token_to_id(letter)
    assert found is not None
    return found


def test_each_of_several_choices_is_a_whole_answer_and_the_prompt_counts_once(client: openai.OpenAI) -> None:
    one, three = ask(client), ask(client, n=3)
    assert [choice.index for choice in three.choices] == [0, 1, 2]
    assert {choice.message.content for choice in three.choices} == {ALPHABET}
    assert {choice.finish_reason for choice in three.choices} == {"stop"}
    assert three.usage.prompt_tokens == one.usage.prompt_tokens
    assert three.usage.completion_tokens == 3 * one.usage.completion_tokens
    assert three.usage.total_tokens == three.usage.prompt_tokens + three.usage.completion_tokens


def test_a_seed_repeats_choices_that_differ_from_each_other(client: openai.OpenAI) -> None:
    def sample() -> list[str]:
        answer = ask(client, EMBEDDED, n=4, temperature=2.0, seed=11, max_tokens=12)
        return [choice.message.content for choice in answer.choices]

    first = sample()
    assert first == sample()
    assert len(set(first)) > 1


def test_a_stream_of_several_choices_is_interleaved_and_told_apart_by_index(client: openai.OpenAI) -> None:
    chunks = list(ask(client, "slow", n=3, max_tokens=8, stream=True, stream_options={"include_usage": True}))
    assert chunks[-1].usage.completion_tokens == 24
    parts = [chunk.choices[0] for chunk in chunks[:-1]]
    assert len({(chunk.id, chunk.created) for chunk in chunks}) == 1
    for index in range(3):
        mine = [part for part in parts if part.index == index]
        assert [part.delta.role for part in mine] == ["assistant"] + [None] * (len(mine) - 1)
        assert "".join(part.delta.content or "" for part in mine) == "abcdefgh"
        assert [part.finish_reason for part in mine] == [None] * (len(mine) - 1) + ["length"]
    spoken = [part.index for part in parts if part.delta.content]
    assert spoken != sorted(spoken)


def test_logprobs_are_those_of_the_model_whatever_the_temperature(client: openai.OpenAI) -> None:
    """The tiny model's next letter has the logit 10, and each of the other 258 tokens 0."""
    answer = ask(client, logprobs=True, top_logprobs=2, max_tokens=3, temperature=0.1)
    tokens = answer.choices[0].logprobs.content
    assert [token.token for token in tokens] == ["a", "b", "c"]
    assert [token.bytes for token in tokens] == [[97], [98], [99]]
    expected = 10 - math.log(math.exp(10) + 258)
    for token in tokens:
        assert token.logprob == pytest.approx(expected, abs=1e-4)
        assert token.top_logprobs[0].token == token.token
        assert [one.logprob for one in token.top_logprobs] == pytest.approx([expected, expected - 10], abs=1e-4)


def test_a_stream_tells_the_logprobs_of_the_whole_answer(client: openai.OpenAI) -> None:
    options: Any = {"logprobs": True, "top_logprobs": 3, "temperature": 0, "tools": [TURN_ON]}
    whole = ask(client, EMBEDDED, LAMP, **options).choices[0]
    assert whole.finish_reason == "tool_calls"
    chunks = [chunk.choices[0] for chunk in ask(client, EMBEDDED, LAMP, stream=True, **options)]
    streamed = [token for chunk in chunks if chunk.logprobs for token in chunk.logprobs.content]
    assert [token.token for token in streamed] == [token.token for token in whole.logprobs.content]
    assert "turn_on" in "".join(token.token for token in streamed)


@pytest.mark.parametrize(("stop", "tokens"), [("def", ["a", "b", "c"]), ("a", []), ("zz", list(ALPHABET))])
def test_what_a_stop_string_cut_off_has_no_logprob(client: openai.OpenAI, stop: str, tokens: list[str]) -> None:
    whole = ask(client, logprobs=True, stop=stop).choices[0]
    assert [token.token for token in whole.logprobs.content] == tokens
    chunks = [chunk.choices[0] for chunk in ask(client, logprobs=True, stop=stop, stream=True)]
    assert [token.token for chunk in chunks if chunk.logprobs for token in chunk.logprobs.content] == tokens


def test_without_logprobs_there_are_none(client: openai.OpenAI) -> None:
    assert ask(client).choices[0].logprobs is None


def test_a_bias_of_100_forces_a_token_and_of_minus_100_bans_one(client: openai.OpenAI) -> None:
    forced = ask(client, logit_bias={str(token_id("x")): 100}, max_tokens=4)
    assert forced.choices[0].message.content == "xxxx"
    banned = ask(client, logit_bias={str(token_id("c")): -100}, max_tokens=4).choices[0].message.content
    assert banned.startswith("ab")
    assert "c" not in banned


def test_a_bias_of_a_token_that_the_model_has_not_is_refused(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, logit_bias={"259": 1})
    assert caught.value.param == "logit_bias"


def test_min_tokens_and_ignore_eos_go_on_past_the_end_of_turn(client: openai.OpenAI) -> None:
    least = ask(client, extra_body={"min_tokens": 30})
    assert least.choices[0].message.content.startswith(ALPHABET)
    assert least.usage.completion_tokens >= 30
    endless = ask(client, extra_body={"ignore_eos": True}, max_tokens=40)
    assert (endless.choices[0].finish_reason, endless.usage.completion_tokens) == ("length", 40)


def test_min_p_and_top_k_of_one_leave_only_the_likeliest(client: openai.OpenAI) -> None:
    for only in ({"min_p": 1.0}, {"top_k": 1}):
        answer = ask(client, temperature=2.0, seed=1, extra_body=only)
        assert answer.choices[0].message.content == ALPHABET


def test_a_guide_leaves_only_tokens_that_fit_it(client: openai.OpenAI) -> None:
    answer = ask(client, extra_body={"guided_regex": "[x-z]{3}"})
    assert (answer.choices[0].message.content, answer.choices[0].finish_reason) == ("xyz", "stop")
    for name in ("guided_grammar", "grammar"):
        answer = ask(client, extra_body={name: 'start: "q" "r"'})
        assert answer.choices[0].message.content == "qr"


@pytest.mark.parametrize("choices", [["qr", "q"], ['say "x"\n', "ü\\d"], ["only"]])
def test_an_answer_is_one_of_the_texts_to_choose_from(client: openai.OpenAI, choices: list[str]) -> None:
    for seed in range(3):
        answer = ask(client, temperature=2.0, seed=seed, extra_body={"guided_choice": choices})
        assert answer.choices[0].message.content in choices


def test_each_choice_follows_the_guide_by_itself(client: openai.OpenAI) -> None:
    answer = ask(client, EMBEDDED, n=4, temperature=2.0, seed=2, extra_body={"guided_regex": "[a-h]{4}"})
    texts = [choice.message.content for choice in answer.choices]
    assert all(len(text) == 4 and set(text) <= set("abcdefgh") for text in texts)
    assert len(set(texts)) > 1


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("guided_regex", "("),
        ("guided_grammar", "start: nothing_of_that_name"),
        ("grammar", "start: nothing_of_that_name"),
        ("guided_choice", ["x" * 1000] * 40),
        ("guided_json", {"type": "no such type"}),
        ("response_format", {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "no such type"}}}),
    ],
)
def test_a_guide_that_cannot_be_compiled_is_refused_by_its_name(client: openai.OpenAI, field: str, value: Any) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, extra_body={field: value})
    assert caught.value.param == field


def test_an_answer_in_a_schema_follows_it(client: openai.OpenAI) -> None:
    schema = {
        "type": "object",
        "properties": {"room": {"enum": ["kitchen", "cellar"]}, "level": {"type": "integer", "maximum": 9}},
        "required": ["room", "level"],
        "additionalProperties": False,
    }
    answer = ask(
        client,
        EMBEDDED,
        LAMP,
        response_format={"type": "json_schema", "json_schema": {"name": "place", "schema": schema, "strict": True}},
    )
    said = json.loads(answer.choices[0].message.content)
    assert set(said) == {"room", "level"}
    assert said["room"] in ("kitchen", "cellar")
    assert isinstance(said["level"], int)
    assert answer.choices[0].finish_reason == "stop"


def test_json_mode_begins_an_object(client: openai.OpenAI) -> None:
    answer = ask(client, EMBEDDED, LAMP, response_format={"type": "json_object"}, max_tokens=200)
    text = answer.choices[0].message.content
    assert text.lstrip().startswith("{")
    if answer.choices[0].finish_reason == "stop":
        assert isinstance(json.loads(text), dict)


def test_a_required_call_is_made_even_of_a_greeting(client: openai.OpenAI) -> None:
    answer = ask(client, EMBEDDED, "good morning", tools=[TURN_ON, TURN_OFF], tool_choice="required")
    (call, *_) = answer.choices[0].message.tool_calls
    assert answer.choices[0].finish_reason == "tool_calls"
    assert call.function.name in ("turn_on", "turn_off")
    assert set(json.loads(call.function.arguments)) == {"device", "room"}


def test_a_forced_call_that_is_cut_off_before_its_name_is_no_text(client: openai.OpenAI) -> None:
    answer = ask(client, EMBEDDED, LAMP, tools=[TURN_ON], tool_choice="required", max_tokens=2)
    (choice,) = answer.choices
    assert (choice.message.content, choice.message.tool_calls, choice.finish_reason) == ("", None, "length")


def test_a_pattern_that_no_grammar_can_hold_is_named_with_its_tool(client: openai.OpenAI) -> None:
    argument = {"type": "string", "pattern": "(?=[a-z])[a-z0-9]+"}
    odd = {"type": "object", "properties": {"code": argument}}
    tools = [TURN_ON, {"type": "function", "function": {"name": "unlock", "parameters": odd}}, TURN_OFF]
    with pytest.raises(openai.BadRequestError) as refused:
        ask(client, EMBEDDED, LAMP, tools=tools, tool_choice="required")
    assert isinstance(refused.value.body, dict)
    assert (refused.value.param, refused.value.code) == ("tools", "invalid_grammar")
    assert "'unlock': \"pattern\" cannot be enforced (at properties.code)" in refused.value.body["message"]
    assert ask(client, EMBEDDED, LAMP, tools=[TURN_ON, TURN_OFF], tool_choice="required").choices[0].message.tool_calls


def test_a_named_tool_is_the_one_that_is_called(client: openai.OpenAI) -> None:
    named: Any = {"type": "function", "function": {"name": "turn_off"}}
    answer = ask(client, EMBEDDED, LAMP, tools=[TURN_ON, TURN_OFF], tool_choice=named, parallel_tool_calls=False)
    (call,) = answer.choices[0].message.tool_calls
    assert call.function.name == "turn_off"
    assert set(json.loads(call.function.arguments)) == {"device", "room"}


def test_tools_that_must_not_be_called_are_not(client: openai.OpenAI) -> None:
    answer = ask(client, EMBEDDED, LAMP, tools=[TURN_ON], tool_choice="none", max_tokens=40)
    assert answer.choices[0].message.tool_calls is None
    assert answer.choices[0].finish_reason in ("stop", "length")


def test_a_second_turn_does_not_compute_the_first_again(client: openai.OpenAI) -> None:
    messages: list[Any] = [{"role": "user", "content": "please " + LAMP + ", it is getting dark outside"}]
    first = client.chat.completions.create(model=EMBEDDED, messages=messages, max_tokens=32)
    said = first.choices[0].message.content or "ok"
    messages += [{"role": "assistant", "content": said}, {"role": "user", "content": "thank you"}]
    stream = client.chat.completions.create(
        model=EMBEDDED, messages=messages, max_tokens=8, stream=True, stream_options={"include_usage": True}
    )
    usage: Any = list(stream)[-1].usage
    assert 0 < usage.prompt_tokens_details.cached_tokens < usage.prompt_tokens
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
