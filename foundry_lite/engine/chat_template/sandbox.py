"""Sandbox in which a chat template runs: no attribute that reaches Python, and nothing large.

The deadline of `template` sees every line of Python, and so of a template, but nothing of what runs in C: one
``join`` could take all memory, and one comparison of lists within lists a year. So all that a template makes is
weighed, its parts as often as they occur: literals, sums, texts, what filters and methods return, and their arguments
where the result would be far larger. What weighs no more than `LARGEST`, C is done with in a moment.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import reduce, wraps
from itertools import islice
from typing import Any

from jinja2 import nodes
from jinja2.compiler import CodeGenerator, Frame
from jinja2.exceptions import SecurityError
from jinja2.sandbox import ImmutableSandboxedEnvironment

LARGEST = 4_000_000  # characters of one value, and of a rendered prompt

_AT_ONCE = 16  # pieces of output
_ELEMENT = 10  # characters that an element of a list counts for: it takes longer to look at

_CONTAINERS = (list, tuple, dict)
_WIDEST = 9999  # of a padding, and digits of a number
_MOST_BITS = 10_000  # of an integer: some operations take the square of it
_LONGEST_WORDS = 250_000  # characters that filters which look at each word may be given: they take up to 0.2 s
_WORDY = frozenset({"pprint", "striptags", "title", "urlencode", "urlize", "wordcount", "wordwrap", "xmlattr"})
_PADDING = frozenset({"batch", "center", "indent", "round", "slice", "tojson", "truncate", "wordwrap"})
_ENLARGING = _WORDY | _PADDING | {"format", "join", "replace", "sum", "trim"}
_MOST_ARGUMENTS = 1000
_STRIPPING = frozenset({"strip", "lstrip", "rstrip", "trim"})  # characters times characters to strip
_MOST_STRIPPED = 1000
_NO_PLACE = frozenset({"decode", "encode", "expandtabs", "from_bytes", "maketrans", "to_bytes", "translate"})
# A width that is an argument: %*d, {:{}}.
_OPEN_WIDTH = re.compile(r"%[^a-zA-Z%]*\*|\{[^{}]*\{")


class _Code(CodeGenerator):
    """Jinja's compiler, which has literals and ``~`` weighed as well."""

    def visit_List(self, node: nodes.List, frame: Frame) -> None:
        self._weighed(super().visit_List, node, frame)

    def visit_Dict(self, node: nodes.Dict, frame: Frame) -> None:
        self._weighed(super().visit_Dict, node, frame)

    def visit_Tuple(self, node: nodes.Tuple, frame: Frame) -> None:
        if node.ctx == "load":
            self._weighed(super().visit_Tuple, node, frame)
        else:  # the names of an assignment
            super().visit_Tuple(node, frame)

    def visit_Add(self, node: nodes.BinExpr, frame: Frame) -> None:
        """Add all terms of a sum at once: templates put most of their texts together so."""
        terms: list[nodes.Expr] = []
        first: nodes.Expr = node
        while isinstance(first, nodes.Add):
            terms.append(first.right)
            first = first.left
        self._called("added", [first, *reversed(terms)], frame)

    def visit_Concat(self, node: nodes.Concat, frame: Frame) -> None:
        self._called("joined", node.nodes, frame)

    def _called(self, method: str, parts: list[nodes.Expr], frame: Frame) -> None:
        self.write(f"environment.{method}((")
        for one in parts:
            self.visit(one, frame)
            self.write(", ")
        self.write("))")

    def _weighed(self, visit: Callable[..., None], node: nodes.Node, frame: Frame) -> None:
        self.write("environment.made(")
        visit(node, frame)
        self.write(")")


