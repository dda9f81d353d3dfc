"""Parameter types that a tool's schema declares, as far as reading a call with arguments in plain text needs them."""

from __future__ import annotations

from typing import Any

from foundry_lite.engine.grammar.json_schema import resolve

TEXT = frozenset({"string"})
_DEPTH = 16  # references and alternatives within each other
_OF_PYTHON = {str: "string", bool: "boolean", int: "integer", float: "number", type(None): "null", list: "array"}
_BEGINNINGS = {'"': "string", "{": "object", "[": "array", "t": "boolean", "f": "boolean", "n": "null"}


def kinds_of(schema: Any, parameter: str) -> frozenset[str]:
    """Return JSON Schema's names of the types that ``parameter`` may have; none where the schema declares none."""
    properties = schema.get("properties") if isinstance(schema, dict) else None
    declared = properties.get(parameter) if isinstance(properties, dict) else None
    return _Kinds(schema).of(declared, 0) or frozenset()


def is_of(kinds: frozenset[str], value: str) -> bool:
    """Return whether a value, as JSON text, is of one of the types."""
    kind = _BEGINNINGS.get(value[:1])
    return kind in kinds if kind else not kinds.isdisjoint({"number", "integer"})


class _Kinds:
    """Reads the types that one schema declares; each ``$ref`` is followed once, however often it occurs."""

    def __init__(self, whole: Any) -> None:
        self._whole = whole
        self._known: dict[str, frozenset[str] | None] = {}

    def of(self, node: Any, depth: int) -> frozenset[str] | None:
        """Return the types that a part of the schema allows; ``None`` for any."""
        if not isinstance(node, dict) or depth > _DEPTH:
            return None
        if "$ref" in node:
            return self._referred(node["$ref"], depth)
        null = frozenset({"null"}) if node.get("nullable") is True else frozenset[str]()
        if "type" in node:
            said = node["type"]
            return null | frozenset(one for one in (said if isinstance(said, list) else [said]) if isinstance(one, str))
        values = node["enum"] if isinstance(node.get("enum"), list) else [node["const"]] if "const" in node else []
        if values:
            return null | frozenset(_OF_PYTHON.get(type(value), "object") for value in values)
        if isinstance(node.get("allOf"), list):
            known = [kinds for one in node["allOf"] if (kinds := self.of(one, depth + 1)) is not None]
            return null | frozenset.intersection(*known) if known else None
        branches = [self.of(one, depth + 1) for one in _alternatives(node)]
        if not branches or None in branches:
            return None
        return null.union(*(one for one in branches if one is not None))

    def _referred(self, reference: Any, depth: int) -> frozenset[str] | None:
        if not isinstance(reference, str) or not reference.startswith("#/"):
            return None
        if reference not in self._known:
            self._known[reference] = None  # a circular reference declares nothing
            self._known[reference] = self.of(resolve(self._whole, reference), depth + 1)
        return self._known[reference]


def _alternatives(node: dict[str, Any]) -> list[Any]:
    found = node.get("anyOf", node.get("oneOf"))
    return found if isinstance(found, list) else []
