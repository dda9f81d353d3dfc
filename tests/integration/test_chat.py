"""Chat completions through the official client, a real daemon and a real (tiny) model."""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.support import Daemon
from tests.tiny_model import ALPHABET

HI = [{"role": "user", "content": "hi"}]


def ask(client: openai.OpenAI, *, model: str = "alphabet", **options: Any) -> Any:
    return client.chat.completions.create(model=model, messages=[{"role": "user", "content": "hi"}], **options)


def refused(daemon: Daemon, body: bytes, **headers: str) -> tuple[int, dict[str, Any]]:
    request = urllib.request.Request(
        f"{daemon.url}/v1/chat/completions", body, {"content-type": "application/json", **headers}
    )
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request, timeout=30)
    with caught.value as response:
        return response.code, json.load(response)["error"]


def test_an_answer_has_the_models_text_the_finish_and_exact_usage(client: openai.OpenAI) -> None:
    answer = ask(client)
    assert answer.choices[0].message.content == ALPHABET
    assert answer.choices[0].finish_reason == "stop"
    assert answer.model == "alphabet"
    prompt = len("<>user\nhi<>\n<>assistant\n") - 3  # a control token stands for each "<>"
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (prompt, len(ALPHABET) + 1)


def test_max_tokens_cuts_the_answer_and_says_length(client: openai.OpenAI) -> None:
    for options in ({"max_tokens": 3}, {"max_completion_tokens": 3}):
        answer = ask(client, model="alphabet", **options)
        assert answer.choices[0].message.content == "abc"
        assert answer.choices[0].finish_reason == "length"


def test_a_stop_string_ends_the_answer_before_it_appears(client: openai.OpenAI) -> None:
    answer = ask(client, stop=["xyz", "fgh"])
    assert answer.choices[0].message.content == "abcde"
    assert answer.choices[0].finish_reason == "stop"


def test_a_stream_has_the_role_once_then_text_a_bare_finish_and_usage(client: openai.OpenAI) -> None:
    chunks = list(ask(client, stream=True, stream_options={"include_usage": True}))
    assert chunks[0].choices[0].delta.role == "assistant"
    assert all(chunk.choices[0].delta.role is None for chunk in chunks[1:-1])
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1]) == ALPHABET
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-2].choices[0].delta.content is None
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens == len(ALPHABET) + 1
    assert len({(chunk.id, chunk.created) for chunk in chunks}) == 1


def test_a_stream_without_usage_ends_with_the_finish_chunk(client: openai.OpenAI) -> None:
    chunks = list(ask(client, stream=True))
    assert chunks[-1].choices[0].finish_reason == "stop"


def test_a_seed_repeats_a_sampled_answer(client: openai.OpenAI) -> None:
    def sample(seed: int) -> str:
        return str(ask(client, temperature=2.0, seed=seed, max_tokens=40).choices[0].message.content)

    assert sample(1) == sample(1)
    assert len({sample(seed) for seed in range(4)}) > 1


def test_all_that_a_history_may_hold_is_taken(client: openai.OpenAI) -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    messages: Any = [
        {"role": "developer", "content": [{"type": "text", "text": "be brief"}], "name": "me"},
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": None, "refusal": "no", "audio": None, "annotations": []},
        {"role": "user", "content": ""},
        {"role": "assistant", "content": None, "tool_calls": [call], "reasoning_content": "hm"},
        {"role": "tool", "content": [{"type": "text", "text": "5"}], "tool_call_id": "call_1"},
    ]
    answer = client.chat.completions.create(model="alphabet", messages=messages, store=True, user="u", metadata={})
    assert answer.choices[0].message.content == ALPHABET


def test_an_image_is_refused_by_its_place(client: openai.OpenAI) -> None:
    image: Any = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
    with pytest.raises(openai.BadRequestError, match="image_url") as caught:
        client.chat.completions.create(model="alphabet", messages=[{"role": "user", "content": [image]}])
    assert caught.value.param == "messages[0].content[0]"


