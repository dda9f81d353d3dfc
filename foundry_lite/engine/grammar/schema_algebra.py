"""JSON Schema algebra: the keywords that demand something, their values, and schemas joined or compared."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence, Set
from typing import Any

NUMBERS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")
STRINGS = ("minLength", "maxLength", "pattern", "format")
HOLDING = ("$ref", "allOf", "anyOf", "oneOf")
LEFT = frozenset({"patternProperties", "additionalItems"})
_LISTS = ("items", "prefixItems", "minItems", "maxItems")
_OBJECTS = ("properties", "required", "additionalProperties", "minProperties", "maxProperties")
_SAYING = frozenset({*HOLDING, "enum", "const", *NUMBERS, *STRINGS, *_LISTS, *_OBJECTS, *LEFT})  # all but ``type``

# Keywords that look at others of the same schema.
_READ_TOGETHER = {
    "additionalProperties": frozenset({"properties", "patternProperties", "additionalProperties"}),
    "prefixItems": frozenset({"items", "prefixItems"}),
}
_BOUNDS: dict[str, Callable[[Any, Any], Any]] = {
    **dict.fromkeys(("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties"), max),
    **dict.fromkeys(("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties"), min),
}
_MOST = 1_000_000  # of what a schema may count
KINDS = ("null", "boolean", "number", "string", "array", "object")


class Unwritable(Exception):
    """A schema keyword that an argument syntax cannot enforce; the message names the keyword and its path."""


class NothingFits(Unwritable):
    """A schema that no value fits."""

    def __init__(self, place: str) -> None:
        super().__init__(f"nothing can ever satisfy it{at(place)}")


def said(schema: dict[str, Any]) -> frozenset[str]:
    """Return the keywords of a schema that demand something, but for ``type``."""
    return _SAYING & schema.keys()


def join(parts: list[Any], place: str) -> dict[str, Any]:
    """Return one schema that demands what all of them do. Raises `Unwritable` where that cannot be said at once.

    Only ``parts[0]`` may contain ``anyOf``, ``oneOf``, ``allOf`` or ``$ref``. This bounds the recursion even for
    circular references.
    """
    joined: dict[str, Any] = {}
    parts = [{} if part is True else part for part in parts]
    for part in parts:
        if part is False:
            raise NothingFits(place)
        if part is not parts[0] and not part.keys().isdisjoint(HOLDING):
            raise Unwritable(f'"{min(part.keys() & set(HOLDING))}" cannot be joined to others{at(place)}')
        for keyword in sorted((said(part) | {"type"}) & part.keys()):
            known = joined.get(keyword, part[keyword])
            joined[keyword] = _both(keyword, known, part[keyword], place) if keyword in joined else known
    for keyword, siblings in _READ_TOGETHER.items():
        if keyword in joined and sum(bool(siblings & part.keys()) for part in parts) > 1:
            raise Unwritable(f'"{keyword}" beside others cannot be enforced{at(place)}')
    return joined


def _both(keyword: str, one: Any, other: Any, place: str) -> Any:
    if keyword == "required":
        return [*one, *other]
    if keyword == "properties" and one.keys().isdisjoint(other):
        return one | other
    if keyword == "type":
        kinds = types_of({"type": one}) & types_of({"type": other})
        if kinds:
            return sorted(kinds)
        raise NothingFits(place)
    if keyword in _BOUNDS:
        return _BOUNDS[keyword](one, other)
    if one != other:
        raise Unwritable(f'"{keyword}" said twice cannot be enforced{at(place)}')
    return one


def are_apart(branches: list[Any]) -> bool:
    """Return whether no value fits two of the branches.

    They list their values, or differ in type, or are objects that differ in a constant that all of them must have. Not
    compared in pairs, which would take many seconds for some thousand branches.
    """
    if not all(isinstance(one, dict) for one in branches):
        return False
    lists = [values for one in branches if (values := values_of(one)) is not None]
    open_ones = [one for one in branches if values_of(one) is None]
    objects = [one for one in open_ones if types_of(one) == {"object"}]
    kinds = [types_of(one) for one in open_ones if types_of(one) != {"object"}]
    listed_kinds = set().union(*(kinds_of(value) for values in lists for value in values))
    return (
        _are_disjoint([set(map(exact, values)) for values in lists])
        and _are_disjoint([*kinds, listed_kinds, {"object"} if objects else set()])
        and (len(objects) < 2 or _are_told_apart(objects))
    )


def _are_told_apart(objects: list[dict[str, Any]]) -> bool:
    names = set.intersection(*(set(one.get("required", ())) for one in objects))
    return any(_tells_apart(name, objects) for name in names)


def _tells_apart(name: str, objects: list[dict[str, Any]]) -> bool:
    """Return whether all list the values of a property, and none is listed twice."""
    properties = [one.get("properties", {}).get(name) for one in objects]
    values = [values_of(one) if isinstance(one, dict) else None for one in properties]
    constants = [set(map(exact, one)) for one in values if one is not None]
    return len(constants) == len(objects) and _are_disjoint(constants)


def _are_disjoint(sets: Sequence[Set[str]]) -> bool:
    return sum(map(len, sets)) == len(set().union(*sets))


def values_of(schema: dict[str, Any]) -> list[Any] | None:
    """Return the values that a schema lists, of those types that it allows; ``None`` if it lists none."""
    if schema.keys().isdisjoint(("enum", "const")):
        return None
    values = schema.get("enum", [schema.get("const")])
    if "const" in schema:
        values = [one for one in values if exact(one) == exact(schema["const"])]
    return [one for one in values if kinds_of(one) & types_of(schema)]


def exact(value: Any) -> str:
    """Return a value as a string that no other value has: 1 and 1.0 are one number, and members have no order."""
    return json.dumps(_whole(value), sort_keys=True)


def _whole(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _whole(one) for name, one in value.items()}
    if isinstance(value, list):
        return list(map(_whole, value))
    return int(value) if isinstance(value, float) and value.is_integer() else value


def types_of(schema: dict[str, Any]) -> set[str]:
    """Return the types that a schema allows; every integer is a number too."""
    kinds = set(listed(schema.get("type", KINDS)))
    return kinds | {"integer"} if "number" in kinds else kinds


def listed(kinds: Any) -> list[str]:
    """Return what ``type`` names."""
    return [kinds] if isinstance(kinds, str) else list(dict.fromkeys(kinds))


def count(schema: dict[str, Any], keyword: str, place: str) -> int | None:
    """Return a least or most number of something. Raises `Unwritable` where it is too large to count to."""
    value = schema.get(keyword)
    if value is not None and value >= _MOST:
        raise Unwritable(f'"{keyword}" of {_MOST} or more cannot be enforced{at(place)}')
    return None if value is None else int(value)


def kinds_of(value: Any) -> set[str]:
    """Return the types that a value has."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        if not _is_number(value):
            return set()  # JSON has no word for it
        return {"number", "integer"} if isinstance(value, int) or value.is_integer() else {"number"}
    kinds = {type(None): "null", bool: "boolean", str: "string", list: "array", dict: "object"}
    return {kinds[type(value)]}