class Sandbox(ImmutableSandboxedEnvironment):
    """An environment of Jinja for one template. `forget` belongs behind each rendering."""

    code_generator_class = _Code
    intercepted_binops = frozenset({"*", "**", "%"})

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._weights: dict[int, tuple[Any, int]] = {}  # by identity, which holds as long as the value is kept
        for name, function in list(self.filters.items()):
            self.add_filter(name, function)

    def add_filter(self, name: str, function: Callable[..., Any]) -> None:
        """Add a filter, or replace one of Jinja's."""
        self.filters[name] = self._bounded(name, function)

    def forget(self) -> None:
        """Forget what was weighed."""
        self._weights.clear()

    @staticmethod
    def concat(parts: Iterable[str]) -> str:
        """Concatenate strings, as Jinja does with all output. Raises `SecurityError` when it is too much."""
        texts: list[str] = []
        size, waiting = 0, iter(parts)
        while some := list(islice(waiting, _AT_ONCE)):
            size += sum(map(len, some))
            if size > LARGEST:
                raise SecurityError(f"the template makes a text of more than {LARGEST} letters")
            texts += some
        return "".join(texts)

    def made(self, value: Any) -> Any:
        """Return a value that was made. Raises `SecurityError` when it is too large."""
        if type(value) is str and len(value) <= LARGEST:  # nearly always
            return value
        if isinstance(value, int):
            if value.bit_length() > _MOST_BITS:
                raise SecurityError("the template computes too large a number")
        elif self._weigh(value) > LARGEST:
            raise SecurityError("the template makes too large a value")
        return value

    def added(self, terms: tuple[Any, ...]) -> Any:
        """Return the sum of some values, which are mostly strings. Raises `SecurityError` when it is too large."""
        if set(map(type, terms)) != {str}:
            return reduce(self._add, terms)
        return self.joined(terms)

    def joined(self, values: tuple[Any, ...]) -> str:
        """Return some values as one string. Raises `SecurityError` when it is too large."""
        texts = list(map(str, values))
        self._check(sum(map(len, texts)))
        return "".join(texts)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        if operator == "*":
            self._check_product(left, right)
        elif operator == "**" and (abs(left) > 1000 or abs(right) > 16):
            raise SecurityError("the template computes too large a power")
        elif operator == "%" and isinstance(left, str):
            self._check_format(left, right)
        return self.made(super().call_binop(context, operator, left, right))

    def call(self, context: Any, function: Any, *arguments: Any, **named: Any) -> Any:
        given, weight = (*arguments, *named.values()), 0
        if len(given) > _MOST_ARGUMENTS:
            raise SecurityError("the template gives too many arguments at once")
        for one in given:  # no expression of a generator: the deadline looks at each step of one
            weight += len(one) if type(one) is str else self._weigh(one)
            if isinstance(one, int) and abs(one) > LARGEST:
                raise SecurityError("the template asks for too wide a text")
        self._check(weight)
        method = getattr(function, "__wrapped__", function)  # the sandbox wraps str.format
        text = getattr(method, "__self__", None)
        if isinstance(text, str | bytes | int):
            arguments = self._check_method(text, getattr(method, "__name__", ""), arguments, given)
        return self.made(super().call(context, function, *arguments, **named))

    def _check_method(self, text: Any, name: str, arguments: Any, given: tuple[Any, ...]) -> Any:
        """Check a call of a string's method; return its arguments."""
        if name in _NO_PLACE:
            raise SecurityError(f"'{name}' has no place in a template")
        if name.startswith("format"):
            self._check_format(text, given)
        elif name == "join" and arguments:
            arguments = (self._joined(arguments[0], text),)
        elif name == "replace":
            self._check_replacing(text, *given)
        elif name in _STRIPPING:
            _check_stripping(given)
        return arguments

    def _bounded(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return a filter that checks what it makes, and what it is given where it could make much of that."""
        skipped = 1 if hasattr(function, "jinja_pass_arg") else 0  # its first argument is Jinja's

        @wraps(function)
        def checking(*arguments: Any, **named: Any) -> Any:
            ours = arguments[skipped:]
            if name == "join" and ours:
                separator = ours[1] if len(ours) > 1 else named.get("d", "")
                arguments = (*arguments[:skipped], self._joined(ours[0], separator), *ours[1:])
            else:
                self._check_filter(name, (*ours, *named.values()))
            return self.made(function(*arguments, **named))

        @wraps(function)
        def making(*arguments: Any, **named: Any) -> Any:
            return self.made(function(*arguments, **named))

        return checking if name in _ENLARGING else making

    def _check_filter(self, name: str, given: tuple[Any, ...]) -> None:
        if name in _WORDY:
            self._check(sum(map(self._weigh, given)), _LONGEST_WORDS)
        if name in _PADDING:
            _check_widths(given[1:])
        if name == "format":
            self._check_format(str(given[0]), given[1:])
        elif name == "replace":
            self._check_replacing(*map(str, given[:3]))
        elif name == "sum" and any(isinstance(one, _CONTAINERS) for one in given[1:]):
            raise SecurityError("'sum' is for numbers")
        elif name == "trim":
            _check_stripping(given[1:])

    def _joined(self, values: Any, separator: Any) -> list[Any]:
        """Return what is to be joined. Raises `SecurityError` when there is too much of it."""
        parts, size = [], 0
        for one in values:
            size += self._weigh(one) + self._weigh(separator)
            self._check(size)
            parts.append(one)
        return parts

    def _add(self, left: Any, right: Any) -> Any:
        weight = self._weigh(left) + self._weigh(right)
        self._check(weight)
        both = left + right
        if not isinstance(both, list | tuple):
            return self.made(both)
        self._weights[id(both)] = (both, weight)  # so that a list to which one is added again and again costs little
        return both

    def _check_product(self, left: Any, right: Any) -> None:
        for value, times in ((left, right), (right, left)):
            if isinstance(times, int) and isinstance(value, str | bytes | list | tuple):
                self._check(max(1, self._weigh(value)) * times)

    def _check_replacing(self, text: Any, old: Any = "", new: Any = "", *_: Any) -> None:
        self._check(len(text) + (len(text) + 1 if not old else text.count(old)) * len(new))

    def _check_format(self, text: Any, given: Any) -> None:
        if _OPEN_WIDTH.search(text) or is_wide(text):
            raise SecurityError("the template asks for too wide a text")
        fields = text.count("%") + text.count("{")
        self._check(fields * (_WIDEST + self._weigh(given)), 10 * LARGEST)

    def _check(self, weight: int, largest: int = LARGEST) -> None:
        if weight > largest:
            raise SecurityError("the template makes too large a value")

    def _weigh(self, value: Any) -> int:
        """Return how many characters there are in a value, or a number above `LARGEST`."""
        if not isinstance(value, _CONTAINERS):
            return len(value) if isinstance(value, str | bytes) else 1
        weight = 0
        waiting: list[Any] = [value]
        while waiting and weight <= LARGEST:
            one = waiting.pop()
            if isinstance(one, str | bytes):
                weight += len(one)
            elif isinstance(one, int):
                weight += one.bit_length() // 3
            elif isinstance(one, _CONTAINERS):
                known = self._weights.get(id(one))
                weight += _ELEMENT * (1 + len(one)) if known is None else known[1]
                if known is None:
                    waiting += [*one, *one.values()] if isinstance(one, dict) else one
        self._weights[id(value)] = (value, weight)
        return weight


def is_wide(text: Any) -> bool:
    """Return whether a format string, or a width, has a number of more than four digits beside its conversion."""
    return isinstance(text, str) and re.search(r"(?<![^%:<>^=+\-0-9 ])\d{5}", text) is not None


def _check_widths(given: tuple[Any, ...]) -> None:
    for one in given:
        if (isinstance(one, int) and abs(one) > _WIDEST) or (isinstance(one, str) and len(one) > _WIDEST):
            raise SecurityError("the template asks for too wide a text")


def _check_stripping(given: tuple[Any, ...]) -> None:
    if any(isinstance(one, str) and len(one) > _MOST_STRIPPED for one in given):
        raise SecurityError("the template strips too many letters at once")
