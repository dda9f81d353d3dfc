"""The model's own chat template: code from a stranger, rendered in a sandbox with limits.

Source of the environment: transformers' ``apply_chat_template`` (``trim_blocks``, ``lstrip_blocks``, loop controls,
``tojson`` without HTML escapes, ``raise_exception``, ``strftime_now``). On top: no attribute that reaches Python, a
deadline, and bounds on what it makes (`engine.chat_template.sandbox`).
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable
from datetime import datetime
from types import FrameType, TracebackType
from typing import Any, NoReturn

from jinja2 import Template, TemplateError, meta, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser

from foundry_lite.engine.chat_template.context import (
    Guarding,
    Writer,
    ease,
    message_values,
    tell_in_system,
    thought_keys,
    tojson,
    tool_values,
    without_developers,
)
from foundry_lite.engine.chat_template.sandbox import Sandbox
from foundry_lite.engine.chat_template.template_kwargs import read_variables
from foundry_lite.errors import InvalidRequest, LoadFailed
from foundry_lite.generation import Chat

_DEADLINE = 0.8  # seconds; a real template takes about a millisecond
_COMPILED = "<template>"  # what Jinja calls the file of its Python
_QUOTED = 120  # characters of a line
_NAMED_TOKENS = frozenset(f"{name}_token" for name in ("bos", "eos", "unk", "pad", "sep", "cls", "mask"))
_XML_TOOLS = "xml_tools"  # what SmolLM3 calls those that are called in JSON
_DEVELOPER = re.compile(r"['\"]developer['\"]")
_TOOLS_IN_SYSTEM = re.compile(r"message(?:\.tools\b|\[['\"]tools['\"]\])")  # as Phi's templates have them

_HALVES = re.compile("[\ud800-\udfff]")  # of surrogate pairs: JSON within JSON can spell them, no tokenizer takes them

_COMPLAINTS = (  # all that code which reaches nothing can raise
    *(TemplateError, TypeError, ValueError, LookupError, AttributeError, NameError, ArithmeticError, AssertionError),
    *(RuntimeError, OSError, MemoryError),
)


class ChatTemplate:
    """A model's chat template. Raises `LoadFailed` when it is no valid Jinja.

    ``shows_tools`` says whether it has a place for tools, ``tells_calls`` whether it has one for calls in the history.
    """

    def __init__(self, source: str, special_tokens: dict[str, str]) -> None:
        self._environment = environment = Sandbox(
            trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
        )
        environment.add_filter("tojson", tojson)
        environment.globals["raise_exception"] = _raise_exception
        environment.globals["strftime_now"] = datetime.now().strftime
        self._special_tokens = special_tokens
        self._lines = source.splitlines()
        self._thoughts = thought_keys(source)
        try:
            self._template = environment.from_string(source)
            self._names = frozenset(meta.find_undeclared_variables(environment.parse(source)))
        except (TemplateError, RecursionError, SyntaxError, MemoryError) as error:  # too many loops in each other, …
            raise LoadFailed(f"the chat template is no valid Jinja: {error}") from error
        self._tools = "tools" if "tools" in self._names or _XML_TOOLS not in self._names else _XML_TOOLS
        self._has_tools_in_system = self._tools not in self._names and _TOOLS_IN_SYSTEM.search(source) is not None
        self.shows_tools = self._tools in self._names or self._has_tools_in_system
        self.tells_calls = "tool_calls" in source
        self._knows_developers = _DEVELOPER.search(source) is not None

    def render(self, chat: Chat, guard: Guarding, write: Writer | None = None) -> str:
        """Render the prompt, the assistant's turn opened.

        ``guard`` is applied to every text that the caller of the API wrote, with the role that it stands under.
        ``write`` makes text of calls, for a template that renders none.
        Raises `InvalidRequest` quoting the template's own complaint, or the line where it was stopped after
        four fifths of a second; and for variables that it does not take.
        """
        try:
            return _HALVES.sub("\N{REPLACEMENT CHARACTER}", self._render(chat, guard, write))
        except RecursionError as error:
            where = self._quote(_line_of(error.__traceback__))
            raise InvalidRequest(
                f"the model's chat template recurses without end, or the messages are nested too deeply{where}",
                "messages",
            ) from error
        except _COMPLAINTS as error:
            raise InvalidRequest(f"the model's chat template refuses these messages: {error}", "messages") from error

    def _render(self, chat: Chat, guard: Guarding, write: Writer | None) -> str:
        """Render; once more with less to stumble over, where calls have no text beside them, or thoughts and text."""
        names = self._given(chat, guard, write)
        deadline = time.monotonic() + _DEADLINE
        try:
            return self._before(deadline, lambda: self._template.render(**names))
        except (TemplateError, TypeError):
            if not ease(names["messages"]):
                raise
        return self._before(deadline, lambda: self._template.render(**names))

    def _given(self, chat: Chat, guard: Guarding, write: Writer | None) -> dict[str, Any]:
        """Return all that the template is given by name."""
        messages = chat.messages if self._knows_developers else without_developers(chat.messages)
        ours: dict[str, Any] = {
            "messages": [message_values(one, guard, self._thoughts, write) for one in messages],
            self._tools: None if chat.tools is None else [tool_values(one, guard) for one in chat.tools],
            "add_generation_prompt": True,
            **self._special_tokens,
        }
        if self._has_tools_in_system and ours[self._tools]:
            tell_in_system(ours["messages"], ours[self._tools])
        reserved = {*ours, *_NAMED_TOKENS, *self._template.environment.globals}
        return {**read_variables(chat, self._names, reserved, guard), **ours}

    def _before(self, deadline: float, render: Callable[[], str]) -> str:
        """Run ``render``; stop it when its time is over, even in a loop that builds nothing.

        A trace function sees every line of the template's own compiled Python, and every function that it calls in
        turn; what those do between calls is bounded by the sandbox. Only this thread is traced.
        """

        def trace(frame: FrameType, _event: str, _argument: object) -> Any:
            if time.monotonic() > deadline:
                where = self._quote(_line_in(frame))
                raise InvalidRequest(
                    f"the model's chat template took more than {_DEADLINE:g} s and was stopped{where}", "messages"
                )
            return trace if frame.f_code.co_filename == _COMPILED else None

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            return render()
        finally:
            sys.settrace(before)
            self._environment.forget()

    def _quote(self, number: int | None) -> str:
        """Quote a line of the template, for the end of a sentence."""
        if number is None or not 0 < number <= len(self._lines):
            return ""
        return f" at line {number}: {self._lines[number - 1].strip()[:_QUOTED]}"


class _Generation(Extension):
    """``{% generation %}``: transformers marks the assistant's text with it for training; here it is transparent."""

    tags = {"generation"}

    def parse(self, parser: Parser) -> nodes.Node | list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _line_in(frame: FrameType | None) -> int | None:
    """Return the line of the template that a frame of its Python, or one called from there, is at."""
    while frame is not None:
        template = frame.f_globals.get("__jinja_template__")
        if isinstance(template, Template):
            return template.get_corresponding_lineno(frame.f_lineno)
        frame = frame.f_back
    return None


def _line_of(trace: TracebackType | None) -> int | None:
    """Return the last line of the template in a traceback, which Jinja has rewritten to its lines."""
    line = None
    while trace is not None:
        if "__jinja_exception__" in trace.tb_frame.f_globals:
            line = trace.tb_lineno
        trace = trace.tb_next
    return line


def _raise_exception(message: str) -> NoReturn:
    raise TemplateError(message)
