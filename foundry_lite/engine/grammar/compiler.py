"""Grammar compiler for answers of a required format: which tokens may come next, by llguidance.

A grammar is compiled once, beside the intake thread (`compile_queue`), and kept for the next requests; each answer
has a `Constraint` of its own. Whoever may send requests may send a hostile grammar, so texts, parsers, time and what is
kept are bounded. Limits that the library sets itself do not cover all of it (its recursion overflows the stack, its
arithmetic has no fuel), which is why compiling has a thread of its own, with a deadline and a large stack. The library
lets go of the interpreter lock while it compiles.
"""

from __future__ import annotations

import hashlib
import json
import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from llguidance import LLMatcher, LLParserLimits, LLTokenizer
from numpy.typing import NDArray

from foundry_lite.engine.grammar.answer import Frame, as_source, write_answer
from foundry_lite.engine.grammar.blame import Part, find_blame, held_schemas, schemas_of
from foundry_lite.engine.grammar.compiled import Compiled, CompiledGrammars
from foundry_lite.engine.grammar.errors import LONGEST_REASON, NotCompiled, failure, reason_of, refusal
from foundry_lite.engine.grammar.json_schema import check_embedded, read_schema
from foundry_lite.engine.grammar.lark import MOST_BYTES
from foundry_lite.engine.reasoning import ReasoningState
from foundry_lite.engine.tool_calls.model_format import ModelFormat
from foundry_lite.errors import InvalidRequest, QueueFull
from foundry_lite.generation import Chat, GenerationRequest, Grammar, GrammarKind

# One blank, or one line end with indentation: JSON as everybody writes it, and no endless white space.
_JSON_OPTIONS = {"whitespace_flexible": True, "whitespace_pattern": r" |\n {0,20}"}

_GRAMMAR_SIZE = 16 << 10  # bytes of UTF-8; 56 KB of rules within rules took 11 s for one mask
_STACK = 64 << 20  # 64 KiB of $refs to $refs overflowed 8 MiB; only what is touched takes memory
_DEADLINE = 2.0  # seconds
_GIVEN_UP = 1  # threads of grammars that took too long, beside which another grammar is compiled

_LIMITS: dict[str, Any] = {
    "max_items_in_row": 1_000,  # 250 optional properties; the work of ambiguous grammars grows with its square
    "step_max_items": 10_000,
    "step_lexer_fuel": 100_000,  # 7 ms, by the library's own figure
    "verbose_errors": False,  # they would quote the answer
}


