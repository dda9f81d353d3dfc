"""Errors of the grammar library in plain words: what cannot be compiled, and why."""

from __future__ import annotations

import re

from foundry_lite.errors import InvalidRequest

LONGEST_REASON = 240  # characters of a message that is the library's
_PLAIN = (
    (r"Resource '([^']*)' is not present", r"'\1' cannot be followed: a schema may refer only to parts of itself"),
    (r"oneOf constraints are not supported", "oneOf works only where no two branches can both fit; use anyOf"),
    (
        r"Current row has|Too many items|schema too large",
        "it is too ambiguous, or has too many alternatives or optional properties",
    ),
    (r"too many (?:states|expressions)|fuel exhausted|too big|lexer precomputation", "it is too complex"),
    (r"regex parse error.*error: ([^\n]*)", r"invalid regex: \1"),
    (r"Unable to determine if regex is empty", "a pattern, format and length together are too complex"),
    (r"NoExtensionBias", "nothing can ever satisfy it"),
)


class NotCompiled(InvalidRequest):
    """A grammar that the library refuses; the message says why, and not of which part."""


def reason_of(error: str) -> str:
    """Return what of the library's message helps a caller: not its state, and not the caller's own grammar."""
    error = re.split(r"<state>|<non-verbose/>|\n\s*\d+ \|", error, maxsplit=1)[0]
    for pattern, plain in _PLAIN:
        if found := re.search(pattern, error, re.DOTALL):
            return found.expand(plain)
    return " ".join(error.split())[:LONGEST_REASON]


def failure(error: str, param: str) -> InvalidRequest:
    """Return the error for what the library says."""
    return NotCompiled(f"the grammar cannot be compiled: {reason_of(error)}", param, "invalid_grammar")


def refusal(message: str, param: str) -> InvalidRequest:
    """Return the error of a grammar that is not accepted."""
    return InvalidRequest(message, param, "invalid_grammar")
