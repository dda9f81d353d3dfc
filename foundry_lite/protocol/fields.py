"""Reading a JSON body into typed values, with errors that name the field as the caller wrote it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from foundry_lite.errors import InvalidRequest

T = TypeVar("T")

_AT = re.compile(r" - at `\$\.?(?P<path>[^`]*)`$")
_UNKNOWN = re.compile(r"^Object contains unknown field `(?P<field>[^`]*)`")
_MISSING = re.compile(r"^Object missing required field `(?P<field>[^`]*)`")


def decode_object(body: bytes) -> dict[str, Any]:
    """Decode a JSON object. Raises `InvalidRequest` that says where the JSON is malformed."""
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"the body is not valid JSON: {error}", code="invalid_json") from error
    if not isinstance(value, dict):
        raise InvalidRequest(f"the body must be a JSON object, not {type(value).__name__}", code="invalid_json")
    return value


def convert(value: Mapping[str, Any], kind: type[T], *, known_unsupported: frozenset[str] = frozenset()) -> T:
    """Convert a decoded body to ``kind``. Raises `InvalidRequest` with the path of the first wrong field."""
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise _explain(str(error), known_unsupported) from error


def _explain(text: str, known_unsupported: frozenset[str]) -> InvalidRequest:
    at = _AT.search(text)
    path = at["path"].partition("[...]")[0] if at else ""  # which key of an object of any keys, msgspec does not say
    text = _AT.sub("", text)
    if unknown := _UNKNOWN.match(text):
        field = _join(path, unknown["field"])
        if field in known_unsupported:
            return InvalidRequest(f"'{field}' is not supported by foundry-lite yet", field, "unsupported_parameter")
        return InvalidRequest(f"unknown field '{field}'", field, "unknown_parameter")
    if missing := _MISSING.match(text):
        field = _join(path, missing["field"])
        return InvalidRequest(f"'{field}' is required", field, "missing_required_parameter")
    return InvalidRequest(f"'{path}': {text[:1].lower()}{text[1:]}", path or None, "invalid_value")


def _join(path: str, field: str) -> str:
    return f"{path}.{field}" if path else field