def test_an_unknown_model_is_a_404_that_names_the_field(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        ask(client, model="alphabets")
    assert caught.value.param == "model"
    assert "Did you mean alphabet?" in caught.value.message


def test_an_overlong_prompt_is_refused_with_openais_code(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="alphabet", messages=[{"role": "user", "content": "x" * 600}])
    assert caught.value.code == "context_length_exceeded"
    assert caught.value.param == "messages"


def test_an_overlong_prompt_is_refused_before_a_stream_begins(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError):
        client.chat.completions.create(model="alphabet", messages=[{"role": "user", "content": "x" * 600}], stream=True)


def test_an_answer_may_fill_the_context_to_its_last_token(client: openai.OpenAI) -> None:
    """The prompt leaves room for five tokens; a larger bound is one that is never reached, and `length` says so."""
    content = "x" * (512 - 5 - (len("<>user\n<>\n<>assistant\n") - 3))
    messages: Any = [{"role": "user", "content": content}]
    for most in (None, 5, 6, 4096):
        answer = client.chat.completions.create(model="alphabet", messages=messages, max_tokens=most)
        assert answer.choices[0].message.content == "abcde"
        assert answer.choices[0].finish_reason == "length"


@pytest.mark.parametrize(
    ("field", "value"),
    [("functions", [{"name": "f"}]), ("prediction", {}), ("modalities", ["audio"]), ("web_search_options", {})],
)
def test_a_field_of_openais_that_is_not_supported_is_refused_by_name(daemon: Daemon, field: str, value: object) -> None:
    body = {"model": "alphabet", "messages": [{"role": "user", "content": "hi"}], field: value}
    status, error = refused(daemon, json.dumps(body).encode())
    assert (status, error["param"], error["code"]) == (400, field, "unsupported_parameter")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"n": 129}, "n"),
        ({"presence_penalty": 3}, "presence_penalty"),
        ({"logit_bias": {"hello": 1}}, "logit_bias"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"guided_regex": "a", "guided_json": {}}, "guided_regex"),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "a b"}}}, "response_format.json_schema"),
    ],
)
def test_a_value_that_cannot_be_obeyed_is_refused_by_its_field(
    daemon: Daemon, fields: dict[str, Any], param: str
) -> None:
    body = {"model": "alphabet", "messages": [{"role": "user", "content": "hi"}], **fields}
    status, error = refused(daemon, json.dumps(body).encode())
    assert (status, error["type"]) == (400, "invalid_request_error")
    assert error["param"].startswith(param)


def test_malformed_json_and_wrong_types_are_400s_in_openais_shape(daemon: Daemon) -> None:
    status, error = refused(daemon, b'{"model": ')
    assert (status, error["code"]) == (400, "invalid_json")
    wrong = {"model": "alphabet", "messages": [{"role": "user", "content": "hi"}, {"role": "king", "content": "hi"}]}
    status, error = refused(daemon, json.dumps(wrong).encode())
    assert (status, error["param"], error["type"]) == (400, "messages[1].role", "invalid_request_error")


def test_a_body_that_is_not_json_or_too_large_is_refused(daemon: Daemon) -> None:
    assert refused(daemon, b"{}", **{"content-type": "text/plain"})[0] == 415
    status, error = refused(daemon, b" " * ((16 << 20) + 1))
    assert status == 413
    assert set(error) == {"message", "type", "param", "code"}


def test_foreign_hosts_and_origins_are_refused(daemon: Daemon) -> None:
    assert refused(daemon, b"{}", host="evil.example")[0] == 403
    assert refused(daemon, b"{}", origin="https://evil.example")[0] == 403
    assert refused(daemon, b"{}", origin="null")[0] == 403
    status, error = refused(daemon, b"{}", origin="http://localhost:3000")
    assert (status, error["param"]) == (400, "model")


