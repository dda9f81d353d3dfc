"""JSON Schema checks: what cannot be enforced token by token is refused by name and path, never ignored.

The compiler itself refuses most of it. But it passes over keywords that only other drafts know, cannot count names
that may repeat, and where an automaton grows with a divisor, or doubles with each pattern that a string must match as
well, it has no limit of its own. Those are caught here.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal
from typing import Any
from urllib.parse import unquote

import msgspec

from foundry_lite.errors import InvalidRequest

_UNENFORCED = frozenset(
    {
        *("not", "if", "then", "else", "dependencies", "dependentRequired", "dependentSchemas", "propertyNames"),
        *("contains", "minContains", "maxContains", "uniqueItems", "unevaluatedItems", "unevaluatedProperties"),
        *("$dynamicRef", "$recursiveRef", "extends", "disallow", "divisibleBy", "x-guidance"),
    }
)
_HOLDS_ONE = ("items", "additionalItems", "additionalProperties")
_HOLDS_MANY = ("allOf", "anyOf", "oneOf", "prefixItems", "items")
_HOLDS_NAMED = ("properties", "patternProperties", "$defs", "definitions")
_COUNTS = frozenset({"minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties"})

_DEPTH = 64  # schemas within schemas
_PATTERNS = 64  # patternProperties are compared in pairs: 0.2 s for 60, 100 s for 550 (measured)
_AT_ONCE = 8  # patterns of one string: 16 took 0.9 s, 20 more than 30 s and a gigabyte (measured)
_NAMED_SIZE = 16 << 10  # characters that a schema may grow by when names become properties
_DIVISOR = 100_000  # 0.35 s and 25 MB to compile; 1,234,567 took 15 s and 800 MB (measured, llguidance 1.9.1)


def read_schema(text: str, param: str) -> str:
    """Check a schema, and return it as the compiler is to read it. Raises `InvalidRequest`."""
    try:
        schema = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        raise _refusal(f"the schema is not JSON: {error}", param) from error
    if schema is False:
        raise _refusal("the schema is false: nothing can ever satisfy it", param)
    check_schema(schema, param)
    plain = in_plain_words(schema)
    if plain is True:
        return "{}"
    return json.dumps(plain, ensure_ascii=False)


def check_schema(schema: Any, param: str) -> None:
    """Raise `InvalidRequest` for what cannot be enforced, naming the keyword and its path."""
    divisor, patterns = 1, 0
    walked = list(walk(schema, param))
    for place, node in walked:
        for keyword in node:
            if keyword in _UNENFORCED and not _says_nothing(keyword, node[keyword]) and not _is_listed(keyword, node):
                raise _refusal(f"{_quoted(keyword)} cannot be enforced{_at(place)}", param)
        if node.get("nullable", False) is not False and not (node["nullable"] is True and "type" in node):
            raise _refusal(f'"nullable" says something only of a "type" beside it{_at(place)}', param)
        _check_names(place, node, param)
        divisor = math.lcm(divisor, _divisor(node.get("multipleOf")))
        if divisor > _DIVISOR:
            raise _refusal(f'"multipleOf" is too large to be enforced{_at(place)}', param)
        patterns += len(_named(node, "patternProperties"))
        if patterns > _PATTERNS:
            raise _refusal(f'more than {_PATTERNS} "patternProperties" cannot be enforced{_at(place)}', param)
    _check_references(schema, walked, param)
    _check_patterns(schema, param)


def check_embedded(lark: str, param: str) -> None:
    """Check the schemas that a Lark grammar embeds with ``%json``; what is no JSON is left to the compiler."""
    decoder = json.JSONDecoder()
    for match in re.finditer(r"%json\s*(?=\{)", lark):
        try:
            schema, _ = decoder.raw_decode(lark, match.end())
        except (ValueError, RecursionError):
            continue
        check_schema(schema, param)
        if in_plain_words(schema) != schema:
            raise _refusal('"propertyNames" and "nullable" cannot be enforced in "%json"', param)


def in_plain_words(schema: Any) -> Any:
    """Return a checked schema in the words that the compiler knows, in which 2.0 is no count.

    OpenAPI 3.0's ``nullable`` is one more ``type``, null; ``propertyNames`` that any name fits are left out, and those
    that list the names (pydantic's ``dict[Literal[…], …]``, zod's records) become ``properties``.
    """
    if not isinstance(schema, dict):
        return schema
    said = {keyword: value for keyword, value in schema.items() if not _says_nothing(keyword, value)}
    said.pop("nullable", None)
    said |= {keyword: int(said[keyword]) for keyword in _COUNTS & said.keys() if _is_whole(said[keyword])}
    plain = change_within(said, in_plain_words)
    if schema.get("nullable"):
        kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
        plain["type"] = kinds if "null" in kinds else [*kinds, "null"]
    return _with_names(plain) if "propertyNames" in plain else plain


def _with_names(plain: dict[str, Any]) -> dict[str, Any]:
    """Return an object's schema with the names that it may have as ``properties``."""
    others, known = plain.get("additionalProperties", True), _named(plain, "properties")
    named = {name: known.get(name, others) for name in plain["propertyNames"]["enum"]}
    rest = {keyword: value for keyword, value in plain.items() if keyword != "propertyNames"}
    allowed = {name: schema for name, schema in named.items() if schema is not False}
    return {**rest, "properties": allowed, "additionalProperties": False}


