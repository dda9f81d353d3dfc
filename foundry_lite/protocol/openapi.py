"""The OpenAPI 3.1 document of this daemon, made of the types that decode and encode what goes over the wire.

Nothing is repeated here: paths and summaries are those of the routes, schemas those of the structs, and which errors
an operation may answer with follows from what it takes. Source: the OpenAPI Specification 3.1.1; how a stream is
described, with one schema for each event, is that of version 3.2.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Protocol, get_type_hints

import msgspec

from foundry_lite.protocol.errors import ErrorBody

_REF = "#/components/schemas/"
_PARAMETER = re.compile(r"\{(?P<name>\w+)(?::\w+)?\}")

_ALWAYS = (403, 431, 500)  # a foreign host or origin, headers without end, a mistake of ours
_OF_A_BODY = (400, 408, 413, 415)
_OF_A_MODEL = (404, 429, 503)  # not installed, its queue full, no room to load it
_OF_A_NAME = (400, 404)
_WAITS = (429, 503)


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of the query. ``kind`` is the type of its value: in a URL it is a string."""

    name: str
    summary: str
    kind: Any = str
    required: bool = False


class Operation(Protocol):
    """An OpenAPI operation: a method of a path; `server.http.routing.Endpoint` documents the attributes."""

    @property
    def method(self) -> str: ...
    @property
    def path(self) -> str: ...
    @property
    def summary(self) -> str: ...
    @property
    def takes(self) -> Any: ...
    @property
    def gives(self) -> Any: ...
    @property
    def streams(self) -> Any: ...
    @property
    def status(self) -> int: ...
    @property
    def refuses(self) -> Sequence[int]: ...
    @property
    def query(self) -> Sequence[Parameter]: ...


def write_document(operations: Sequence[Operation], version: str) -> dict[str, Any]:
    """Return the document, ready to be encoded."""
    schemas = _Schemas(ErrorBody, *_types(operations))
    paths: dict[str, dict[str, Any]] = {}
    for one in operations:
        path = _PARAMETER.sub(r"{\g<name>}", one.path)
        paths.setdefault(path, {})[one.method.lower()] = _operation(one, schemas)
    return {
        "openapi": "3.1.1",
        "info": {
            "title": "foundry-lite",
            "version": version,
            "description": "A local inference daemon for fine-tuned small language models, with OpenAI's HTTP API.",
        },
        "paths": paths,
        "components": {"schemas": schemas.components},
    }


class _Schemas:
    """JSON Schemas of some types. A struct appears once, among the components, without a private name's underscore.

    Its title is its name there: what generates clients makes classes of titles, and two of one name are an error to it.
    """

    def __init__(self, *types: Any) -> None:
        self._types = tuple(types)
        schemas, components = msgspec.json.schema_components(types, ref_template=_REF + "{name}")
        names = _pretty(components)
        self._schemas = [_plain(_renamed(schema, names)) for schema in schemas]
        self.components = {
            names[name]: {**_plain(_renamed(schema, names)), "title": names[name]}
            for name, schema in components.items()
        }

    def of(self, kind: Any) -> dict[str, Any]:
        """Return the schema of one of the types."""
        found: dict[str, Any] = self._schemas[self._types.index(kind)]
        return found


def _types(operations: Iterable[Operation]) -> Iterable[Any]:
    for one in operations:
        yield from (kind for kind in (one.takes, one.gives, one.streams) if kind is not None)
        yield from (parameter.kind for parameter in one.query)


def _operation(one: Operation, schemas: _Schemas) -> dict[str, Any]:
    operation: dict[str, Any] = {"operationId": _identifier(one), "summary": one.summary}
    if parameters := [*_path_parameters(one), *_query_parameters(one, schemas)]:
        operation["parameters"] = parameters
    if one.takes is not None:
        operation["requestBody"] = {"required": True, "content": _content("application/json", schemas.of(one.takes))}
    operation["responses"] = {str(one.status): _success(one, schemas)}
    operation["responses"] |= {str(status): _error(status, schemas) for status in _refusals(one)}
    return operation


def _identifier(one: Operation) -> str:
    """Return a name such as ``get_v1_models_model``."""
    words = re.findall(r"\w+", _PARAMETER.sub(r"\g<name>", one.path))
    return "_".join([one.method.lower(), *words])


def _path_parameters(one: Operation) -> list[dict[str, Any]]:
    names = [match["name"] for match in _PARAMETER.finditer(one.path)]
    schema = {"type": "string", "minLength": 1}
    return [{"name": name, "in": "path", "required": True, "schema": schema} for name in names]


