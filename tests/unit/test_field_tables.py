"""No field of OpenAI's is unknown to us: each is honoured, refused by name, or advisory, and docs/ says which.

The lists were written down from the types of openai's Python client 3.52 (``*CreateParams``), November 2026. A value
stands beside each field: one that changes what is asked for if the field is honoured, and nothing if it is advisory.
"""

from __future__ import annotations

import json
import re
import typing
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cache
from typing import Any

import pytest
from msgspec import Struct
from openai.types import completion_create_params as completion_params
from openai.types import embedding_create_params as embedding_params
from openai.types.chat import completion_create_params as chat_params
from openai.types.responses import response_create_params as response_params

from foundry_lite.errors import InvalidRequest
from foundry_lite.protocol.chat.request import UNSUPPORTED as CHAT_UNSUPPORTED
from foundry_lite.protocol.chat.request import ChatBody, decode_chat
from foundry_lite.protocol.completions.request import UNSUPPORTED as COMPLETION_UNSUPPORTED
from foundry_lite.protocol.completions.request import CompletionBody, decode_completion
from foundry_lite.protocol.embeddings import UNSUPPORTED as EMBEDDING_UNSUPPORTED
from foundry_lite.protocol.embeddings import EmbeddingBody, decode_embedding
from foundry_lite.protocol.responses.request import UNSUPPORTED as RESPONSE_UNSUPPORTED
from foundry_lite.protocol.responses.request import ResponseBody, ResponseCall, decode_response
from tests.support import ROOT


class Delimiter(StrEnum):
    """What becomes of a field, in the words of docs/."""

    HONOURED = "honoured"
    REFUSED = "refused"
    ADVISORY = "advisory"


HONOURED, REFUSED, ADVISORY = Delimiter


@dataclass(frozen=True)
class Field:
    """A field with a telling value; ``beside`` is what it needs beside it."""

    mark: Delimiter
    value: Any
    beside: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Api:
    """One endpoint: ``asked`` is what a body asks for, ``least`` the smallest body, ``ours`` what OpenAI does not have.

    ``page`` and ``heading`` are where docs/ has its tables; the heading is of the second level.
    """

    theirs: tuple[type, ...]
    body: type[Struct]
    unsupported: frozenset[str]
    asked: Callable[[bytes], Any]
    least: dict[str, Any]
    fields: dict[str, Field]
    ours: dict[str, Field]
    page: str
    heading: str

    @property
    def all(self) -> dict[str, Field]:
        return {**self.fields, **self.ours}


HI = [{"role": "user", "content": "hi"}]
TOOLS = {"tools": [{"type": "function", "function": {"name": "f"}}]}

# Of chat and plain completions, and of responses too.
ADVISORY_FIELDS = {
    "metadata": Field(ADVISORY, {"a": "b"}),
    "prompt_cache_key": Field(ADVISORY, "k"),
    "prompt_cache_retention": Field(ADVISORY, "24h"),
    "safety_identifier": Field(ADVISORY, "u"),
    "service_tier": Field(ADVISORY, "auto"),
    "user": Field(ADVISORY, "u"),
}
SAMPLING_FIELDS = {
    "frequency_penalty": Field(HONOURED, 1),
    "logit_bias": Field(HONOURED, {"5": 1}),
    "presence_penalty": Field(HONOURED, 1),
    "seed": Field(HONOURED, 1),
    "stop": Field(HONOURED, ["x"]),
    "temperature": Field(HONOURED, 0.5),
    "top_p": Field(HONOURED, 0.5),
}
OUR_FIELDS = {
    "top_k": Field(HONOURED, 5),
    "min_p": Field(HONOURED, 0.5),
    "repetition_penalty": Field(HONOURED, 1.5),
    "min_tokens": Field(HONOURED, 5),
    "ignore_eos": Field(HONOURED, True),
    "keep_alive": Field(HONOURED, "5m"),
}
GUIDES = {
    "guided_json": Field(HONOURED, {"type": "null"}),
    "guided_regex": Field(HONOURED, "a+"),
    "guided_grammar": Field(HONOURED, 'start: "a"'),
    "guided_choice": Field(HONOURED, ["a", "b"]),
    "grammar": Field(HONOURED, 'start: "a"'),
    "structured_outputs": Field(HONOURED, {"regex": "a+"}),
}
STREAM = {
    "stream": Field(HONOURED, True),
    "stream_options": Field(HONOURED, {"include_usage": True}, {"stream": True}),
}

