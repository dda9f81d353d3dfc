"""Tool-call formats of model families: the delimiters of their calls, and the syntax of a required call.

Sources: the templates and model cards of the families; docs/tools.md has a table.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from foundry_lite.engine.tool_calls.named_calls import NamedCalls
from foundry_lite.engine.tool_calls.object_calls import Gemma4Calls, GemmaCalls, JsonCalls, PythonCalls
from foundry_lite.engine.tool_calls.stream_reader import CallReader, CallState, overlap

ReaderKind = Callable[[CallState, str], CallReader]


@dataclass(frozen=True, slots=True)
class Delimiter:
    """Delimiters of calls: the string that opens them, the one that closes them, and readers of what is between."""

    opening: str
    closing: str
    readers: tuple[ReaderKind, ...] = (JsonCalls,)


class Shape(StrEnum):
    """The shape of a required call between its delimiters."""

    OBJECT = "object"  # each call in delimiters of its own, or, without delimiters, one after the other
    LIST = "list"  # all calls in one list
    NAMED = "named"  # the name before the arguments
    PYTHON = "python"  # Python's calls in one list
    LINES = "lines"  # Python's calls, each in a line of its own
    FRAMED = "framed"  # the name in a head of its own, behind the arguments a tail
    GEMMA = "gemma"  # each call in delimiters of its own, with delimiters around its strings
    TAGGED = "tagged"  # the same, with the arguments between tags


@dataclass(frozen=True, slots=True)
class CallSyntax:
    """Syntax of a required call: ``before`` and ``after`` are delimiters, which may be tokens.

    ``quote`` is the delimiter on both sides of a string, where it is not JSON's. ``head`` stands before a call, ``{}``
    being its name, ``tail`` behind it, and ``between`` between two; in lines of Python the first two enclose all of
    them. ``pair`` stands before and behind an argument. A model may as well write one of ``heads``, its call's id
    between the two of ``around_id``, and, where it ``is_loose``, no line ends, nor the last delimiter of all.
    """

    shape: Shape
    before: str = ""
    after: str = ""
    key: str = "arguments"
    quote: str = ""
    head: str = ""
    tail: str = ""
    between: str = ""
    pair: tuple[str, str] = ("", "")
    heads: tuple[str, ...] = ()
    around_id: tuple[str, str] = ("", "")
    is_loose: bool = False


@dataclass(frozen=True, slots=True)
class ToolFormat:
    """The tool-call format of one model family.

    ``bare`` reads formats that need no delimiter, at the beginning of an answer; ``inner`` are delimiters within calls.
    """

    name: str
    marks: tuple[Delimiter, ...]
    writing: CallSyntax
    bare: tuple[ReaderKind, ...] = ()
    inner: frozenset[str] = frozenset()
    has_short_ids: bool = False

    def new_id(self) -> str:
        """Return an id for a call; Mistral's templates take nine alphanumeric characters."""
        return secrets.token_hex(5)[:9] if self.has_short_ids else f"call_{secrets.token_hex(12)}"

    @property
    def spellings(self) -> frozenset[str]:
        """All delimiters: a tokenizer may have special tokens for them."""
        return self.inner | frozenset(text for mark in self.marks for text in (mark.opening, mark.closing) if text)

    def find(self, text: str, *, is_first: bool) -> tuple[int, str | None]:
        """Return the index of the next opening delimiter, and that; or up to where there is none, and ``None``.

        The empty delimiter stands before a format that needs none.
        """
        if is_first and self.bare:
            begun = text.lstrip()
            if begun[:1] in ("{", "["):
                return len(text) - len(begun), ""
        found = [(at, mark.opening) for mark in self.marks if (at := text.find(mark.opening)) >= 0]
        if found:
            return min(found, key=lambda one: (one[0], -len(one[1])))
        held = max((overlap(text, mark.opening) for mark in self.marks), default=0)
        return len(text) - held, None

    def readers(self, opening: str, ledger: CallState) -> list[CallReader]:
        """Return the readers of the formats that may follow an opening delimiter."""
        if not opening:
            return [kind(ledger, "") for kind in self.bare]
        mark = next(one for one in self.marks if one.opening == opening)
        return [kind(ledger, mark.closing) for kind in mark.readers]


_TAGGED = Delimiter("<tool_call>", "</tool_call>")

HERMES = ToolFormat("hermes", (_TAGGED,), CallSyntax(Shape.OBJECT, "<tool_call>", "</tool_call>"))
SMOLLM = ToolFormat("smollm", (_TAGGED, Delimiter("<code>", "</code>", (PythonCalls,))), HERMES.writing)
LLAMA = ToolFormat(
    "llama",
    (Delimiter("<|python_tag|>", "", (JsonCalls, PythonCalls)),),
    CallSyntax(Shape.OBJECT, key="parameters"),
    bare=(JsonCalls, PythonCalls),
)
LLAMA_PYTHON = ToolFormat("llama-python", LLAMA.marks, CallSyntax(Shape.PYTHON), bare=(JsonCalls, PythonCalls))
MISTRAL = ToolFormat(
    "mistral",
    (Delimiter("[TOOL_CALLS]", "", (JsonCalls, NamedCalls)),),
    CallSyntax(Shape.LIST, "[TOOL_CALLS]", around_id=(', "id": "', '"')),
    inner=frozenset({"[ARGS]", "[CALL_ID]"}),
    has_short_ids=True,
)
MISTRAL_NAMED = ToolFormat(
    "mistral-named",
    MISTRAL.marks,
    CallSyntax(Shape.NAMED, "[TOOL_CALLS]", "[ARGS]", around_id=("[CALL_ID]", "")),
    inner=MISTRAL.inner,
    has_short_ids=True,
)
_PHI_MARKS = (Delimiter("<|tool_call|>", "<|/tool_call|>"), Delimiter("functools", ""))
PHI = ToolFormat("phi", _PHI_MARKS, CallSyntax(Shape.LIST, "<|tool_call|>", "<|/tool_call|>"))
PHI_FUNCTOOLS = ToolFormat("phi-functools", _PHI_MARKS, CallSyntax(Shape.LIST, "functools"))
GRANITE = ToolFormat("granite", (Delimiter("<|tool_call|>", ""), _TAGGED), CallSyntax(Shape.LIST, "<|tool_call|>"))
_FENCES = (
    Delimiter("```tool_code", "```", (PythonCalls, JsonCalls)),
    Delimiter("```tool_call", "```"),
    Delimiter("```json", "```"),
)
GEMMA = ToolFormat("gemma", _FENCES, CallSyntax(Shape.OBJECT, key="parameters"), bare=(JsonCalls, PythonCalls))
GEMMA_PYTHON = ToolFormat("gemma-python", _FENCES, CallSyntax(Shape.PYTHON), bare=(JsonCalls, PythonCalls))
FUNCTION_GEMMA = ToolFormat(
    "function-gemma",
    (Delimiter("<start_function_call>", "<end_function_call>", (GemmaCalls,)),),
    CallSyntax(Shape.GEMMA, "<start_function_call>", "<end_function_call>", quote=GemmaCalls.quote),
    inner=frozenset({GemmaCalls.quote}),
)
GEMMA4 = ToolFormat(
    "gemma4",
    (Delimiter("<|tool_call>", "<tool_call|>", (Gemma4Calls,)),),
    CallSyntax(Shape.GEMMA, "<|tool_call>", "<tool_call|>", quote=Gemma4Calls.quote),
    inner=frozenset({Gemma4Calls.quote}),
)
