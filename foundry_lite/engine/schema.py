"""What of a JSON Schema can be enforced token by token; the rest is refused by name and place, never ignored.

The compiler itself refuses most of it, but passes over keywords that only other drafts know, cannot count names that
may repeat, and builds an automaton with as many states as a divisor is large. Those are caught here.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import msgspec

from foundry_lite.errors import InvalidRequest

_UNENFORCED = frozenset(
    {
        *("not", "if", "then", "else", "dependencies", "dependentRequired", "dependentSchemas", "propertyNames"),
        *("contains", "minContains", "maxContains", "uniqueItems", "unevaluatedItems", "unevaluatedProperties"),
        *("$dynamicRef", "$recursiveRef", "extends", "disallow", "divisibleBy", "nullable", "x-guidance"),
    }
)
_HOLDS_ONE = ("items", "additionalItems", "additionalProperties")
_HOLDS_MANY = ("allOf", "anyOf", "oneOf", "prefixItems", "items")
_HOLDS_NAMED = ("properties", "patternProperties", "$defs", "definitions")

_DEPTH = 64  # schemas within schemas
_DIVISOR = 100_000  # 0.35 s and 25 MB to compile; 1,234,567 took 15 s and 800 MB (measured, llguidance 1.9.1)


def read_schema(text: str, param: str) -> Any:
    """Decode a schema and check it. Raises `InvalidRequest`."""
    try:
        schema = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        raise _refusal(f"the schema is not JSON: {error}", param) from error
    if schema is True:
        schema = {}
    check_schema(schema, param)
    return schema


def check_schema(schema: Any, param: str) -> None:
    """Raise `InvalidRequest` for what cannot be enforced, naming the keyword and its place."""
    divisor = 1
    for place, node in _walk(schema, "", 0, param):
        for keyword in node:
            if keyword in _UNENFORCED:
                raise _refusal(f"{_quoted(keyword)} cannot be enforced{_at(place)}", param)
        _check_names(place, node, param)
        divisor = math.lcm(divisor, _divisor(node.get("multipleOf")))
        if divisor > _DIVISOR:
            raise _refusal(f'"multipleOf" is too large to be enforced{_at(place)}', param)


def check_embedded(lark: str, param: str) -> None:
    """Check the schemas that a Lark grammar embeds with ``%json``; what is no JSON is left to the compiler."""
    decoder = json.JSONDecoder()
    for match in re.finditer(r"%json\s*(?=\{)", lark):
        try:
            schema, _ = decoder.raw_decode(lark, match.end())
        except (ValueError, RecursionError):
            continue
        check_schema(schema, param)


def _walk(schema: Any, place: str, depth: int, param: str) -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(schema, bool):
        return
    if not isinstance(schema, dict):
        raise _refusal(f"a schema is an object, or true or false{_at(place)}", param)
    if depth > _DEPTH:
        raise _refusal(f"the schema is nested more than {_DEPTH} deep", param)
    yield place, schema
    for step, inner in _inner(schema):
        yield from _walk(inner, f"{place}.{step}" if place else step, depth + 1, param)


def _inner(schema: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for keyword in _HOLDS_ONE:
        if keyword in schema and not isinstance(schema[keyword], list):
            yield keyword, schema[keyword]
    for keyword in _HOLDS_MANY:
        if isinstance(schema.get(keyword), list):
            yield from ((f"{keyword}[{index}]", inner) for index, inner in enumerate(schema[keyword]))
    for keyword in _HOLDS_NAMED:
        if isinstance(schema.get(keyword), dict):
            yield from ((f"{keyword}.{name}", inner) for name, inner in schema[keyword].items())


def _check_names(place: str, node: dict[str, Any], param: str) -> None:
    """An answer may say a name twice that is not among ``properties``, and readers count it once."""
    least, required = node.get("minProperties"), node.get("required")
    named = len(required) if isinstance(required, list) else 0
    if isinstance(least, int) and least > max(1, named):
        reason = '"minProperties" above 1 and above the number of "required" names cannot be enforced'
        raise _refusal(reason + _at(place), param)


def _divisor(multiple: Any) -> int:
    """Return the number whose remainders must be told apart: powers of ten are only digits."""
    if isinstance(multiple, bool) or not isinstance(multiple, int | float) or not math.isfinite(multiple):
        return 1
    digits = Decimal(repr(multiple)).normalize().as_tuple().digits
    return int("".join(map(str, digits))) or 1


def _quoted(keyword: str) -> str:
    return f'"{keyword}"'


def _at(place: str) -> str:
    return f" (at {place[:100]})" if place else ""


def _refusal(message: str, param: str) -> InvalidRequest:
    return InvalidRequest(message, param, "invalid_grammar")
