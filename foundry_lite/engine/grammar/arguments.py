"""Arguments of calls in a syntax that is not JSON, as rules of a grammar that holds them to a tool's schema.

An argument syntax has its own brackets, keys, words and strings; numbers are JSON's in all of them. What stands between
the parts is fixed to the character, as templates write it.
"""

from __future__ import annotations

import contextlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Any

from foundry_lite.engine.grammar.json_schema import change_within, resolve, walk
from foundry_lite.engine.grammar.lark import Rules, literal
from foundry_lite.engine.grammar.rows import write_row, write_sequence
from foundry_lite.engine.grammar.schema_algebra import (
    HOLDING,
    KINDS,
    LEFT,
    NUMBERS,
    NothingFits,
    Unwritable,
    are_apart,
    at,
    check_forms,
    count,
    exact,
    join,
    listed,
    said,
    values_of,
    within,
)

_DEFINING = frozenset({"$defs", "definitions"})


class ArgumentSyntax(ABC):
    """Writes the arguments of one tool into ``rules``; ``root`` is their schema, checked and in plain words."""

    words = ("true", "false", "null")
    comma = ","
    separators = (",", ":")  # of what is left to JSON
    is_sorted = False  # whether names come in the order of the alphabet, not of the schema

    def __init__(self, root: dict[str, Any], rules: Rules) -> None:
        self._root = root
        self._rules = rules
        self._referred: dict[tuple[str, bool], str] = {}

    def arguments(self) -> str:
        """Return a symbol for what stands between the brackets of a call. Raises `Unwritable`."""
        for place, part in walk(self._root, "tools"):
            check_forms(part, place)
        return self._arguments(self._root, "")

    @abstractmethod
    def _key(self, name: str, place: str, *, is_call: bool) -> str:
        """Return symbols for a name and what divides it from its value; ``is_call`` for arguments themselves."""

    @abstractmethod
    def _other_key(self, names: Iterable[str], *, is_call: bool) -> str:
        """Return a symbol for any name but these."""

    @abstractmethod
    def _string(self, schema: dict[str, Any], place: str) -> str:
        """Return symbols for a string."""

    @abstractmethod
    def _texts(self, texts: list[str], place: str) -> str:
        """Return symbols for one of these strings."""

    @abstractmethod
    def _leave(self, schema: dict[str, Any], error: Unwritable) -> str:
        """Return symbols for a value that cannot be translated, or raise the error."""

    def _word(self, which: int) -> str:
        """Return symbols for a word: true, false or null."""
        return literal(self.words[which])

    def _held(self, name: str, schema: Any, place: str, *, is_call: bool) -> str:
        """Return a symbol for the value that has a name; no name is any other than those that are known."""
        return self._value(schema, place)

    def _alone(self, schema: dict[str, Any]) -> dict[str, Any]:
        """Return a part of the schema so that it can stand alone: with all that it refers to in its ``$defs``."""
        names: dict[str, str] = {}  # by the pointer in the whole schema
        needed: dict[str, Any] = {}

        def moved(part: Any) -> Any:
            if not isinstance(part, dict):
                return part
            said = change_within({word: value for word, value in part.items() if word not in _DEFINING}, moved)
            if "$ref" in said:
                said["$ref"] = f"#/$defs/{names.setdefault(part['$ref'], f'part_{len(names)}')}"
            return said

        alone: dict[str, Any] = moved(schema)
        while len(needed) < len(names):
            pointer, name = list(names.items())[len(needed)]
            needed[name] = moved(self._resolve(pointer))
        return alone | ({"$defs": needed} if needed else {})

    def _json(self, schema: dict[str, Any]) -> str:
        """Return a symbol for a value in JSON. Without white space of its own it can stand among alternatives."""
        comma, colon = self.separators
        options = {"whitespace_flexible": False, "item_separator": comma, "key_separator": colon}
        return f"%json {json.dumps({**schema, 'x-guidance': options}, ensure_ascii=False)}"

    def _value(self, schema: Any, place: str) -> str:
        """Return the name of a rule for a value."""
        if schema is False:
            raise NothingFits(place)
        if schema is True or not (said(schema) or "type" in schema):
            return self._any()
        try:
            return self._rules.add(self._write(schema, place))
        except NothingFits:
            raise
        except Unwritable as error:
            return self._rules.add(self._leave(schema, error))

    def _arguments(self, schema: Any, place: str) -> str:
        if schema is False:
            raise NothingFits(place)
        return self._rules.add(self._write({} if schema is True else schema, place, is_call=True))

    def _any(self) -> str:
        """Return the name of the rule for any value at all, which all tools share."""
        name = "any"
        if name not in self._rules:
            self._rules.give(name, "")  # reserve the name before the body: the rule is recursive
            self._rules.give(name, self._kinds({}, ""))
        return name

    def _write(self, schema: dict[str, Any], place: str, *, is_call: bool = False) -> str:
        """Return the alternatives of a value, or of the arguments of a call without their brackets."""
        values = values_of(schema)
        if values is not None:
            return self._one_of(values, schema, place, is_call=is_call)
        holding = next((keyword for keyword in HOLDING if keyword in schema), None)
        if holding is None:
            return self._kinds(schema, place, is_call=is_call)
        rest = {word: value for word, value in schema.items() if word != holding}
        says_more = bool(said(rest)) or ("type" in rest and not is_call)
        if says_more or len(schema["allOf"] if holding == "allOf" else ()) > 1:
            return self._joined(holding, schema[holding], rest, place, is_call=is_call)
        if holding == "$ref":
            return self._reference(schema["$ref"], is_call=is_call)
        self._check_apart(holding, list(map(self._followed, schema[holding])), place)
        write = self._arguments if is_call else self._value
        return self._either(holding, schema[holding], place, write)

    def _joined(self, holding: str, value: Any, rest: dict[str, Any], place: str, *, is_call: bool) -> str:
        """Return a schema that says more beside its branches as alternatives that say all of it at once."""
        branches = list(map(self._followed, [{"$ref": value}] if holding == "$ref" else value))
        if holding in ("$ref", "allOf"):
            return self._write(join([rest, *branches], place), place, is_call=is_call)
        self._check_apart(holding, branches, place)

        def write(branch: Any, place: str) -> str:
            return self._rules.add(self._write(join([rest, branch], place), place, is_call=is_call))

        return self._either(holding, branches, place, write)

    @staticmethod
    def _either(holding: str, branches: list[Any], place: str, write: Callable[[Any, str], str]) -> str:
        """Return the branches as alternatives, without those that nothing fits."""
        written = []
        for index, branch in enumerate(branches):
            with contextlib.suppress(NothingFits):
                written.append(write(branch, within(place, f"{holding}[{index}]")))
        if not written:
            raise NothingFits(place)
        return " | ".join(written)

    @staticmethod
    def _check_apart(holding: str, branches: list[Any], place: str) -> None:
        if holding == "oneOf" and not are_apart(branches):
            raise Unwritable(f'"oneOf" with branches that may both fit cannot be enforced{at(place)}')

    def _followed(self, schema: Any) -> Any:
        """Return what a schema refers to, if it does no more."""
        if not isinstance(schema, dict) or said(schema) != {"$ref"} or "type" in schema:
            return schema
        return self._resolve(schema["$ref"])

    def _reference(self, pointer: str, *, is_call: bool) -> str:
        known = self._referred.get((pointer, is_call))
        if known is not None:
            return known
        schema, place = self._resolve(pointer), pointer.removeprefix("#/").replace("/", ".")
        self._referred[pointer, is_call] = name = self._rules.reserve()
        try:
            body = self._arguments(schema, place) if is_call else self._value(schema, place)
        except NothingFits:
            del self._referred[pointer, is_call]
            self._rules.give(name, '""')  # which nothing refers to
            raise
        self._rules.give(name, body)
        return name

    def _resolve(self, pointer: Any) -> Any:
        known = isinstance(pointer, str) and (pointer == "#" or pointer.startswith("#/"))
        schema = resolve(self._root, pointer) if known else None
        if not isinstance(schema, dict | bool):
            raise Unwritable(f'"$ref" {json.dumps(pointer)[:100]} leads nowhere')
        return schema

    def _one_of(self, values: list[Any], schema: dict[str, Any], place: str, *, is_call: bool) -> str:
        keyword, more = "enum" if "enum" in schema else "const", said(schema) - {"enum", "const"}
        if is_call or more:
            beside = f' beside "{min(more)}"' if more else ""
            raise Unwritable(f'"{keyword}"{beside} cannot be enforced{at(place)}')
        if not values:
            raise NothingFits(place)
        texts = [value for value in values if isinstance(value, str)]
        lists = [self._constant(value, place) for value in values if isinstance(value, list | dict)]
        others = [self._constant(value, place) for value in values if not isinstance(value, str | list | dict)]
        if others:
            lists.append(self._rules.add_terminal(" | ".join(others)))  # one lexeme: a row of the parser has its limits
        return " | ".join([*([self._texts(texts, place)] if texts else []), *lists])

    def _constant(self, value: Any, place: str) -> str:
        """Return symbols for exactly this value."""
        comma = f" {literal(self.comma)} "
        if isinstance(value, str):
            return self._texts([value], place)
        if isinstance(value, list):
            return f'"[" {comma.join(self._constant(item, place) for item in value)} "]"'
        if isinstance(value, dict):
            members = [
                f"{self._key(key, place, is_call=False)} {self._constant(one, place)}"
                for key, one in self._ordered(value).items()
            ]
            return f'"{{" {comma.join(members)} "}}"'
        if value is None or isinstance(value, bool):
            return self._word(2 if value is None else not value)
        return literal(exact(value))

    def _kinds(self, schema: dict[str, Any], place: str, *, is_call: bool = False) -> str:
        left = said(schema) & LEFT
        if left:
            raise Unwritable(f'"{min(left)}" cannot be enforced{at(place)}')
        kinds = listed(schema.get("type", KINDS))
        if is_call:
            if "object" not in kinds:
                raise NothingFits(place)
            return self._members(schema, place, is_call=True)
        kinds = [kind for kind in kinds if kind != "integer" or "number" not in kinds]
        return " | ".join(self._kind(kind, schema, place) for kind in kinds)

    def _kind(self, kind: str, schema: dict[str, Any], place: str) -> str:
        match kind:
            case "null":
                return self._word(2)
            case "boolean":
                return f"{self._word(0)} | {self._word(1)}"
            case "number" | "integer":
                return self._json({"type": kind, **{word: schema[word] for word in NUMBERS if word in schema}})
            case "string":
                return self._string(schema, place)
            case "array":
                return f'"[" {self._items(schema, place)} "]"'
            case "object":
                return f'"{{" {self._rules.add(self._members(schema, place))} "}}"'
        raise Unwritable(f'"type" cannot be {json.dumps(kind)[:40]}{at(place)}')

    def _members(self, schema: dict[str, Any], place: str, *, is_call: bool = False) -> str:
        """Return what stands between the brackets of an object: properties in their order, then what else may be."""
        required, others = dict.fromkeys(schema.get("required", ())), schema.get("additionalProperties", True)
        properties = schema.get("properties", {})
        properties = self._ordered(properties | {name: others for name in required if name not in properties})
        members = []
        for name, inner in properties.items():
            with contextlib.suppress(*([] if name in required else [NothingFits])):
                value = self._held(name, inner, within(place, f"properties.{name}"), is_call=is_call)
                members.append((f"{self._key(name, place, is_call=is_call)} {value}", name in required))
        more = None
        with contextlib.suppress(NothingFits):
            value = self._held("", others, within(place, "additionalProperties"), is_call=is_call)
            more = f"{self._other_key(properties, is_call=is_call)} {value}"
        return self._counted(schema, members, more, place)

    def _counted(self, schema: dict[str, Any], members: list[tuple[str, bool]], more: str | None, place: str) -> str:
        """Return as many members as a schema wants."""
        low, high = count(schema, "minProperties", place) or 0, count(schema, "maxProperties", place)
        least = max(low, sum(must for _, must in members))
        if (high is not None and high < least) or (more is None and low > len(members)):
            raise NothingFits(place)
        if all(must for _, must in members):
            more = None if high == len(members) else more
            return write_sequence(self._rules, self.comma, [member for member, _ in members], more, least, high)
        if low > max(1, sum(must for _, must in members)):
            raise Unwritable(f'"minProperties" above 1 and above the "required" names cannot be enforced{at(place)}')
        if high is not None and (more or high < len(members)):
            raise Unwritable(f'"maxProperties" beside more "properties" cannot be enforced{at(place)}')
        return write_row(self._rules, self.comma, members, more, is_filled=low > 0)

    def _ordered(self, named: dict[str, Any]) -> dict[str, Any]:
        return dict(sorted(named.items(), key=lambda one: one[0].lower())) if self.is_sorted else named

    def _items(self, schema: dict[str, Any], place: str) -> str:
        low, high = count(schema, "minItems", place) or 0, count(schema, "maxItems", place)
        inner, prefix = schema.get("items", True), schema.get("prefixItems", ())
        if isinstance(inner, list):
            raise Unwritable(f'"items" that are a list cannot be enforced{at(place)}')
        firsts, item = list[str](), None
        with contextlib.suppress(NothingFits):  # what nothing fits ends the list
            for index, one in enumerate(prefix[:high]):
                firsts.append(self._value(one, within(place, f"prefixItems[{index}]")))
            if high is None or high > len(prefix):
                item = self._value(inner, within(place, "items"))
        if item is None:
            high = len(firsts) if high is None else min(high, len(firsts))
        if high is not None and low > high:
            raise NothingFits(place)
        return write_sequence(self._rules, self.comma, firsts, item, low, high)