def check_forms(schema: dict[str, Any], place: str) -> None:
    """Raise `Unwritable` for a keyword whose value is none that it can have."""
    for form, keywords in _FORMS:
        for keyword in keywords & schema.keys():
            if not form(schema[keyword]):
                raise Unwritable(f'"{keyword}" has no valid value{at(place)}')


def _is_number(value: Any) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, int) and not isinstance(value, bool)


def _is_count(value: Any) -> bool:
    return _is_number(value) and value >= 0 and value == int(value)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


def _is_type(value: Any) -> bool:
    return _is_text(value) or (bool(value) and _are_texts(value))


def _is_filled(value: Any) -> bool:
    return isinstance(value, list) and bool(value)


_FORMS: tuple[tuple[Callable[[Any], bool], frozenset[str]], ...] = (
    (_is_type, frozenset({"type"})),
    (_is_text, frozenset({"$ref", "pattern", "format"})),
    (_are_texts, frozenset({"required"})),
    (_is_filled, frozenset({"enum", "anyOf", "allOf", "oneOf"})),
    (_is_number, frozenset(NUMBERS)),
    (_is_count, frozenset({"minItems", "maxItems", "minLength", "maxLength"})),
    (_is_count, frozenset({"minProperties", "maxProperties"})),
    (lambda value: isinstance(value, list), frozenset({"prefixItems"})),
    (lambda value: isinstance(value, dict | bool | list), frozenset({"items"})),
    (lambda value: isinstance(value, dict | bool), frozenset({"additionalProperties"})),
    (lambda value: isinstance(value, dict), frozenset({"properties"})),
)


def within(place: str, step: str) -> str:
    """Return the path of what a schema holds."""
    return f"{place}.{step}" if place else step


def at(place: str) -> str:
    """Return the path in a schema, as messages end."""
    return f" (at {place[:100]})" if place else ""
