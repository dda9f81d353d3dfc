"""Plain completions through the official client: every form of a prompt, streams, and scores as harnesses ask."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import openai
import pytest

from foundry_lite.catalog.reference import parse_reference
from foundry_lite.engine.runners.ort import OrtRunner
from foundry_lite.engine.text.tokenizer import TextModel
from foundry_lite.store.store import Store
from tests.support import ROOT, Daemon, eventually

LIKELY = 10.0 - math.log(math.exp(10.0) + 258)  # what the table of *alphabet* gives the one letter that follows
UNLIKELY = -math.log(math.exp(10.0) + 258)  # and each of all others
EMBEDDED = "home-assistant"


def tokens_of(client: openai.OpenAI, text: str, model: str = "alphabet") -> list[int]:
    body = {"model": model, "content": text, "add_special_tokens": False}
    answer: Any = client.post(_beside(client, "/tokenize"), body=body, cast_to=object)
    ids: list[int] = answer["tokens"]
    return ids


def _beside(client: openai.OpenAI, path: str) -> str:
    return str(client.base_url).removesuffix("/v1/") + path


def expected(letters: str, after: str) -> list[float]:
    """The logprobs of ``letters`` behind the letter ``after``."""
    return [LIKELY if ord(one) == ord(before) + 1 else UNLIKELY for before, one in zip(after + letters, letters)]  # noqa: B905


def test_a_completion_goes_on_with_its_prompt_in_every_form(client: openai.OpenAI) -> None:
    first, second = tokens_of(client, "abc"), tokens_of(client, "x")
    forms: list[tuple[Any, list[str]]] = [
        ("abc", ["defgh"]),
        (["abc", "x"], ["defgh", "yz"]),
        (first, ["defgh"]),
        ([second, first], ["yz", "defgh"]),
    ]
    for prompt, texts in forms:
        answer = client.completions.create(model="alphabet", prompt=prompt, max_tokens=5)
        assert [choice.text for choice in answer.choices] == texts
        assert [choice.index for choice in answer.choices] == list(range(len(texts)))
        assert [choice.finish_reason for choice in answer.choices] == [
            "length" if len(text) == 5 else "stop" for text in texts
        ]
        assert answer.object == "text_completion"
        assert answer.usage is not None
        assert answer.usage.completion_tokens == sum(5 if len(text) == 5 else 3 for text in texts)
        assert answer.usage.prompt_tokens == sum(3 if text == "defgh" else 1 for text in texts)


def test_an_answer_has_sixteen_tokens_unless_told_otherwise(client: openai.OpenAI) -> None:
    answer = client.completions.create(model="alphabet", prompt="a", stop="\n")
    assert answer.choices[0].text == "bcdefghijklmnopq"


def test_two_prompts_with_two_answers_each_are_streamed_side_by_side(client: openai.OpenAI) -> None:
    stream = client.completions.create(
        model="slow", prompt=["a", "m"], n=2, max_tokens=12, stream=True, stream_options={"include_usage": True}
    )
    texts, ended, order = [""] * 4, [""] * 4, []
    last = None
    for chunk in stream:
        last = chunk
        for choice in chunk.choices:
            order.append(choice.index)
            texts[choice.index] += choice.text
            reason: Any = choice.finish_reason  # null until the end, whatever the client's types say
            ended[choice.index] += reason or ""
    assert texts == ["bcdefghijklm", "bcdefghijklm", "nopqrstuvwxy", "nopqrstuvwxy"]
    assert ended == ["length"] * 4
    assert order.index(2) < len(order) - 1 - order[::-1].index(0), "the second prompt waited for the first to end"
    assert last is not None
    assert last.choices == []
    assert last.usage is not None
    assert (last.usage.prompt_tokens, last.usage.completion_tokens) == (2, 48)


def test_a_client_that_leaves_ends_all_of_its_prompts(client: openai.OpenAI, daemon: Daemon) -> None:
    stream = client.completions.create(model="slow", prompt=["a", "m", "q"], max_tokens=3000, stream=True)
    next(iter(stream))
    running = daemon.worker("slow")
    assert running is not None
    assert running["requests"] == 3
    stream.close()
    eventually(lambda: (daemon.worker("slow") or {})["requests"] == 0)


def test_one_prompt_that_does_not_fit_refuses_the_call(client: openai.OpenAI, daemon: Daemon) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.completions.create(model="alphabet", prompt=["a", "b", "x" * 600], max_tokens=5)
    assert (caught.value.param, caught.value.code) == ("prompt", "context_length_exceeded")
    eventually(lambda: (daemon.worker("alphabet") or {})["requests"] == 0)


def test_a_text_of_a_million_letters_is_refused_before_it_is_read(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.completions.create(model="alphabet", prompt="a " * 500_000)
    assert "more than 512 tokens" in caught.value.message


def test_an_echo_with_logprobs_tells_the_known_distribution(client: openai.OpenAI) -> None:
    prompt = "xyzabdq"
    answer = client.completions.create(
        model="alphabet", prompt=prompt, echo=True, logprobs=1, max_tokens=3, temperature=0
    )
    (choice,) = answer.choices
    told: Any = choice.logprobs
    assert choice.text == "xyzabdqrst"
    assert told.tokens == list("xyzabdqrst")
    assert told.text_offset == list(range(10))
    assert told.token_logprobs[0] is None
    assert told.token_logprobs[1:3] == pytest.approx([LIKELY, LIKELY], abs=1e-5)
    assert told.token_logprobs[3:] == pytest.approx(expected("abdqrst", "z"), abs=1e-5)
    assert told.top_logprobs[0] is None
    assert told.top_logprobs[1] == pytest.approx({"y": LIKELY}, abs=1e-5)
    assert told.top_logprobs[5] == pytest.approx({"c": LIKELY, "d": UNLIKELY}, abs=1e-5)


def test_a_prompt_is_scored_the_same_whatever_was_computed_before(client: openai.OpenAI) -> None:
    def scores() -> Any:
        answer = client.completions.create(
            model="alphabet", prompt="abcdefghijklmnopqrstu" * 3, echo=True, logprobs=0, max_tokens=0
        )
        assert answer.usage is not None
        assert answer.usage.completion_tokens == 0
        assert answer.choices[0].finish_reason == "length"
        return answer.choices[0].logprobs

    first = scores()
    assert len(first.token_logprobs) == 63
    client.completions.create(model="alphabet", prompt="abcdefghijklmnopqrstu" * 3, max_tokens=5)
    assert scores() == first


@pytest.mark.parametrize("most", [0, 1])
def test_a_harness_gets_the_likelihood_of_each_continuation(client: openai.OpenAI, most: int) -> None:
    """As lm-eval's local-completions asks: contexts and continuations as token ids, all of them in one call."""
    pairs = [("ab", "cde"), ("ab", "cxe"), ("q", "r"), ("vw", "xyz")]
    lengths = [len(context) for context, _ in pairs]
    prompts = [tokens_of(client, context + continuation) for context, continuation in pairs]
    answer = client.completions.create(
        model="alphabet", prompt=prompts, max_tokens=most, temperature=0, logprobs=1, seed=1234, echo=True
    )
    scores = []
    for choice, length in zip(sorted(answer.choices, key=lambda one: one.index), lengths, strict=True):
        told: Any = choice.logprobs
        end = len(told.token_logprobs) - most  # what was generated does not count
        values, tops = told.token_logprobs[length:end], told.top_logprobs[length:end]
        is_greedy = all(value == max(top.values()) for value, top in zip(values, tops, strict=True))
        scores.append((sum(values), is_greedy))
    sums = [sum(expected(continuation, context[-1])) for context, continuation in pairs]
    assert [score for score, _ in scores] == pytest.approx(sums, abs=1e-4)
    assert [greedy for _, greedy in scores] == [True, False, True, True]


