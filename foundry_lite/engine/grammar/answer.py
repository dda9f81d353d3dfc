"""Grammar of a whole answer: thoughts first, then tool calls, a required format, or free text.

- A forced call, or a required format, begins behind the thoughts of a model that thinks.
- Where tools may be called and a format is required, the answer is calls, or has the format.
- Where a ``strict`` tool may be called, text is free up to a call, which fits the tool's schema.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from foundry_lite.engine.grammar.lark import Marks, pattern, without
from foundry_lite.engine.grammar.tool_calls import write_calls
from foundry_lite.engine.reasoning import ReasoningState, Tags
from foundry_lite.engine.tool_calls.formats import CallSyntax, ToolFormat
from foundry_lite.engine.tool_calls.harmony import CHANNELS, COMMENTARY, START
from foundry_lite.engine.tool_calls.model_format import ModelFormat
from foundry_lite.errors import InvalidRequest
from foundry_lite.generation import Chat, GenerationRequest, Tool, ToolMode

_SPACE = r"/[ \n]{0,2}/"  # before a forced call: some templates begin a turn with a line end, or a blank


@dataclass(frozen=True, slots=True)
class Frame:
    """Context of an answer's grammar: the model format, the reasoning state at its start, ``options`` of schemas."""

    voice: ModelFormat
    stage: ReasoningState | None
    options: dict[str, Any]

    @property
    def marks(self) -> Marks:
        """The family's delimiters that are tokens; a tokenizer may have thousands of others."""
        tokens = self.voice.tokens
        return Marks({mark: tokens[mark] for mark in self.voice.spellings if mark in tokens})

    @property
    def lead(self) -> str:
        """Return the symbols that stand before the text of an answer in channels."""
        return f"{self.marks.write(CHANNELS.answer)} " if self.is_in_channels else ""

    @property
    def is_in_channels(self) -> bool:
        return self.voice.tags is CHANNELS and self.stage is not None


def write_answer(request: GenerationRequest, form: dict[str, Any] | None, frame: Frame) -> list[dict[str, Any]]:
    """Return grammars, of which the first is that of the answer; none where ``form``, if any, is all of it.

    ``form`` is the required format, as llguidance's own grammar. Raises `InvalidRequest` for what cannot be enforced.
    """
    tools = _tools(request)
    rules = _write_body(tools, request, form, frame)
    thoughts, begins = _write_thoughts(frame)
    if not rules or (form is not None and not tools and not thoughts):
        return []
    lark = "\n".join([f"start: {begins} body", *thoughts, *rules])
    return [{"lark_grammar": lark}] + ([] if form is None else [{**form, "name": "answer"}])


def is_free(request: GenerationRequest) -> bool:
    """Return whether no format of the answer is required, so that `write_answer` would write nothing."""
    if request.grammar is not None or request.tool_choice.mode is ToolMode.REQUIRED:
        return False
    return not held_tools(request)


def held_tools(request: GenerationRequest) -> tuple[Tool, ...]:
    """Return the tools whose parameters are held to in an answer: all that may be forced, else the strict ones."""
    tools = _tools(request)
    return tools if request.tool_choice.mode is ToolMode.REQUIRED else tuple(tool for tool in tools if tool.strict)


def _tools(request: GenerationRequest) -> tuple[Tool, ...]:
    """Return those that may be called."""
    prompt, choice = request.prompt, request.tool_choice
    if not isinstance(prompt, Chat) or choice.mode is ToolMode.NONE:
        return ()
    tools = tuple(tool for tool in prompt.tools or () if not choice.names or tool.name in choice.names)
    if choice.mode is ToolMode.REQUIRED and not tools:
        raise InvalidRequest("a tool must be called, and there is none to choose from", "tool_choice")
    return tools


def _write_body(
    tools: tuple[Tool, ...], request: GenerationRequest, form: dict[str, Any] | None, frame: Frame
) -> list[str]:
    choice, dialect = request.tool_choice, frame.voice.dialect
    if choice.mode is ToolMode.REQUIRED:
        return [
            f"body: {'' if frame.is_in_channels else _SPACE} calls",
            *_calls(tools, dialect.writing, request, frame),
        ]
    if form is not None:
        if not tools:
            return [f"body: {frame.lead}@answer"]
        assert request.grammar is not None
        writing = _told_apart(dialect, frame.marks, request.grammar.param)
        return [f"body: calls | {frame.lead}@answer", *_calls(_loosened(tools), writing, request, frame)]
    if not any(tool.strict for tool in tools):
        return []
    rules, opening = (_write_messages(frame), None) if frame.is_in_channels else _write_free(dialect, frame.marks)
    return [*rules, *_calls(_loosened(tools), dialect.writing, request, frame, opening)]


