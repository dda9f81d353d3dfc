"""The OpenAPI document against the daemon that serves it: schemathesis makes requests of it, and judges the answers.

Requests that the schema allows, and requests that it does not, a few of each for every operation; the same ones each
time. Most of what a schema allows is refused for reasons that no schema can give; so there are also requests of the
kind that is served.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import msgspec
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from foundry_lite import __version__
from foundry_lite.protocol.openapi import write_document
from foundry_lite.server.app import all_endpoints
from foundry_lite.server.http.openapi import with_document
from foundry_lite.server.state import Site
from foundry_lite.settings import Settings
from foundry_lite.store.store import Store
from tests import tiny_encoder, tiny_model
from tests.support import Daemon

EXAMPLES = int(os.environ.get("CONTRACT_EXAMPLES", "5"))  # of each kind for each operation
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
MODELS = {"enum": ["alphabet", "alphabet:cpu-fp32", "judge", "nobody", "vectors"]}
TOKEN_ROUTES = "/api/"  # not /shutdown: it would be obeyed

# What a body must have to be served and not just understood; and fields that go only with others, or a model's own.
SERVED: dict[str, dict[str, list[Any]]] = {
    "POST /v1/chat/completions": {
        "model": ["alphabet"],
        "messages": [
            [{"role": "user", "content": "hi"}],
            [{"role": "system", "content": [{"type": "text", "text": "be"}]}, {"role": "user", "content": "\u00e4"}],
        ],
    },
    "POST /v1/completions": {"model": ["alphabet"], "prompt": ["hi", ["a", "b"], [65, 66], [[65], [66, 67]]]},
    "POST /v1/responses": {"model": ["alphabet"], "input": ["hi", [{"role": "user", "content": "hi"}]]},
    "POST /v1/embeddings": {"model": ["vectors"], "input": ["hi", ["a", "b"]], "dimensions": [None, 4]},
    "POST /v1/rerank": {"model": ["judge"], "query": ["hi"], "documents": [["a", "b"], [{"text": "c"}]]},
}
STREAMED = ("POST /v1/chat/completions", "POST /v1/completions", "POST /v1/responses")
COSTLY = {"n": [None, 1, 2], "best_of": [None], "max_tokens": [None, 5], "max_completion_tokens": [None]}
LEFT_OUT = frozenset(
    [
        *(
            "stream_options",
            "logprobs",
            "top_logprobs",
            "logit_bias",
            "min_tokens",
            "ignore_eos",
            "keep_alive",
            "suffix",
        ),
        *("tools", "tool_choice", "response_format", "text", "grammar", "guided_json", "guided_regex"),
        *("guided_grammar", "guided_choice", "structured_outputs", "previous_response_id", "conversation"),
        *("include", "prompt", "background"),
        *(
            "chat_template_kwargs",
            "reasoning",
            "reasoning_effort",
            "max_tool_calls",
            "truncation",
            "prompt_name",
            "input_type",
        ),
        *("max_output_tokens", "instructions", "enable_thinking", "reasoning_format", "add_generation_prompt"),
        *("continue_final_message", "chat_template", "prompt_cache_breakpoint", "prompt_cache_options"),
    ]
)


def _document() -> dict[str, Any]:
    """Return the document that any daemon of this version serves."""
    home = Path("/nonexistent")
    everything = with_document(all_endpoints(Site(Store(home), Settings(home=home))))
    written: dict[str, Any] = json.loads(msgspec.json.encode(write_document(everything, __version__)))
    return written


def _named(document: dict[str, Any]) -> dict[str, Any]:
    """Return the document, in which every name of a model is one of `MODELS`."""
    for schema in document["components"]["schemas"].values():
        fields = schema.get("properties", {})
        if fields.get("model", {}).get("type") == "string" and schema.get("additionalProperties") is False:
            fields["model"] = MODELS
    for operation in _operations(document):
        for parameter in operation.get("parameters", ()):
            if parameter["name"] == "model":
                parameter["schema"] = MODELS
    return document


def _served(document: dict[str, Any]) -> dict[str, Any]:
    """Return the document of bodies that are served, as far as a schema can say so."""
    for label, values in SERVED.items():
        method, _, path = label.partition(" ")
        content = document["paths"][path][method.lower()]["requestBody"]["content"]["application/json"]
        schema = document["components"]["schemas"][content["schema"]["$ref"].rpartition("/")[2]]
        fields = {name: one for name, one in schema["properties"].items() if name not in LEFT_OUT - values.keys()}
        fields |= {name: {"enum": some} for name, some in COSTLY.items() if name in fields}
        fields |= {name: {"enum": some} for name, some in values.items()}
        fields |= {"stream": {"enum": [True, False]}} if "stream" in fields else {}
        required = sorted({*schema["required"], *values, *({"stream"} & fields.keys())})
        content["schema"] = {**schema, "properties": fields, "required": required}
    return document


def _operations(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for methods in document["paths"].values():
        yield from methods.values()


def _load(document: dict[str, Any]) -> dict[str, Any]:
    found = [one.ok() for one in schemathesis.openapi.from_dict(document).get_all_operations() if isinstance(one, Ok)]
    assert len(found) == len(list(_operations(document)))
    return {one.label: one for one in found}


DOCUMENT = _document()
OPERATIONS = _load(_named(_document()))
CASES = [
    (label, mode)
    for label, operation in OPERATIONS.items()
    for mode in schemathesis.GenerationMode
    if not mode.is_negative or operation.body or operation.query
]
SERVED_OPERATIONS = _load(_served(_document()))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with *alphabet*, the encoder *vectors* and the reranker *judge*."""
    home = tmp_path_factory.mktemp("contract")
    tiny_model.install(home, "alphabet")
    tiny_encoder.install(home, "vectors")
    tiny_encoder.install(home, "judge", reranks=True)
    return home