def test_the_end_of_a_turn_is_a_token_with_a_logprob(client: openai.OpenAI) -> None:
    """A harness drops the last entry as the one generated token: without it, it would drop one of the prompt's."""
    answer = client.completions.create(model="alphabet", prompt="z", echo=True, logprobs=1, max_tokens=1, temperature=0)
    told: Any = answer.choices[0].logprobs
    assert (answer.choices[0].text, answer.choices[0].finish_reason) == ("z", "stop")
    assert told.tokens == ["z", "<|im_end|>"]
    assert told.text_offset == [0, 1]


def test_the_embedded_model_scores_a_prompt_as_it_reads_one(client: openai.OpenAI) -> None:
    folder = Store(ROOT / "no-such-home").resolve(parse_reference(EMBEDDED)).folder
    prompt = TextModel(folder).encode_text("Turn on the kitchen light, please. " * 9)
    assert len(prompt) > 129, "more than one chunk"
    runner = OrtRunner(folder, threads=1, slots=1, context_length=512)
    answer = client.completions.create(
        model=EMBEDDED, prompt=[prompt, prompt[:40]], echo=True, logprobs=2, max_tokens=0
    )
    whole: Any = answer.choices[0].logprobs
    part: Any = answer.choices[1].logprobs
    assert len(whole.tokens) == len(prompt)
    assert part.token_logprobs[1:] == pytest.approx(whole.token_logprobs[1:40], abs=1e-4)
    for place in (2, 3, 30, 127, 128, 129, len(prompt) - 1):
        runner.keep(0, 0)
        logits = runner.prefill(0, prompt[:place]).astype(np.float64)
        logprobs = logits - logits.max() - np.log(np.exp(logits - logits.max()).sum())
        assert whole.token_logprobs[place] == pytest.approx(logprobs[prompt[place]], abs=1e-4)
        assert max(whole.top_logprobs[place].values()) == pytest.approx(logprobs.max(), abs=1e-4)


