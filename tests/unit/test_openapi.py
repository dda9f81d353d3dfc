"""The OpenAPI document: what it says of a route follows from the route, and of a type from the type."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import jsonschema_rs
import msgspec
import pytest
from msgspec import Meta, Struct

from foundry_lite import __version__
from foundry_lite.protocol import openapi
from foundry_lite.protocol.openapi import Parameter, write_document
from foundry_lite.server.app import all_endpoints
from foundry_lite.server.http.openapi import with_document
from foundry_lite.server.http.routing import Endpoint
from foundry_lite.server.state import Site
from foundry_lite.settings import Settings
from foundry_lite.store.store import Store


class _Text(Struct, tag_field="type", tag="text"):
    text: str


class _Picture(Struct, tag_field="type", tag="picture"):
    width: Annotated[int, Meta(ge=1, le=9)]


class _Function(Struct):
    name: str


class Body(Struct, kw_only=True, forbid_unknown_fields=True):
    """A body."""

    model: Annotated[str, Meta(min_length=1)]
    part: _Text | _Picture
    odd: int | msgspec.UnsetType = msgspec.UNSET


class Answer(Struct):
    """An answer."""

    function: _Function


class Chunk(Struct):
    """A chunk."""

    number: int


@dataclass(frozen=True)
class Route:
    method: str = "POST"
    path: str = "/v1/things/{thing:path}/parts"
    summary: str = "Parts of a thing"
    takes: Any = Body
    gives: Any = Answer
    streams: Any = Chunk
    status: int = 200
    refuses: tuple[int, ...] = ()
    query: tuple[Parameter, ...] = ()


def write(*routes: Route) -> dict[str, Any]:
    """Return the document as a client reads it."""
    document: dict[str, Any] = json.loads(msgspec.json.encode(write_document(routes, "1.2.3")))
    return document


def operation(route: Route) -> dict[str, Any]:
    paths = write(route)["paths"]
    found: dict[str, Any] = next(iter(paths.values()))[route.method.lower()]
    return found


def test_it_says_whose_it_is_and_of_which_version() -> None:
    document = write(Route())
    assert (document["openapi"], document["info"]["version"]) == ("3.1.1", "1.2.3")


def test_a_path_loses_the_routers_own_notation() -> None:
    document = write(Route())
    assert list(document["paths"]) == ["/v1/things/{thing}/parts"]
    one = document["paths"]["/v1/things/{thing}/parts"]["post"]
    assert one["operationId"] == "post_v1_things_thing_parts"
    assert [(p["name"], p["in"], p["required"]) for p in one["parameters"]] == [("thing", "path", True)]


def test_methods_of_one_path_stand_together() -> None:
    document = write(Route("GET", takes=None), Route("DELETE", takes=None))
    assert list(document["paths"]["/v1/things/{thing}/parts"]) == ["get", "delete"]


def test_bodies_are_json_and_streams_are_events() -> None:
    one = operation(Route())
    assert list(one["requestBody"]["content"]) == ["application/json"]
    content = one["responses"]["200"]["content"]
    assert content["application/json"]["schema"] == {"$ref": "#/components/schemas/Answer"}
    data, done = content["text/event-stream"]["schema"]["properties"]["data"]["anyOf"]
    assert data["contentMediaType"] == "application/json"
    assert [one["$ref"].rpartition("/")[2] for one in data["contentSchema"]["anyOf"]] == ["Chunk", "ErrorBody"]
    assert done == {"const": "[DONE]"}


def test_plain_text_and_nothing_at_all_are_answers_too() -> None:
    assert list(operation(Route(gives=str, streams=None))["responses"]["200"]["content"]) == ["text/plain"]
    assert "content" not in operation(Route(gives=None, streams=None, status=204))["responses"]["204"]


def test_a_body_that_names_a_model_may_meet_a_queue_and_says_when_to_come_back() -> None:
    responses = operation(Route())["responses"]
    statuses = {"400", "403", "404", "408", "413", "415", "429", "431", "500", "503"}
    assert statuses == {status for status in responses if status >= "400"}
    assert [status for status, one in responses.items() if "Retry-After" in one.get("headers", {})] == ["429", "503"]
    errors = [one for status, one in responses.items() if status >= "400"]
    assert all(one["content"]["application/json"]["schema"]["$ref"].endswith("/ErrorBody") for one in errors)


def test_a_route_without_a_body_has_fewer_ways_to_fail_and_may_add_its_own() -> None:
    plain = Route("GET", "/health", takes=None, streams=None)
    assert set(operation(plain)["responses"]) == {"200", "403", "431", "500"}
    held = Route("GET", "/health", takes=None, streams=None, refuses=(401,), query=(Parameter("step", "Which."),))
    assert set(operation(held)["responses"]) == {"200", "400", "401", "403", "431", "500"}


def test_a_parameter_of_the_query_has_its_type() -> None:
    limit = Parameter("limit", "How many.", Annotated[int, Meta(ge=1, le=100)])
    parameters = operation(Route(query=(limit,)))["parameters"]
    assert parameters[1] == {
        "name": "limit",
        "in": "query",
        "description": "How many.",
        "required": False,
        "schema": {"type": "integer", "minimum": 1, "maximum": 100},
    }


def test_bounds_tags_and_closed_objects_are_in_the_schemas() -> None:
    schemas = write(Route())["components"]["schemas"]
    body = schemas["Body"]
    assert body["properties"]["model"] == {"type": "string", "minLength": 1}
    assert body["additionalProperties"] is False
    assert body["required"] == ["model", "part"]
    assert schemas["Picture"]["properties"]["width"] == {"type": "integer", "minimum": 1, "maximum": 9}
    part = body["properties"]["part"]
    assert {one["$ref"] for one in part["anyOf"]} == {"#/components/schemas/Text", "#/components/schemas/Picture"}
    assert part["discriminator"]["mapping"]["text"] == "#/components/schemas/Text"


def test_private_names_are_public_and_equal_ones_are_told_apart_by_their_modules() -> None:
    names = openapi._pretty(["Plain", "_Private", "tests.chat._Function", "tests.calls.Function"])
    assert names == {
        "Plain": "Plain",
        "_Private": "Private",
        "tests.chat._Function": "TestsChatFunction",
        "tests.calls.Function": "TestsCallsFunction",
    }


def test_a_schema_of_somebody_else_keeps_its_words() -> None:
    """A field may be called ``mapping`` or ``$ref``, and hold anything."""
    schema = {"propertyName": "type", "mapping": 3, "$ref": "#/elsewhere"}
    assert openapi._renamed(schema, {}) == schema


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> list[Endpoint]:
    home: Path = tmp_path_factory.mktemp("nothing")
    return with_document(all_endpoints(Site(Store(home), Settings(home=home))))


@pytest.fixture(scope="module")
def document(everything: list[Endpoint]) -> dict[str, Any]:
    written: dict[str, Any] = json.loads(msgspec.json.encode(write_document(everything, __version__)))
    return written


def test_no_two_types_of_the_real_document_have_one_name(everything: list[Endpoint]) -> None:
    components = msgspec.json.schema_components(tuple(openapi._types(everything)))[1]
    assert len(set(openapi._pretty(components).values())) == len(components)


def test_every_type_of_the_real_document_has_its_name_as_its_title(document: dict[str, Any]) -> None:
    """Generators of clients name classes by titles, and leave out what would have the name of another."""
    schemas = document["components"]["schemas"]
    assert {schema["title"] for schema in schemas.values()} == set(schemas)


def test_every_route_with_a_body_or_an_answer_says_so(everything: list[Endpoint]) -> None:
    silent = {one.path for one in everything if one.gives is None}
    assert silent == {"/openai/load/{model:path}", "/openai/unload/{model:path}", "/openai/unloadall"}
    bodiless = {one.path for one in everything if one.method == "POST" and one.takes is None}
    assert bodiless == {"/v1/responses/{response_id}/cancel", "/shutdown"}


def test_every_reference_of_the_real_document_leads_somewhere(document: dict[str, Any]) -> None:
    targets = set(re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(document)))
    assert targets == set(document["components"]["schemas"])
    assert all(re.fullmatch(r"[A-Z]\w+", name) for name in targets)


def test_every_operation_of_the_real_document_has_a_name_of_its_own(document: dict[str, Any]) -> None:
    names = [one["operationId"] for methods in document["paths"].values() for one in methods.values()]
    assert len(names) == len(set(names))
    assert "get_openapi_json" in names


def test_every_schema_of_the_real_document_is_one_by_the_draft_that_openapi_3_1_uses(document: dict[str, Any]) -> None:
    for name, schema in document["components"]["schemas"].items():
        assert jsonschema_rs.meta.is_valid({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}), name


def test_generators_of_clients_read_what_they_need(document: dict[str, Any]) -> None:
    """A default of null makes a field one that must be there to them; a choice has a type, a list has elements."""

    def schemas(value: Any) -> Iterator[dict[str, Any]]:
        if isinstance(value, dict):
            yield value
        for one in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
            yield from schemas(one)

    found = list(schemas(document["components"]["schemas"]))
    assert not [one for one in found if "default" in one and one["default"] is None]
    assert not [one for one in found if isinstance(one.get("enum"), list) and "type" not in one]
    assert not [one for one in found if one.get("type") == "array" and "items" not in one]