class Constraint:
    """Constraint on one answer: the tokens that may come next. ``param`` is the request field that errors name."""

    def __init__(self, compiled: Compiled, vocabulary: int, width: int, param: str) -> None:
        self.param = param
        self._compiled = compiled
        self._matcher = compiled.matcher.deep_copy()
        self._vocabulary = vocabulary
        self._words = np.zeros(-(-width // 32), np.int32)

    def copy(self) -> Constraint:
        """Return a constraint for another answer, which has not begun."""
        return Constraint(self._compiled, self._vocabulary, 32 * len(self._words), self.param)

    def mask(self) -> NDArray[np.int32]:
        """Compute which tokens may come next: bit i of word w is token 32 w + i. Valid until the next call.

        Computed when it is asked for: a second thread that did it while the model runs made every step slower, on two
        cores (docs/grammars.md).
        """
        began = time.monotonic()
        self._matcher.unsafe_compute_mask_ptr(self._words.ctypes.data, self._words.nbytes)
        self._compiled.seconds += time.monotonic() - began
        if self._matcher.is_error():  # perhaps of what all copies share
            self._compiled.seconds = math.inf
        return self._words[: -(-self._vocabulary // 32)]

    def take(self, token: int) -> None:
        """Go on behind ``token``, which the mask allowed."""
        self._matcher.consume_token(token)

    @property
    def is_over(self) -> bool:
        """Return whether the grammar allows nothing more but the end."""
        return self._matcher.is_stopped() and not self._matcher.is_error()

    @property
    def error(self) -> str | None:
        """Return why this answer cannot go on, or ``None``."""
        return reason_of(self._matcher.get_error()) if self._matcher.is_error() else None


class GrammarCompiler:
    """Compiler of one model's grammars. Not thread-safe: `compile` and `constrain` belong to the compiling thread.

    ``vocabulary`` is the width of the logits. The tokenizer is read when the first grammar comes: 0.6 to 1.2 s and
    150 MB with 150,000 tokens, during which the interpreter lock is held. ``deadline`` is in seconds.
    """

    def __init__(self, folder: Path, vocabulary: int, eos_ids: frozenset[int], *, deadline: float = _DEADLINE) -> None:
        self._path = folder / "tokenizer.json"
        self._vocabulary = vocabulary
        self._eos_ids = sorted(eos_ids)
        self._deadline = deadline
        self._kept = CompiledGrammars()
        self._given_up: list[threading.Thread] = []

    def compile(self, grammar: Grammar) -> Constraint:
        """Return the constraint of one answer.

        Raises `InvalidRequest` for what cannot be enforced or is too complex, and `QueueFull` while grammars that
        took too long still occupy the cores.
        """
        try:
            return self._constraint(_source(grammar), grammar.param)
        except NotCompiled as error:
            raise self._named(error, schemas_of(grammar)) from error

    def find(self, request: GenerationRequest, stage: ReasoningState | None) -> Constraint | None:
        """Return the constraint of an answer whose grammar is compiled already; takes no time worth mentioning."""
        compiled = self._kept.by_key(_key(request, stage))
        if compiled is None:
            return None
        return Constraint(compiled, self._vocabulary, self._tokenizer.vocab_size, _param(request))

    def constrain(
        self, request: GenerationRequest, voice: ModelFormat, stage: ReasoningState | None
    ) -> Constraint | None:
        """Return what holds the answer of a model to what a request demands of it, or ``None``. Raises as `compile`.

        ``stage`` is where the answer begins; ``None`` outside a conversation.
        """
        try:
            source = self._write(request, voice, stage)
            if source is None:
                return None
            constraint = self._constraint(source, _param(request))
        except NotCompiled as error:
            raise self._named(error, held_schemas(request)) from error
        self._kept.name(_key(request, stage), source)
        return constraint

    def _write(self, request: GenerationRequest, voice: ModelFormat, stage: ReasoningState | None) -> str | None:
        """Return the grammar of all that a request demands, in the library's own format."""
        whole = None if request.grammar is None else _source(request.grammar)
        form = None if whole is None else json.loads(whole)["grammars"][0]
        grammars = write_answer(request, form, Frame(voice, stage, _JSON_OPTIONS))
        if not grammars:
            return whole
        _check_size(grammars[0]["lark_grammar"], MOST_BYTES, "tools")
        return as_source(grammars)

    def _named(self, error: InvalidRequest, parts: Iterator[Part]) -> InvalidRequest:
        """Return the error with the tool, keyword and path that it is about, where they are found in time."""
        tokenizer, found = self._tokenizer, list[InvalidRequest]()
        until = time.monotonic() + self._deadline

        def fails(schema: Any) -> str | None:
            if time.monotonic() > until:
                raise TimeoutError
            return _why_not(schema, tokenizer)

        def search() -> None:
            with suppress(TimeoutError, RecursionError):
                for part in parts:
                    if blame := find_blame(part.schema, fails):
                        found.append(refusal(f"{part.name}{blame}", part.param))
                        return

        self._finishes(search)
        return found[0] if found else refusal(error.message, str(error.param))

    def _constraint(self, source: str, param: str) -> Constraint:
        compiled = self._kept.by_source(source) or self._compile(source, param)
        self._kept.keep(source, compiled)
        return Constraint(compiled, self._vocabulary, self._tokenizer.vocab_size, param)

    def _compile(self, source: str, param: str) -> Compiled:
        """Compile and compute the first masks, which show what compiling leaves for later."""
        tokenizer = self._tokenizer
        self._given_up = [thread for thread in self._given_up if thread.is_alive()]
        if len(self._given_up) > _GIVEN_UP:
            reason = f"{len(self._given_up)} grammars that took too long are still being given up"
            raise QueueFull(reason, retry_after=5, hint="Try again, or use a simpler grammar.")
        matchers: list[LLMatcher] = []
        began = time.monotonic()

        def build() -> None:
            matcher = LLMatcher(tokenizer, source, log_level=0, limits=LLParserLimits(**_LIMITS))
            matchers.extend((matcher, _probe(matcher)))

        if not self._finishes(build):
            raise refusal(f"the grammar is too complex: it did not compile within {self._deadline:g} s", param)
        if not matchers:
            raise failure("the library failed", param)
        matcher, probe = matchers
        _refuse_flaws(probe, param)
        return Compiled(matcher, time.monotonic() - began)

    def _finishes(self, work: Callable[[], None]) -> bool:
        """Run what may take long; return whether it ended in time. If not, it is given up and still runs a while."""
        unfinished = _run(work, self._deadline)
        if unfinished is not None:
            self._given_up.append(unfinished)
        return unfinished is None

    @cached_property
    def _tokenizer(self) -> LLTokenizer:
        text = self._path.read_text(encoding="utf-8")
        eos_ids = self._eos_ids or None
        try:
            try:
                return LLTokenizer(text, n_vocab=self._vocabulary, eos_token=eos_ids)
            except ValueError as error:
                if "vocab size too small" not in str(error):
                    raise
                return LLTokenizer(text, eos_token=eos_ids)  # Gemma 3 has a token more than logits
        except ValueError as error:
            reason = f"answers of this model cannot be held to a form, because of its tokenizer: {error}"
            raise InvalidRequest(reason[:LONGEST_REASON], code="invalid_grammar") from error


def _param(request: GenerationRequest) -> str:
    """Return the field that errors of a request's grammar name."""
    return "tools" if request.grammar is None else request.grammar.param


def _key(request: GenerationRequest, stage: ReasoningState | None) -> bytes:
    """Return a key that distinguishes the grammars of one model: all of a request that one is written from."""
    prompt = request.prompt
    tools = prompt.tools if isinstance(prompt, Chat) else None
    parts = (request.grammar, tools, request.tool_choice, None if stage is None else stage.name)
    return hashlib.blake2b(msgspec.msgpack.encode(parts)).digest()


def _run(work: Callable[[], None], seconds: float) -> threading.Thread | None:
    """Run ``work`` in a thread with a large stack; return the thread if it has not ended in time."""
    usual = threading.stack_size(_STACK)
    try:
        thread = threading.Thread(target=work, name="grammar", daemon=True)
        thread.start()
    finally:
        threading.stack_size(usual)
    thread.join(seconds)
    return thread if thread.is_alive() else None


def _why_not(schema: Any, tokenizer: LLTokenizer) -> str | None:
    """Return why a schema cannot be compiled by itself, or ``None``."""
    try:
        source = LLMatcher.grammar_from_json_schema(json.dumps(schema), overrides=_JSON_OPTIONS)
        probe = _probe(LLMatcher(tokenizer, source, log_level=0, limits=LLParserLimits(**_LIMITS)))
    except ValueError as error:
        return reason_of(str(error))
    warnings = probe.get_grammar_warnings()
    return reason_of(probe.get_error() if probe.is_error() else warnings[0]) if probe.is_error() or warnings else None


def _probe(matcher: LLMatcher) -> LLMatcher:
    """Return a copy that has computed a mask at the start, and one behind what every answer begins with."""
    probe = matcher.deep_copy()
    probe.compute_bitmask()
    probe.consume_tokens(probe.compute_ff_tokens())
    probe.compute_bitmask()
    return probe


def _source(grammar: Grammar) -> str:
    """Return a grammar in the library's own format. Raises `InvalidRequest`."""
    text, param = grammar.text, grammar.param
    match grammar.kind:
        case GrammarKind.JSON_OBJECT:
            return _schema_source('{"type": "object"}', param)
        case GrammarKind.JSON_SCHEMA:
            _check_size(text, MOST_BYTES, param)
            return _schema_source(read_schema(text, param), param)
        case GrammarKind.REGEX:
            _check_size(text, _GRAMMAR_SIZE, param)
            return str(LLMatcher.grammar_from_regex(text))
        case GrammarKind.LARK:
            _check_size(text, _GRAMMAR_SIZE, param)
            check_embedded(text, param)
            return _lark_source(text)


def _schema_source(text: str, param: str) -> str:
    try:
        return str(LLMatcher.grammar_from_json_schema(text, overrides=_JSON_OPTIONS))
    except ValueError as error:
        raise failure(str(error), param) from error


def _lark_source(text: str) -> str:
    """Wrap a Lark grammar: bare, the library would take one that is JSON for its own format, with schemas unchecked."""
    return json.dumps({"grammars": [{"lark_grammar": text}]})


def _check_size(text: str, limit: int, param: str) -> None:
    size = len(text.encode(errors="replace"))
    if size > limit:
        raise refusal(f"the grammar has {size} bytes; it may have {limit}", param)


def _refuse_flaws(matcher: LLMatcher, param: str) -> None:
    """Raise `InvalidRequest` when the library failed, or would have passed over a part."""
    if matcher.is_error():
        raise failure(matcher.get_error(), param)
    warnings = matcher.get_grammar_warnings()
    if warnings:
        raise failure(warnings[0], param)