@pytest.fixture(scope="module")
def token(daemon: Daemon, home: Path) -> str:
    return (home / "admin-token").read_text().strip()


def test_the_daemon_serves_the_document(daemon: Daemon) -> None:
    assert daemon.get("/openapi.json") == DOCUMENT


def check_events(label: str, text: str) -> int:
    """Hold what each event carries to the schema that the document has for it; return how many there were."""
    method, _, path = label.partition(" ")
    content = DOCUMENT["paths"][path][method.lower()]["responses"]["200"]["content"]["text/event-stream"]
    carried = content["schema"]["properties"]["data"]["anyOf"][0]["contentSchema"]
    validator = jsonschema_rs.Draft202012Validator({**carried, "components": DOCUMENT["components"]})
    events = [line.removeprefix("data: ") for line in text.split("\n") if line.startswith("data: ")]
    for event in events:
        if event != "[DONE]":
            validator.validate(json.loads(event))
    return len(events)


def each(operation: Any, mode: schemathesis.GenerationMode, judge: Callable[[schemathesis.Case[Any]], None]) -> None:
    """Judge some requests of an operation, the same ones each time."""
    given(case=operation.as_strategy(generation_mode=mode))(
        settings(
            max_examples=EXAMPLES,
            derandomize=True,
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )(judge)
    )()


@pytest.mark.parametrize(("label", "mode"), CASES, ids=[f"{label}-{mode.value}" for label, mode in CASES])
def test_an_operation_answers_as_the_document_says(
    daemon: Daemon, token: str, label: str, mode: schemathesis.GenerationMode
) -> None:
    headers = {"authorization": f"Bearer {token}"} if TOKEN_ROUTES in label else {}
    checks = [*CHECKS, negative_data_rejection] if mode.is_negative else CHECKS

    def conforms(case: schemathesis.Case[Any]) -> None:
        case.validate_response(case.call(base_url=daemon.url, headers=headers, timeout=20), checks=checks)

    each(OPERATIONS[label], mode, conforms)