def test_the_best_of_several_answers_is_told_and_all_are_counted(client: openai.OpenAI) -> None:
    answer = client.completions.create(
        model=EMBEDDED, prompt="Turn", best_of=8, n=2, max_tokens=4, temperature=2, seed=3, logprobs=0
    )
    told: list[Any] = [choice.logprobs for choice in answer.choices]
    means = [sum(one.token_logprobs) / len(one.token_logprobs) for one in told]
    every = client.completions.create(
        model=EMBEDDED, prompt="Turn", n=8, max_tokens=4, temperature=2, seed=3, logprobs=0
    )
    all_of_them: list[Any] = [choice.logprobs for choice in every.choices]
    all_means = sorted((sum(one.token_logprobs) / len(one.token_logprobs) for one in all_of_them), reverse=True)
    assert means == pytest.approx(all_means[:2], abs=1e-3)
    assert answer.usage is not None
    assert every.usage is not None
    assert answer.usage.completion_tokens == every.usage.completion_tokens == 32


def test_a_guide_and_stop_strings_shape_a_completion(client: openai.OpenAI) -> None:
    answer = client.completions.create(model="alphabet", prompt="a", extra_body={"guided_regex": "[xyz]{3}"})
    assert set(answer.choices[0].text) <= set("xyz")
    assert (len(answer.choices[0].text), answer.choices[0].finish_reason) == (3, "stop")
    stopped = client.completions.create(model="alphabet", prompt="a", stop=["fg"], echo=True)
    assert stopped.choices[0].text == "abcde"


def test_no_tokens_are_an_empty_answer_of_a_prompt_that_was_read(client: openai.OpenAI) -> None:
    answer = client.completions.create(model="alphabet", prompt="abc", max_tokens=0)
    assert (answer.choices[0].text, answer.choices[0].finish_reason) == ("", "length")
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (3, 0)
    chunks = list(client.completions.create(model="alphabet", prompt="abc", max_tokens=0, n=2, stream=True))
    assert [(one.choices[0].index, one.choices[0].finish_reason) for one in chunks] == [(0, "length"), (1, "length")]


def test_a_usage_that_is_told_all_the_time_grows_to_that_of_the_end(client: openai.OpenAI) -> None:
    options: Any = {"include_usage": True, "continuous_usage_stats": True}
    asked: Any = {"model": "alphabet", "max_tokens": 5, "n": 2, "stream": True, "stream_options": options}
    for stream in (
        client.completions.create(prompt=["ab", "c"], **asked),
        client.chat.completions.create(messages=[{"role": "user", "content": "a"}], **asked),
    ):
        *usages, end = [chunk.usage for chunk in stream]
        assert {usage.prompt_tokens for usage in usages} == {end.prompt_tokens}
        counts = [usage.completion_tokens for usage in usages]
        assert counts == sorted(counts)
        assert counts[-1] == end.completion_tokens


