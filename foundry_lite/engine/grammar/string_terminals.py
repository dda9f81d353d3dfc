"""Strings of a schema as terminals, where they are written without JSON's quotes and escapes.

Patterns are read as llguidance reads those of JSON: found anywhere in the string unless they are anchored, classes of
ASCII. Formats are narrower than their standards here and there, never wider.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from foundry_lite.engine.grammar.lark import literal, without
from foundry_lite.engine.grammar.schema_algebra import NothingFits, Unwritable, at, count

_ALL = "(?s:.*)"
_PARTS = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|.", re.DOTALL)
_CLASSES = {r"\d": "[0-9]", r"\D": "[^0-9]", r"\w": "[0-9A-Za-z_]", r"\W": "[^0-9A-Za-z_]"}

_LEAP = r"(([0-9]{2}(0[48]|[2468][048]|[13579][26])|([02468][048]|[13579][26])00)-02-29)"
_DATE = (
    r"([0-9]{4}-((0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])|(0[13-9]|1[0-2])-(29|30)|(0[13578]|1[02])-31)"
    rf"|{_LEAP})"
)
_TIME = r"(([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,9})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9]))"
_BYTE = r"(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_LABEL = r"([A-Za-z0-9]([A-Za-z0-9-]{0,30}[A-Za-z0-9])?)"
_HOST = rf"({_LABEL}(\.{_LABEL}){{0,4}})"
_GROUP = "([0-9A-Fa-f]{1,4})"
_FORMATS = {
    "date": _DATE,
    "time": _TIME,
    "date-time": rf"{_DATE}T{_TIME}",
    "duration": r"P([0-9]+W|[0-9]+D(T[0-9]+H)?|T([0-9]+H([0-9]+M([0-9]+S)?)?|[0-9]+M([0-9]+S)?|[0-9]+S))",
    "email": rf"[A-Za-z0-9_+-]{{1,30}}(\.[A-Za-z0-9_+-]{{1,30}})?@{_HOST}",
    "hostname": _HOST,
    "ipv4": rf"{_BYTE}(\.{_BYTE}){{3}}",
    "ipv6": rf"({_GROUP}:){{7}}{_GROUP}|::1|({_GROUP}:){{1,3}}(:{_GROUP}){{1,4}}",
    "uuid": "[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}",
    "uri": rf"[A-Za-z][A-Za-z0-9+.-]{{0,20}}://{_HOST}(:[1-9][0-9]{{0,3}})?(/[A-Za-z0-9._~-]*)*"
    r"(\?[A-Za-z0-9._~=&-]*)?(#[A-Za-z0-9._~-]*)?",
}


def write_string(schema: dict[str, Any], forbidden: str, place: str) -> str:
    """Return the body of a terminal: strings that fit, in which ``forbidden`` does not occur. Raises `Unwritable`."""
    low, high = count(schema, "minLength", place) or 0, count(schema, "maxLength", place)
    if high is not None and low > high:
        raise NothingFits(place)
    parts = [without([forbidden])]
    if low or high is not None:
        parts.append(f"/(?s:.){{{low},{'' if high is None else high}}}/")
    if "pattern" in schema:
        parts.append(f"/{_unanchored(schema['pattern'], place)}/")
    if "format" in schema:
        if schema["format"] not in _FORMATS:
            raise Unwritable(f'the "format" {literal(schema["format"][:40])} cannot be enforced{at(place)}')
        parts.append(f"/{_escaped(_FORMATS[schema['format']])}/")
    return " & ".join(parts)


def _unanchored(pattern: str, place: str) -> str:
    """Return an expression for all of a string in which a pattern is found."""
    return "|".join(_pad(branch, place) for branch in _branches(pattern))


def _pad(parts: list[str], place: str) -> str:
    first = parts[:1] == ["^"]
    last = parts[-1:] == ["$"] and len(parts) > first
    inner = parts[first : len(parts) - last]
    if any(part in ("^", "$", r"\b", r"\B") for part in inner):
        raise Unwritable(f'a "pattern" with an anchor inside cannot be enforced{at(place)}')
    body = "".join(_plain(part) for part in inner)
    return f"{'' if first else _ALL}({body}){'' if last else _ALL}"


def _branches(pattern: str) -> Iterator[list[str]]:
    """Divide a pattern at the bars that are in no brackets."""
    depth, branch = 0, list[str]()
    for part in _PARTS.findall(pattern):
        depth += (part == "(") - (part == ")")
        if part == "|" and not depth:
            yield branch
            branch = []
        else:
            branch.append(part)
    yield branch


def _plain(part: str) -> str:
    if part.startswith("["):
        part = re.sub(r"\\[dDwW]", lambda found: _CLASSES[found.group()], part)
    return _escaped(_CLASSES.get(part, part))


def _escaped(expression: str) -> str:
    """Return an expression as it stands between slashes."""
    return re.sub(r"\\.|/|\n", lambda found: {"/": r"\/", "\n": r"\n"}.get(found.group(), found.group()), expression)
