"""Argument syntaxes other than JSON, in which families of models write the arguments of calls.

`Python` leaves to JSON what it cannot translate, since those who read it take both. `Gemma` has no such way out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

from foundry_lite.engine.grammar.arguments import ArgumentSyntax
from foundry_lite.engine.grammar.lark import Marks, Rules, literal, pattern
from foundry_lite.engine.grammar.schema_algebra import STRINGS, NothingFits, Unwritable, at, join, said, values_of
from foundry_lite.engine.grammar.schema_algebra import kinds_of as kinds_of_value
from foundry_lite.engine.grammar.string_terminals import write_string
from foundry_lite.engine.tool_calls.declared_types import TEXT, kinds_of

# How values begin, or are written, that are read as such and not as strings.
_FORMS = {
    "null": (r"(null|None)\s*",),
    "boolean": (r"(true|false|True|False)\s*",),
    "number": ("-?[0-9](?s:.*)",),
    "integer": ("-?[0-9](?s:.*)",),
    "array": (r"\[(?s:.*)",),
    "object": (r"\{(?s:.*)",),
}
_QUOTE = "'"
_UNESCAPED, _ESCAPED = r"/[^\\\x00-\x1f]*/", r"""/([^'\\\x00-\x1f]|\\['"\\nrt])*/"""
_PYTHON = {"true": "True", "false": "False", "null": "None"}
_NAME = r"[A-Za-z0-9_.-]+"  # what is read as a name without quotes


class Python(ArgumentSyntax):
    """``name=value, …``, the values with Python's words, or JSON's, and strings in quotes of either kind.

    Those in single quotes that a schema says something of have no escapes: what would need one is written in JSON's.
    """

    words = ("True", "False", "None")
    comma = ", "
    separators = (", ", ": ")

    def _key(self, name: str, place: str, *, is_call: bool) -> str:
        if not is_call:
            ways = [f"{json.dumps(name, ensure_ascii=False)}: ", *([f"'{name}': "] if _needs_no_escape(name) else [])]
            return f"({' | '.join(map(literal, ways))})"
        return literal(f"{_fitting(name, _NAME, place)}=")

    def _other_key(self, names: Iterable[str], *, is_call: bool) -> str:
        if is_call:
            return self._rules.add_terminal(_other(names, "[A-Za-z_][A-Za-z0-9_]*", "", "="))
        ways = [_other(names, rf"[^{quote}\\\x00-\x1f]*", quote, f"{quote}: ") for quote in "\"'"]
        return f"({' | '.join(map(self._rules.add_terminal, ways))})"

    def _string(self, schema: dict[str, Any], place: str) -> str:
        quoted = self._json({"type": "string", **{word: schema[word] for word in STRINGS if word in schema}})
        if not said(schema):
            return f"({quoted} | {self._quoted(_ESCAPED)})"
        try:
            return f"({quoted} | {self._quoted(f'{write_string(schema, _QUOTE, place)} & {_UNESCAPED}')})"
        except Unwritable:
            return quoted

    def _texts(self, texts: list[str], place: str) -> str:
        plain = [text for text in texts if _needs_no_escape(text)]
        quoted = self._json({"enum": texts})
        return f"({quoted} | {self._quoted(' | '.join(map(literal, plain)))})" if plain else quoted

    def _quoted(self, terminal: str) -> str:
        return self._rules.add_terminal(f"{literal(_QUOTE)} ({terminal}) {literal(_QUOTE)}")

    def _word(self, which: int) -> str:
        return f"({' | '.join(map(literal, (self.words[which], ArgumentSyntax.words[which])))})"

    def _leave(self, schema: dict[str, Any], error: Unwritable) -> str:
        return self._json(self._alone(schema))


class Gemma(ArgumentSyntax):
    """``name:value,…`` in the order of the alphabet, strings between delimiters that may be tokens."""

    is_sorted = True

    def _word(self, which: int) -> str:
        return '("null" | "None")' if which == 2 else super()._word(which)  # Gemma 4's template writes the latter

    def __init__(self, root: dict[str, Any], rules: Rules, quote: str, marks: Marks) -> None:
        super().__init__(root, rules)
        self._quote = quote
        self._mark = marks.write(quote) if quote in marks else ""  # the token, if it is one

    def _key(self, name: str, place: str, *, is_call: bool) -> str:
        return literal(f"{name}:") if re.fullmatch(_NAME, name) else f'{self._texts([name], place)} ":"'

    def _other_key(self, names: Iterable[str], *, is_call: bool) -> str:
        return self._rules.add_terminal(_other(names, "[A-Za-z_][A-Za-z0-9_]*", "", ":"))

    def _string(self, schema: dict[str, Any], place: str) -> str:
        return self._quoted(write_string(schema, self._quote, place))

    def _texts(self, texts: list[str], place: str) -> str:
        if any(self._quote in text for text in texts):
            raise Unwritable(f"{self._quote} cannot stand in a string{at(place)}")
        return self._quoted(" | ".join(map(literal, texts)))

    def _quoted(self, terminal: str) -> str:
        """Return symbols for what a terminal matches, between the delimiters: a lexeme of its own, or part of one."""
        if self._mark:
            return f"{self._mark} {self._rules.add_terminal(terminal)} {self._mark}"
        mark = literal(self._quote)
        return self._rules.add_terminal(f"{mark} ({terminal}) {mark}")

    def _leave(self, schema: dict[str, Any], error: Unwritable) -> str:
        raise error


class Tagged(ArgumentSyntax):
    """Values between tags: strings as they are, all else in JSON.

    ``pair`` is what stands around a value, ``{}`` being its name. ``declared`` is the schema as the reader has it, who
    goes by the types that it names.
    """

    comma = ""
    separators = (", ", ": ")

    def __init__(
        self, root: dict[str, Any], rules: Rules, pair: tuple[str, str], marks: Marks, declared: dict[str, Any] | None
    ) -> None:
        super().__init__(root, rules)
        before, _, behind_name = pair[0].partition("{}")
        self._around_name = marks.write(before), marks.write(behind_name)
        self._closing = pair[1].strip()
        self._behind, self._split = marks.write(pair[1]), marks.split(pair[1])
        self._declared = declared
        self._beside: frozenset[str] = frozenset()  # what else the value may be that is being written
        self._words: set[str] = set()  # and of it, what is a word

    def _key(self, name: str, place: str, *, is_call: bool) -> str:
        return self._named(literal(_fitting(name, r"[^<>\n]+", place)))

    def _other_key(self, names: Iterable[str], *, is_call: bool) -> str:
        return self._named(self._rules.add_terminal(_other(names, "[A-Za-z_][A-Za-z0-9_]*", "", "")))

    def _named(self, name: str) -> str:
        before, behind = self._around_name
        return f"{before} {name} {behind}"

    def _held(self, name: str, schema: Any, place: str, *, is_call: bool) -> str:
        schema = self._followed(schema)
        schema = {} if schema is True else schema
        if schema is False:
            raise NothingFits(place)
        kinds = kinds_of(self._declared, name)
        if "string" not in kinds:
            return self._in_json(schema)
        self._beside, self._referred = kinds - TEXT, {}
        self._words = self._words_of(schema)
        values = values_of(schema)
        listed = kinds if values is None else set().union(*map(kinds_of_value, values))
        others = sorted(kinds & listed & {"number", "integer", "array", "object"})
        ways = [self._in_json({"allOf": [schema, {"type": others}]})] if others else []
        try:
            ways.append(self._value(join([schema, {"type": "string"}], place) if self._beside else schema, place))
        except NothingFits:
            if not ways:
                raise
        return f"({' | '.join(ways)})"

    def _in_json(self, schema: dict[str, Any]) -> str:
        alone = self._alone(schema)
        # Behind a number with both bounds and a divisor no token can follow: the library panics (llguidance 1.9.1).
        needs_line = all(word in json.dumps(alone) for word in ('"number"', '"multipleOf"')) and not self._split[0]
        line = '"\\n"' if needs_line else ""
        written = self._rules.add(f"{self._json(alone)} {line} {self._behind}")
        # As Qwen3-Coder's template has them.
        words = [literal(_PYTHON[word]) for word in sorted(self._words_of(schema))]
        return f"({written} | ({' | '.join(words)}) {self._behind})" if words else written

    def _string(self, schema: dict[str, Any], place: str) -> str:
        return self._closed(" & ".join([write_string(schema, self._closing, place), *self._no_other()]))

    def _texts(self, texts: list[str], place: str) -> str:
        if any(self._closing in text for text in texts):
            raise Unwritable(f"{self._closing} cannot stand in a string{at(place)}")
        return self._closed(" & ".join([f"({' | '.join(map(literal, texts))})", *self._no_other()]))

    def _no_other(self) -> list[str]:
        """Return terminals for what is not read as a value of another type."""
        forms = {form for kind in self._beside for form in _FORMS.get(kind, ())}
        return [f"~/\\s*({'|'.join(sorted(forms))})/"] if forms else []

    def _closed(self, terminal: str) -> str:
        """Return symbols for a string, or for another word, and what closes it, in one lexeme up to a token."""
        words = "".join(f" | {literal(word)} | {literal(_PYTHON[word])}" for word in sorted(self._words))
        lead, rest = self._split
        return f"{self._rules.add_terminal(f'(({terminal}){words}) {literal(lead)}')} {rest}"

    def _words_of(self, schema: Any, known: set[str] | None = None) -> set[str]:
        """Return which of null, true and false a value may surely be; ``known`` is what was referred to already."""
        known = set() if known is None else known
        if isinstance(schema, dict) and self._followed(schema) is not schema and schema["$ref"] not in known:
            known.add(schema["$ref"])
            return self._words_of(self._followed(schema), known)
        if not isinstance(schema, dict) or said(schema) & {"allOf", "$ref"}:
            return set()
        if "anyOf" in schema or "oneOf" in schema:
            branches = [*schema.get("anyOf", ()), *schema.get("oneOf", ())]
            return set().union(*(self._words_of(one, known) for one in branches)) if len(said(schema)) == 1 else set()
        values = values_of(schema if {"enum", "const"} & schema.keys() else {**schema, "enum": [None, True, False]})
        return {json.dumps(one) for one in values or () if one is None or isinstance(one, bool)}

    def _leave(self, schema: dict[str, Any], error: Unwritable) -> str:
        raise error


def _fitting(name: str, form: str, place: str) -> str:
    if re.fullmatch(form, name) is None:
        raise Unwritable(f"{json.dumps(name)[:100]} cannot be written as the name of an argument{at(place)}")
    return name


def _needs_no_escape(text: str) -> bool:
    return re.fullmatch(r"[^'\\\x00-\x1f]*", text) is not None


def _other(names: Iterable[str], form: str, before: str, after: str) -> str:
    """Return a terminal for a name that matches ``form`` and is none of these."""
    taken = "|".join(pattern(name) for name in names if re.fullmatch(form, name))
    every = f"/{before}{form}{after}/"
    return f"{every} & ~/{before}({taken}){after}/" if taken else every