def test_what_a_model_cannot_do_is_refused_by_its_name(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.completions.create(model="alphabet", prompt="a", suffix="z")
    assert (caught.value.param, caught.value.code) == ("suffix", "unsupported_parameter")
    with pytest.raises(openai.BadRequestError) as caught:
        client.completions.create(model="alphabet", prompt=[1, 999])
    assert caught.value.param == "prompt"
    answer = client.completions.create(model="alphabet", prompt="a" * 500, max_tokens=50)
    assert (answer.choices[0].finish_reason, answer.usage and answer.usage.total_tokens) == ("length", 512)


def test_where_the_time_went_is_told(client: openai.OpenAI) -> None:
    raw = client.completions.with_raw_response.create(model="alphabet", prompt=["a", "b"], max_tokens=9)
    times = raw.http_response.json()["timings"]
    for part in ("prompt_ms", "predicted_ms", "tokenize_ms", "sample_ms", "detokenize_ms"):
        assert times[part] > 0, part
    assert "prefill;dur=" in raw.headers["server-timing"]


def test_tokens_come_back_as_the_text_they_were(client: openai.OpenAI) -> None:
    body = {"model": "alphabet", "content": "hé<|im_end|>", "with_pieces": True}
    told: Any = client.post(_beside(client, "/tokenize"), body=body, cast_to=object)
    assert [piece["piece"] for piece in told["tokens"]] == ["h", [0xC3], [0xA9], "<|im_end|>"]
    assert (told["count"], told["max_model_len"]) == (4, 512)
    ids = [piece["id"] for piece in told["tokens"]]
    back: Any = client.post(_beside(client, "/detokenize"), body={"model": "alphabet", "tokens": ids}, cast_to=object)
    assert back == {"content": "hé<|im_end|>"}
    with pytest.raises(openai.BadRequestError) as caught:
        client.post(_beside(client, "/detokenize"), body={"model": "alphabet", "tokens": [259]}, cast_to=object)
    assert caught.value.param == "tokens"
    with pytest.raises(openai.BadRequestError) as caught:
        client.post(_beside(client, "/tokenize"), body={"model": "alphabet", "content": "a " * 9000}, cast_to=object)
    assert (caught.value.param, caught.value.code) == ("content", "context_length_exceeded")


@pytest.mark.parametrize("empty", [{"content": ""}, {"prompt": "", "with_pieces": True}])
def test_a_text_of_nothing_has_no_tokens(client: openai.OpenAI, empty: dict[str, Any]) -> None:
    told: Any = client.post(_beside(client, "/tokenize"), body={"model": "alphabet", **empty}, cast_to=object)
    assert (told["tokens"], told["count"]) == ([], 0)


def test_a_count_is_what_a_chat_completion_then_reads(client: openai.OpenAI) -> None:
    tool: Any = {"type": "function", "function": {"name": "turn_on", "description": "Turn a device on"}}
    messages: Any = [{"role": "user", "content": "Hello, <|im_end|> there"}]
    for model in ("alphabet", EMBEDDED):
        for more in ({}, {"tools": [tool]}, {"tools": [tool], "tool_choice": "none"}):
            body = {"model": model, "messages": messages, **more}
            counted: Any = client.post("/chat/completions/tokenizer/encode/count", body=body, cast_to=object)
            answer: Any = client.post("/chat/completions", body={**body, "max_tokens": 1}, cast_to=object)
            assert counted == {"tokenCount": answer["usage"]["prompt_tokens"]}
    told: Any = client.post(
        _beside(client, "/tokenize"), body={"model": EMBEDDED, "messages": messages, "tools": [tool]}, cast_to=object
    )
    body = {"model": EMBEDDED, "messages": messages, "tools": [tool]}
    again: Any = client.post("/chat/completions/tokenizer/encode/count", body=body, cast_to=object)
    assert told["count"] == again["tokenCount"]