CHAT = Api(
    theirs=(chat_params.CompletionCreateParamsBase, chat_params.CompletionCreateParamsStreaming),
    body=ChatBody,
    unsupported=CHAT_UNSUPPORTED,
    asked=decode_chat,
    least={"model": "m", "messages": HI},
    fields={
        **ADVISORY_FIELDS,
        **SAMPLING_FIELDS,
        **STREAM,
        "audio": Field(REFUSED, {"voice": "alloy", "format": "wav"}),
        "function_call": Field(REFUSED, "auto"),
        "functions": Field(REFUSED, [{"name": "f"}]),
        "logprobs": Field(HONOURED, True),
        "max_completion_tokens": Field(HONOURED, 5),
        "max_tokens": Field(HONOURED, 5),
        "messages": Field(HONOURED, [*HI, *HI]),
        "modalities": Field(REFUSED, ["text", "audio"]),
        "model": Field(HONOURED, "other"),
        "moderation": Field(REFUSED, {"model": "m"}),
        "n": Field(HONOURED, 2),
        "parallel_tool_calls": Field(HONOURED, False),
        "prediction": Field(REFUSED, {"type": "content", "content": "x"}),
        "prompt_cache_options": Field(ADVISORY, {"mode": "explicit", "ttl": "30m"}),
        "reasoning_effort": Field(HONOURED, "low"),
        "response_format": Field(HONOURED, {"type": "json_object"}),
        "store": Field(ADVISORY, True),
        "tool_choice": Field(HONOURED, "required", TOOLS),
        "tools": Field(HONOURED, TOOLS["tools"]),
        "top_logprobs": Field(HONOURED, 3, {"logprobs": True}),
        "verbosity": Field(REFUSED, "low"),
        "web_search_options": Field(REFUSED, {}),
    },
    ours={
        **OUR_FIELDS,
        **GUIDES,
        "chat_template_kwargs": Field(HONOURED, {"enable_thinking": False}),
        "random_seed": Field(HONOURED, 7),
        "ttl": Field(HONOURED, 60),
        "ep": Field(HONOURED, "cpu"),
    },
    page="api.md",
    heading="Fields of a chat completion",
)

COMPLETION = Api(
    theirs=(completion_params.CompletionCreateParamsBase, completion_params.CompletionCreateParamsStreaming),
    body=CompletionBody,
    unsupported=COMPLETION_UNSUPPORTED,
    asked=decode_completion,
    least={"model": "m", "prompt": "p"},
    fields={
        **SAMPLING_FIELDS,
        **STREAM,
        "model": Field(HONOURED, "other"),
        "prompt": Field(HONOURED, [1, 2]),
        "best_of": Field(HONOURED, 3),
        "echo": Field(HONOURED, True),
        "logprobs": Field(HONOURED, 0),
        "max_tokens": Field(HONOURED, 5),
        "n": Field(HONOURED, 3),
        "suffix": Field(REFUSED, "s"),
        "user": ADVISORY_FIELDS["user"],
    },
    ours={
        **OUR_FIELDS,
        **GUIDES,
        **{name: one for name, one in ADVISORY_FIELDS.items() if name != "user"},
        "add_special_tokens": Field(HONOURED, False),
    },
    page="api-completions.md",
    heading="Fields of a completion",
)


def asked_of_a_response(body: bytes) -> tuple[ResponseCall, dict[str, Any]]:
    """What a body asks for, without what is only returned as it was sent."""
    call = decode_response(body)
    wire = {name: getattr(call.wire, name) for name in ResponseBody.__struct_fields__ if name not in ADVISORY_NAMES}
    return replace(call, wire=ResponseBody(model="")), wire


ADVISORY_NAMES = {*ADVISORY_FIELDS, "prompt_cache_options", "client_metadata"} - {"metadata"}
LOGPROBS = {"include": ["message.output_text.logprobs"]}
RESPONSE_TOOLS = {"tools": [{"type": "function", "name": "f"}]}

RESPONSES = Api(
    theirs=(response_params.ResponseCreateParamsBase, response_params.ResponseCreateParamsStreaming),
    body=ResponseBody,
    unsupported=RESPONSE_UNSUPPORTED,
    asked=asked_of_a_response,
    least={"model": "m", "input": "hi"},
    fields={
        **ADVISORY_FIELDS,
        "metadata": Field(HONOURED, {"a": "b"}),
        "access_programs": Field(REFUSED, {"cyber": "standard"}),
        "background": Field(HONOURED, True),
        "context_management": Field(REFUSED, [{"type": "compaction"}]),
        "conversation": Field(REFUSED, "conv_1"),
        "image": Field(REFUSED, {}),
        "include": Field(HONOURED, LOGPROBS["include"]),
        "input": Field(HONOURED, "other"),
        "instructions": Field(HONOURED, "be brief"),
        "max_output_tokens": Field(HONOURED, 5),
        "max_tool_calls": Field(REFUSED, 5),
        "model": Field(HONOURED, "other"),
        "moderation": Field(REFUSED, {"model": "m"}),
        "parallel_tool_calls": Field(HONOURED, False),
        "previous_response_id": Field(HONOURED, "resp_1"),
        "prompt": Field(REFUSED, {"id": "pmpt_1"}),
        "prompt_cache_options": Field(ADVISORY, {"mode": "explicit"}),
        "reasoning": Field(HONOURED, {"effort": "low"}),
        "store": Field(HONOURED, False),
        "stream": Field(HONOURED, True),
        "stream_options": Field(HONOURED, {"include_obfuscation": False}, {"stream": True}),
        "temperature": Field(HONOURED, 0.5),
        "text": Field(HONOURED, {"format": {"type": "json_object"}}),
        "tool_choice": Field(HONOURED, "required", RESPONSE_TOOLS),
        "tools": Field(HONOURED, RESPONSE_TOOLS["tools"]),
        "top_logprobs": Field(HONOURED, 3, LOGPROBS),
        "top_p": Field(HONOURED, 0.5),
        "truncation": Field(HONOURED, "auto"),
    },
    ours={
        **OUR_FIELDS,
        **{name: one for name, one in SAMPLING_FIELDS.items() if name not in ("temperature", "top_p")},
        "client_metadata": Field(ADVISORY, {"a": "b"}),
    },
    page="api-responses.md",
    heading="Fields",
)

