"""The part of a schema that the grammar library refuses: its message names neither a keyword nor a path.

Found by trial: of what cannot be compiled the parts are tried one by one, then the keywords are left out one by one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from foundry_lite.engine.grammar.answer import held_tools
from foundry_lite.engine.grammar.json_schema import inner_schemas, read_schema
from foundry_lite.engine.grammar.tool_calls import arguments_of
from foundry_lite.generation import GenerationRequest, Grammar, GrammarKind

Fails = Callable[[Any], str | None]  # why a schema cannot be compiled by itself; ``None`` when it can

_SHARED = ("$defs", "definitions")  # what a part of a schema may refer to
_QUIET = frozenset({"title", "description", "default", "examples", *_SHARED})  # never what is refused, alone


@dataclass(frozen=True, slots=True)
class Blame:
    """A refused part of a schema. ``keyword`` is empty if not one alone is; ``place`` if the part is all of it."""

    place: str
    keyword: str
    reason: str

    def __str__(self) -> str:
        where = f" (at {self.place[:100]})" if self.place else ""
        return f'"{self.keyword}" cannot be enforced{where}: {self.reason}' if self.keyword else self.reason + where


@dataclass(frozen=True, slots=True)
class Part:
    """A schema that a grammar was written of; ``name`` is put before what is wrong with it."""

    name: str
    param: str
    schema: Any


def held_schemas(request: GenerationRequest) -> Iterator[Part]:
    """Yield the schemas that an answer is held to: of tools, and of a required format."""
    for tool in held_tools(request):
        yield Part(f"the parameters of {tool.name!r}: ", "tools", arguments_of(tool))
    if request.grammar is not None:
        yield from schemas_of(request.grammar)


def schemas_of(grammar: Grammar) -> Iterator[Part]:
    """Yield the schema of a grammar that is one."""
    if grammar.kind is GrammarKind.JSON_SCHEMA:
        yield Part("", grammar.param, json.loads(read_schema(grammar.text, grammar.param)))


def find_blame(schema: Any, fails: Fails) -> Blame | None:
    """Return the smallest part that fails by itself; ``None`` where the whole does not."""
    shared = {word: schema[word] for word in _SHARED if isinstance(schema, dict) and word in schema}

    def alone(part: Any) -> str | None:
        return fails({**part, **shared} if isinstance(part, dict) else part)

    place, part, reason = "", schema, alone(schema)
    if reason is None:
        return None
    while isinstance(part, dict):
        steps = sorted(inner_schemas(part), key=lambda one: not one[0].startswith(_SHARED))
        failing = ((step, inner, why) for step, inner in steps if (why := alone(inner)) is not None)
        found = next(failing, None)
        if found is None:
            break
        place, part, reason = f"{place}.{found[0]}" if place else found[0], found[1], found[2]
    return Blame(place, _keyword(part, alone), reason)


def _keyword(part: Any, alone: Fails) -> str:
    """Return the one keyword without which the part can be compiled."""
    words = [word for word in part if word not in _QUIET] if isinstance(part, dict) else []
    words.sort(key=lambda word: word == "type")  # without its type, hardly anything is said
    return next((word for word in words if alone(_without(part, word)) is None), "")


def _without(part: dict[str, Any], word: str) -> dict[str, Any]:
    return {name: value for name, value in part.items() if name != word}