def _is_listed(keyword: str, node: dict[str, Any]) -> bool:
    """Return whether a ``propertyNames`` lists the names that an object may have, to write as ``properties``."""
    names = node[keyword].get("enum") if keyword == "propertyNames" and isinstance(node[keyword], dict) else None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return False
    has_others = "patternProperties" in node or not set(node[keyword]) <= {"enum", "type", "title", "description"}
    size = len(json.dumps(node.get("additionalProperties", True)))
    return not has_others and len(names) * size <= _NAMED_SIZE


def _says_nothing(keyword: str, value: Any) -> bool:
    """Return whether a keyword demands nothing: zod 4 writes for every ``z.record`` that its names are strings."""
    if keyword == "uniqueItems":
        return value is False
    return keyword == "propertyNames" and (value is True or value in ({}, {"type": "string"}))


def _is_whole(value: Any) -> bool:
    return isinstance(value, float) and value.is_integer()


def change_within(schema: dict[str, Any], change: Callable[[Any], Any]) -> dict[str, Any]:
    """Return a schema in which each part that is a schema itself is changed."""
    return {keyword: _changed(keyword, value, change) for keyword, value in schema.items()}


def _changed(keyword: str, value: Any, change: Callable[[Any], Any]) -> Any:
    if keyword in _HOLDS_NAMED and isinstance(value, dict):
        return {name: change(inner) for name, inner in value.items()}
    if keyword in _HOLDS_MANY and isinstance(value, list):
        return list(map(change, value))
    return change(value) if keyword in _HOLDS_ONE else value


def walk(schema: Any, param: str, place: str = "", depth: int = 0) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield a schema and all within it, each with its path. Raises `InvalidRequest`, where it is none or too deep."""
    if isinstance(schema, bool):
        return
    if not isinstance(schema, dict):
        raise _refusal(f"a schema is an object, or true or false{_at(place)}", param)
    if depth > _DEPTH:
        raise _refusal(f"the schema is nested more than {_DEPTH} deep", param)
    yield place, schema
    for step, inner in inner_schemas(schema):
        yield from walk(inner, param, f"{place}.{step}" if place else step, depth + 1)


def inner_schemas(schema: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the schemas right within one, each with the step that leads to it."""
    for keyword in _HOLDS_ONE:
        if keyword in schema and not isinstance(schema[keyword], list):
            yield keyword, schema[keyword]
    for keyword in _HOLDS_MANY:
        yield from ((f"{keyword}[{index}]", inner) for index, inner in enumerate(_listed(schema, keyword)))
    for keyword in _HOLDS_NAMED:
        yield from ((f"{keyword}.{name}", inner) for name, inner in _named(schema, keyword).items())