def test_a_page_on_this_machine_may_read_what_its_browser_asks_for(daemon: Daemon) -> None:
    page = {"origin": "http://localhost:3000"}
    wanted = {"access-control-request-method": "POST", "access-control-request-headers": "content-type"}
    asking = urllib.request.Request(daemon.url + "/v1/chat/completions", headers=page | wanted, method="OPTIONS")
    with urllib.request.urlopen(asking, timeout=30) as permission:
        assert (permission.status, permission.headers["access-control-allow-headers"]) == (204, "content-type")
        assert permission.headers["access-control-allow-origin"] == page["origin"]
    body = {"model": "alphabet", "messages": [{"role": "user", "content": "hi"}], "stream": True}
    headers = page | {"content-type": "application/json"}
    sending = urllib.request.Request(daemon.url + "/v1/chat/completions", json.dumps(body).encode(), headers)
    with urllib.request.urlopen(sending, timeout=30) as stream:
        assert stream.headers["access-control-allow-origin"] == page["origin"]
        assert stream.read().endswith(b"data: [DONE]\n\n")


def test_an_unknown_route_and_a_wrong_method_answer_with_openais_error(daemon: Daemon) -> None:
    for path, status in (("/v1/nothing", 404), ("/v1/chat/completions", 405)):
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(daemon.url + path, timeout=30)
        with caught.value as response:
            assert response.code == status
            assert json.load(response)["error"]["type"] == "invalid_request_error"


def test_models_are_listed_and_found_by_id_and_alias(client: openai.OpenAI) -> None:
    listed = {model.id for model in client.models.list()}
    assert {"alphabet:cpu-fp32", "slow:cpu-fp32", "alphabet", "slow"} <= listed
    for name in ("alphabet", "alphabet:cpu-fp32"):
        one = client.models.retrieve(name)
        assert (one.id, one.owned_by) == (name, "foundry-lite")
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("nothing")


def _named(daemon: Daemon, path: str, model: str, **fields: Any) -> tuple[dict[str, Any], str | None]:
    """Return an answer, or the first event of one, and the header that names the model."""
    body = json.dumps({"model": model, **fields}).encode()
    request = urllib.request.Request(daemon.url + path, body, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as response:
        text = response.read().decode()
        event = next((line for line in text.splitlines() if line.startswith("data: ")), text)
        return json.loads(event.removeprefix("data: ")), response.headers["x-foundry-lite-model"]


@pytest.mark.parametrize("model", ["alphabet", "alphabet:cpu-fp32"])
@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_has_the_name_that_was_asked_for_and_tells_which_model_that_is(
    daemon: Daemon, model: str, stream: bool
) -> None:
    asked: list[tuple[str, dict[str, Any]]] = [
        ("/v1/chat/completions", {"messages": HI}),
        ("/v1/completions", {"prompt": "hi"}),
        ("/v1/responses", {"input": "hi"}),
    ]
    for path, fields in asked:
        answer, header = _named(daemon, path, model, stream=stream, **fields)
        answer = answer.get("response", answer)
        assert answer["model"] == model
        assert answer["foundry_lite"] == {"model": "alphabet:cpu-fp32", "variant": "cpu-fp32"}
        assert header == "alphabet:cpu-fp32"


def test_the_fingerprint_changes_with_the_variant_and_the_settings_alone(daemon: Daemon, home: Path) -> None:
    def of(daemon: Daemon, model: str) -> str:
        answer, _ = _named(daemon, "/v1/chat/completions", model, messages=HI)
        assert (
            _named(daemon, "/v1/completions", model, prompt="hi")[0]["system_fingerprint"]
            == (answer["system_fingerprint"])
        )
        return str(answer["system_fingerprint"])

    usual = of(daemon, "alphabet")
    assert re.fullmatch("fp_[0-9a-f]{16}", usual)
    assert of(daemon, "alphabet:cpu-fp32") == usual
    assert of(daemon, "home-assistant") != usual
    same, other = Daemon(home), Daemon(home, FOUNDRY_LITE_CONTEXT_LENGTH="256")
    assert of(same, "alphabet") == usual
    assert of(other, "alphabet") != usual
    same.stop()
    other.stop()
