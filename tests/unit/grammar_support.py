"""What the tests of grammars share: generating under a constraint, and a small validator of JSON Schema."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from foundry_lite.engine.grammar.compiler import Constraint


def allowed(constraint: Constraint) -> list[int]:
    """The tokens that may come next."""
    bits = np.unpackbits(constraint.mask().view(np.uint8), bitorder="little")
    tokens: list[int] = np.flatnonzero(bits).tolist()
    return tokens


def follow(constraint: Constraint, tokenizer: Tokenizer, text: str) -> bool:
    """Say the text token by token; return whether every token was allowed."""
    for token in tokenizer.encode(text, add_special_tokens=False).ids:
        if token not in allowed(constraint):
            return False
        constraint.take(token)
    return True


def accepts(constraint: Constraint, tokenizer: Tokenizer, text: str, eos: int) -> bool:
    """Whether a text may be a whole answer."""
    return follow(constraint, tokenizer, text) and eos in allowed(constraint)


def sample(
    constraint: Constraint, logits: Callable[[], NDArray[np.float64]], eos: set[int], limit: int, seed: int
) -> tuple[list[int], bool]:
    """Draw tokens by the softmax of logits that know nothing of the form; return them, and whether they are whole."""
    random = np.random.default_rng(seed)
    tokens: list[int] = []
    while len(tokens) < limit:
        scores = logits()
        choices = np.array(allowed(constraint))
        weights = np.exp(scores[choices] - scores[choices].max())
        token = int(random.choice(choices, p=weights / weights.sum()))
        assert constraint.error is None
        if token in eos:
            return tokens, True
        constraint.take(token)
        tokens.append(token)
        if constraint.is_over:
            return tokens, True
    return tokens, False


def is_valid(value: Any, schema: Any, root: Any = None) -> bool:
    """Whether a value fits a schema, of the keywords that the tests use."""
    root = schema if root is None else root
    if isinstance(schema, bool):
        return schema
    if "$ref" in schema:
        return is_valid(value, root["$defs"][schema["$ref"].removeprefix("#/$defs/")], root)
    return (
        ("const" not in schema or _same(value, schema["const"]))
        and ("enum" not in schema or any(_same(value, one) for one in schema["enum"]))
        and ("anyOf" not in schema or any(is_valid(value, one, root) for one in schema["anyOf"]))
        and _has_type(value, schema.get("type"))
        and _fits(value, schema, root)
    )


def _same(one: Any, other: Any) -> bool:
    return json.dumps(one) == json.dumps(other)


def _has_type(value: Any, kind: Any) -> bool:
    kinds: dict[str, Callable[[Any], bool]] = {
        "null": lambda one: one is None,
        "boolean": lambda one: isinstance(one, bool),
        "integer": lambda one: isinstance(one, int) and not isinstance(one, bool),
        "number": lambda one: isinstance(one, int | float) and not isinstance(one, bool),
        "string": lambda one: isinstance(one, str),
        "array": lambda one: isinstance(one, list),
        "object": lambda one: isinstance(one, dict),
    }
    names = [kind] if isinstance(kind, str) else kind or list(kinds)
    return any(kinds[name](value) for name in names)


def _fits(value: Any, schema: dict[str, Any], root: Any) -> bool:
    if isinstance(value, str):
        return _is_within(len(value), schema.get("minLength", 0), schema.get("maxLength"))
    if isinstance(value, list):
        inside = _is_within(len(value), schema.get("minItems", 0), schema.get("maxItems"))
        return inside and all(is_valid(item, schema.get("items", True), root) for item in value)
    if isinstance(value, dict):
        named, others = schema.get("properties", {}), schema.get("additionalProperties", True)
        whole = all(name in value for name in schema.get("required", ()))
        return whole and all(is_valid(item, named.get(name, others), root) for name, item in value.items())
    if isinstance(value, int | float) and not isinstance(value, bool):
        inside = _is_within(value, schema.get("minimum"), schema.get("maximum"))
        beyond = value <= schema.get("exclusiveMinimum", math.nan) or value >= schema.get("exclusiveMaximum", math.nan)
        return inside and not beyond and ("multipleOf" not in schema or value % schema["multipleOf"] == 0)
    return True


def _is_within(value: float, low: float | None, high: float | None) -> bool:
    return (-math.inf if low is None else low) <= value <= (math.inf if high is None else high)