def _calls(
    tools: tuple[Tool, ...], writing: CallSyntax, request: GenerationRequest, frame: Frame, opening: str | None = None
) -> list[str]:
    is_parallel = request.tool_choice.is_parallel
    return write_calls(tools, writing, frame.marks, frame.options, is_parallel=is_parallel, opening=opening)


def _loosened(tools: tuple[Tool, ...]) -> tuple[Tool, ...]:
    """Return the tools, any arguments allowed to those that are not strict."""
    return tuple(tool if tool.strict else msgspec.structs.replace(tool, parameters=None) for tool in tools)


def _told_apart(dialect: ToolFormat, marks: Marks, param: str) -> CallSyntax:
    """Return a call syntax that an answer in another format cannot be mistaken for."""
    if dialect.writing.before or dialect.writing.head:
        return dialect.writing
    mark = next((mark for mark in dialect.marks if mark.opening in marks), None)
    if mark is None:
        reason = f"'{param}': calls of this model's family could not be told from an answer of that form"
        raise InvalidRequest(f"{reason} beside 'tools'", param, "unsupported_parameter")
    return replace(dialect.writing, before=mark.opening, after=mark.closing)


def _write_free(dialect: ToolFormat, marks: Marks) -> tuple[list[str], str | None]:
    """Return rules for free text with calls in it, or for calls that stand alone, and what opens a call.

    A delimiter that is no token is found by a lexeme that ends with it: up to there, all is text.
    """
    openings = [mark.opening for mark in dialect.marks]
    before = dialect.writing.before
    if not before:
        first = r"\s*[^\s{\[](?s:.*)"
        return ["body: calls | TEXT?", f"TEXT: {without(openings, first)}"], None
    text = f"TEXT: {without(openings, '(?s:.+)')}"
    if marks.begins(before):
        return ["body: (TEXT? calls)* TEXT?", text], None
    others = without((one for one in openings if one != before), f"(?s:.*){pattern(before)}")
    return ["body: calls* TEXT?", text, "head[lazy]: HEAD", f"HEAD: {others}"], "head"


def _write_messages(frame: Frame) -> list[str]:
    """Return rules for an answer in channels: perhaps a message that says what comes, then calls or text."""
    commentary = frame.marks.write(COMMENTARY)
    rules = ["body: said? (calls | text)", f"said: {commentary} TEXT {_write_turn(frame.marks)}"]
    return [*rules, f"text: {frame.lead}TEXT?", "TEXT: /(?s:.+)/"]


def _write_turn(marks: Marks) -> str:
    """Return the symbols between two messages of an answer in channels."""
    return marks.write(CHANNELS.closing + START)


def _write_thoughts(frame: Frame) -> tuple[list[str], str]:
    """Return the rules of thoughts, and how an answer begins."""
    tags = frame.voice.tags
    if tags is None or frame.stage not in (ReasoningState.FREE, ReasoningState.INSIDE):
        return [], ""
    if frame.is_in_channels:
        rules = [f"thoughts: THOUGHT {_write_turn(frame.marks)}", f"THOUGHT: {without([tags.closing])}"]
    else:
        rules = _write_end(tags, frame.marks)
    if frame.stage is ReasoningState.INSIDE:
        return rules, "thoughts"
    return [*rules, f"opened: /\\s{{0,8}}/ {frame.marks.write(tags.opening)} thoughts"], "opened?"


def _write_end(tags: Tags, marks: Marks) -> list[str]:
    if tags.closing in marks:
        return [f"thoughts: THOUGHT {marks.write(tags.closing)} /\\s{{0,8}}/", f"THOUGHT: {without([tags.closing])}"]
    return ["thoughts: thought /\\s{0,8}/", f"thought[lazy]: /(?s:.*){pattern(tags.closing)}/"]


def as_source(grammars: list[dict[str, Any]]) -> str:
    """Return grammars in the library's own format."""
    return json.dumps({"grammars": grammars})