def _query_parameters(one: Operation, schemas: _Schemas) -> list[dict[str, Any]]:
    return [
        {
            "name": parameter.name,
            "in": "query",
            "description": parameter.summary,
            "required": parameter.required,
            "schema": schemas.of(parameter.kind),
        }
        for parameter in one.query
    ]


def _success(one: Operation, schemas: _Schemas) -> dict[str, Any]:
    content: dict[str, Any] = {}
    if one.gives is not None:
        content |= _content("text/plain" if one.gives is str else "application/json", schemas.of(one.gives))
    if one.streams is None:
        return {"description": one.summary, **({"content": content} if content else {})}
    content |= _content("text/event-stream", _event(schemas.of(one.streams), schemas.of(ErrorBody)))
    description = f"{one.summary}. The schema of a stream is that of each of its events."
    return {"description": description, "content": content}


def _event(schema: Mapping[str, Any], error: Mapping[str, Any]) -> dict[str, Any]:
    """Return the schema of a server-sent event whose data is JSON, of an error too, or the end marker ``[DONE]``."""
    json = {"type": "string", "contentMediaType": "application/json", "contentSchema": {"anyOf": [schema, error]}}
    return {
        "type": "object",
        "properties": {"event": {"type": "string"}, "data": {"anyOf": [json, {"const": "[DONE]"}]}},
        "required": ["data"],
    }


def _error(status: int, schemas: _Schemas) -> dict[str, Any]:
    answer = {"description": HTTPStatus(status).phrase, "content": _content("application/json", schemas.of(ErrorBody))}
    if status not in _WAITS:
        return answer
    seconds = {"description": "Seconds after which to try again.", "schema": {"type": "integer", "minimum": 0}}
    return {**answer, "headers": {"Retry-After": seconds}}


def _content(media: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    return {media: {"schema": schema}}


def _refusals(one: Operation) -> list[int]:
    """Return the statuses of the errors that an operation may answer with."""
    found = {*_ALWAYS, *one.refuses}
    if one.takes is not None:
        found.update(_OF_A_BODY)
        found.update(_OF_A_MODEL if _names_a_model(one.takes) else ())
    if "{" in one.path:
        found.update(_OF_A_NAME)
    if one.query:
        found.add(400)
    return sorted(found)


def _names_a_model(kind: Any) -> bool:
    """Return whether a body has the field ``model``; the types that have it run that model."""
    return isinstance(kind, type) and "model" in get_type_hints(kind)


def _pretty(components: Iterable[str]) -> dict[str, str]:
    """Return a short public name for each component; where two would be equal, their modules are part of it."""
    plain = {name: name.rpartition(".")[-1].lstrip("_") for name in components}
    often = Counter(plain.values())
    return {name: short if often[short] == 1 else _qualified(name) for name, short in plain.items()}


def _qualified(name: str) -> str:
    words = [word for word in re.split(r"[._]", name) if word]
    return "".join(word[0].upper() + word[1:] for word in words[-3:])


def _renamed(schema: Any, names: Mapping[str, str]) -> Any:
    """Return a schema whose references have other names."""
    match schema:
        case {"$ref": str(target), **rest} if target.startswith(_REF):
            return {"$ref": _REF + names[target.removeprefix(_REF)], **_renamed(rest, names)}
        case {"propertyName": _, "mapping": dict(mapping)}:
            return {**schema, "mapping": {tag: _REF + names[one.removeprefix(_REF)] for tag, one in mapping.items()}}
        case dict():
            return {key: _renamed(value, names) for key, value in schema.items()}
        case list():
            return [_renamed(value, names) for value in schema]
    return schema


_TYPES = {str: "string", bool: "boolean", int: "integer"}


def _plain(schema: Any) -> Any:
    """Return a schema that means the same, as generators of clients read it.

    They take a field with a default, ``null`` too, for one that is always there, and want to know the type of a choice
    and of an element.
    """
    match schema:
        case list():
            return [_plain(value) for value in schema]
        case dict():
            found = {key: _plain(value) for key, value in schema.items() if (key, value) != ("default", None)}
            return {**_completed(found), **found}
    return schema


def _completed(schema: Mapping[str, Any]) -> dict[str, Any]:
    match schema:
        case {"enum": list(choices)} if len(kinds := {type(choice) for choice in choices}) == 1:
            return {"type": _TYPES[kinds.pop()]}
        case {"type": "array"} if not {"items", "prefixItems"} & set(schema):
            return {"items": {}}
    return {}