EMBEDDINGS = Api(
    theirs=(embedding_params.EmbeddingCreateParams,),
    body=EmbeddingBody,
    unsupported=EMBEDDING_UNSUPPORTED,
    asked=decode_embedding,
    least={"model": "m", "input": "hi"},
    fields={
        "dimensions": Field(HONOURED, 64),
        "encoding_format": Field(HONOURED, "base64"),
        "input": Field(HONOURED, ["hi"]),
        "model": Field(HONOURED, "other"),
        "user": Field(ADVISORY, "u"),
    },
    ours={
        **{name: one for name, one in ADVISORY_FIELDS.items() if name != "user"},
        **dict.fromkeys(sorted(EMBEDDING_UNSUPPORTED), Field(REFUSED, True)),
        "input_type": Field(HONOURED, "query"),
        "keep_alive": Field(HONOURED, "5m"),
        "modality": Field(ADVISORY, "text"),
        "prompt_name": Field(HONOURED, "query"),
        "truncate": Field(HONOURED, True),
    },
    page="api-embeddings.md",
    heading="`POST /v1/embeddings`",
)

APIS = {"chat": CHAT, "completion": COMPLETION, "response": RESPONSES, "embedding": EMBEDDINGS}


def cases(*marks: Delimiter) -> list[Any]:
    return [
        pytest.param(api, name, id=f"{title}-{name}")
        for title, api in APIS.items()
        for name, one in api.all.items()
        if one.mark in marks
    ]


def body(api: Api, **fields: Any) -> bytes:
    return json.dumps({**api.least, **fields}).encode()


@cache
def marks_of(page: str, heading: str) -> dict[str, str]:
    """What the tables under a heading say of each field, where it comes first."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    section = text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| *(`[^|]*) *\|([^|]*)\|", section, re.MULTILINE)
    return {name: mark.strip() for names, mark in reversed(rows) for name in re.findall(r"`(\w+)`", names)}


@pytest.mark.parametrize("title", APIS)
def test_the_list_has_every_field_that_the_installed_client_can_send(title: str) -> None:
    api = APIS[title]
    theirs = {name for kind in api.theirs for name in typing.get_type_hints(kind)}
    assert theirs <= set(api.fields), "openai's client has fields that nobody has judged"
    assert set(api.fields) <= theirs | {"stream"}


@pytest.mark.parametrize("title", APIS)
def test_a_body_takes_what_is_listed_and_nothing_else(title: str) -> None:
    api = APIS[title]
    refused = {name for name, one in api.all.items() if one.mark is REFUSED}
    assert set(api.body.__struct_fields__) - refused == set(api.all) - refused
    assert api.unsupported <= refused


@pytest.mark.parametrize(("api", "name"), cases(HONOURED))
def test_an_honoured_field_changes_what_is_asked_for(api: Api, name: str) -> None:
    one = api.all[name]
    assert api.asked(body(api, **one.beside, **{name: one.value})) != api.asked(body(api, **one.beside))


@pytest.mark.parametrize(("api", "name"), cases(REFUSED))
def test_a_refused_field_is_named(api: Api, name: str) -> None:
    one = api.all[name]
    with pytest.raises(InvalidRequest) as caught:
        api.asked(body(api, **one.beside, **{name: one.value}))
    assert caught.value.param == name
    assert f"'{name}'" in caught.value.message


@pytest.mark.parametrize(("api", "name"), cases(ADVISORY))
def test_an_advisory_field_changes_nothing(api: Api, name: str) -> None:
    one = api.all[name]
    assert api.asked(body(api, **one.beside, **{name: one.value})) == api.asked(body(api, **one.beside))


@pytest.mark.parametrize(("api", "name"), cases(*Delimiter))
def test_any_field_may_be_null_but_those_that_are_needed(api: Api, name: str) -> None:
    is_foreign = name in api.ours and api.ours[name].mark is REFUSED
    if name not in api.least and not is_foreign:
        assert api.asked(body(api, **{name: None})) == api.asked(body(api))


@pytest.mark.parametrize(("api", "name"), cases(*Delimiter))
def test_the_table_in_the_documents_says_what_happens(api: Api, name: str) -> None:
    assert marks_of(api.page, api.heading).get(name) == api.all[name].mark