def _listed(schema: dict[str, Any], keyword: str) -> list[Any]:
    value = schema.get(keyword)
    return value if isinstance(value, list) else []


def _named(schema: dict[str, Any], keyword: str) -> dict[str, Any]:
    value = schema.get(keyword)
    return value if isinstance(value, dict) else {}


def _check_references(schema: Any, walked: list[tuple[str, dict[str, Any]]], param: str) -> None:
    """Refuse a ``$ref`` into a part that `walk` does not visit: its keywords were never checked."""
    looked_at = {id(node) for _, node in walked}
    for place, node in walked:
        target = resolve(schema, node["$ref"]) if isinstance(node.get("$ref"), str) else None
        if isinstance(target, dict) and id(target) not in looked_at:
            raise _refusal(f'"$ref" must lead into "$defs" or "properties"{_at(place)}', param)


def _check_names(place: str, node: dict[str, Any], param: str) -> None:
    """Refuse a ``minProperties`` that an undeclared name said twice could meet: readers count it once."""
    least, required = node.get("minProperties"), node.get("required")
    named = len(required) if isinstance(required, list) else 0
    if isinstance(least, int | float) and least > max(1, named):
        reason = '"minProperties" above 1 and above the number of "required" names cannot be enforced'
        raise _refusal(reason + _at(place), param)


def _check_patterns(schema: Any, param: str) -> None:
    try:
        patterns = _Patterns(schema).of(schema)
    except RecursionError as error:
        raise _refusal("the schema refers to parts of itself in too long a chain", param) from error
    if patterns > _AT_ONCE:
        reason = f'more than {_AT_ONCE} "pattern" and "format" of one string cannot be enforced together'
        raise _refusal(reason, param)


class _Patterns:
    """Counts, from above, how many patterns ``allOf``, ``$ref`` and the like may join on one string of an answer."""

    def __init__(self, root: Any) -> None:
        self._root = root
        self._known: dict[str, int] = {}

    def of(self, schema: Any) -> int:
        """Return the count for a schema and all within it."""
        if not isinstance(schema, dict):
            return 0
        here = ("pattern" in schema) + ("format" in schema)
        within = sum(self.of(schema.get(keyword)) for keyword in _HOLDS_ONE)
        within += sum(self._worst(_named(schema, keyword).values()) for keyword in ("properties", "patternProperties"))
        within += sum(self._worst(_listed(schema, keyword)) for keyword in ("items", "prefixItems"))
        joined = sum(self._worst(_listed(schema, keyword)) for keyword in ("anyOf", "oneOf"))
        joined += sum(map(self.of, _listed(schema, "allOf")))
        return max(here, within) + joined + self._referred(schema.get("$ref"))

    def _worst(self, alternatives: Iterable[Any]) -> int:
        return max(map(self.of, alternatives), default=0)

    def _referred(self, reference: Any) -> int:
        if not isinstance(reference, str):
            return 0
        if reference not in self._known:
            self._known[reference] = 0  # a circular reference joins nothing
            self._known[reference] = self.of(resolve(self._root, reference))
        return self._known[reference]


def resolve(root: Any, reference: str) -> Any:
    """Follow a JSON pointer into the schema; what is named in another way may be all of it."""
    if not reference.startswith("#/"):
        return root
    found = root
    for step in reference[2:].split("/"):
        name = unquote(step).replace("~1", "/").replace("~0", "~")
        if isinstance(found, list):
            found = dict(zip(map(str, range(len(found))), found, strict=True))
        found = found.get(name) if isinstance(found, dict) else None
    return found


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