@pytest.mark.parametrize("label", SERVED)
def test_what_is_served_has_the_shape_that_the_document_gives(daemon: Daemon, label: str) -> None:
    answers: list[str] = []
    streamed: list[str] = []

    def conforms(case: schemathesis.Case[Any]) -> None:
        response = case.call(base_url=daemon.url, timeout=20)
        case.validate_response(response, checks=CHECKS)
        if response.headers["content-type"][0].startswith("text/event-stream"):
            assert check_events(label, response.text) > 2
            streamed.append(label)
        answers.append(f"{response.status_code} {response.text[:200]}")

    each(SERVED_OPERATIONS[label], schemathesis.GenerationMode.POSITIVE, conforms)
    served = [answer for answer in answers if answer.startswith("200")]
    assert len(served) > EXAMPLES // 2, answers
    assert bool(streamed) is (label in STREAMED)


_ALPHABET = {"model": "alphabet"}
_TURN: Any = [{"role": "user", "content": "hi"}]
# All that loads a model, and a request that does.
LOADING: dict[str, dict[str, Any]] = {
    "GET /openai/load/{model}": _ALPHABET,
    "GET /models/load/{model}": _ALPHABET,
    "POST /v1/chat/completions": {**_ALPHABET, "messages": _TURN},
    "POST /v1/chat/completions/tokenizer/encode/count": {**_ALPHABET, "messages": _TURN},
    "POST /v1/completions": {**_ALPHABET, "prompt": "hi"},
    "POST /v1/responses": {**_ALPHABET, "input": "hi"},
    "POST /v1/responses/input_tokens": {**_ALPHABET, "input": "hi"},
    "POST /tokenize": {**_ALPHABET, "content": "hi"},
    "POST /detokenize": {**_ALPHABET, "tokens": [65]},
    "POST /v1/embeddings": {"model": "vectors", "input": "hi"},
    **{f"POST {path}": {"model": "judge", "query": "a", "documents": ["b"]} for path in ("/v1/rerank", "/v2/rerank")},
    "POST /rerank": {"model": "judge", "query": "a", "documents": ["b"]},
}
NOT_LOADING = {"POST /api/jobs", "GET /openai/unload/{model}", "GET /models/unload/{model}", "GET /v1/models/{model}"}


def test_all_that_names_a_model_is_known_to_load_it_or_not() -> None:
    naming = set()
    for label in OPERATIONS:
        method, _, path = label.partition(" ")
        body = DOCUMENT["paths"][path][method.lower()].get("requestBody")
        schema = {} if body is None else body["content"]["application/json"]["schema"]
        fields = DOCUMENT["components"]["schemas"].get(schema.get("$ref", "").rpartition("/")[2], {})
        if "{model}" in path or fields.get("properties", {}).get("model", {}).get("type") == "string":
            naming.add(label)
    assert naming == LOADING.keys() | NOT_LOADING


def test_a_refusal_for_want_of_room_is_one_that_the_document_has(home: Path) -> None:
    tiny_model.install(home, "slow", endless=True, context=4096, work=4000)
    crowded = Daemon(home, FOUNDRY_LITE_MAX_LOADED="1", FOUNDRY_LITE_SLOTS="1", FOUNDRY_LITE_QUEUE="0")

    def ask(label: str, given: dict[str, Any]) -> int:
        operation = OPERATIONS[label]
        if label.startswith("GET"):
            case = operation.Case(path_parameters=given)
        else:
            case = operation.Case(body=given, media_type="application/json")
        response = case.call(base_url=crowded.url, timeout=20)
        case.validate_response(response, checks=[one for one in CHECKS if one is not not_a_server_error])
        status: int = response.status_code
        return status

    try:
        with crowded.client().chat.completions.create(model="slow", messages=_TURN, stream=True) as stream:
            next(iter(stream))
            assert {label: ask(label, given) for label, given in LOADING.items()} == dict.fromkeys(LOADING, 503)
            assert ask("POST /v1/chat/completions", {"model": "slow", "messages": _TURN}) == 429
            for label in ("GET /openai/unload/{model}", "GET /models/unload/{model}"):
                assert ask(label, {"model": "slow"}) == 409
            assert ask("GET /openai/unloadall", {}) == 409
    finally:
        assert "Traceback" not in crowded.stop()
