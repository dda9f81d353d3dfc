"""The text of one answer: tokens in, and out of them text, reasoning and tool calls."""

from __future__ import annotations

from foundry_lite.engine.reasoning import ReasoningState, Split
from foundry_lite.engine.text.stop_strings import StopMatcher
from foundry_lite.engine.text.tokenizer import Detokenizer
from foundry_lite.engine.tool_calls.model_format import ModelFormat, Splitter
from foundry_lite.engine.tool_calls.parser import OutputPiece, ToolCallParser
from foundry_lite.generation import Chat, GenerationRequest, ToolMode


class OutputProcessor:
    """Tokens in, text out: detokenised, thoughts taken out, cut at a stop string, tool calls taken out of it.

    ``passed`` counts the characters that no stop string can take back any more, ``made`` all of them. Stop strings
    are not looked for in thoughts, nor in the first ``spared`` tokens. ``reasoning_tokens`` are those of the thoughts
    and of the tag that ends them.
    """

    def __init__(
        self,
        detokenizer: Detokenizer,
        stops: tuple[str, ...],
        *,
        tools: ToolCallParser | None = None,
        thoughts: Splitter | None = None,
        spared: int = 0,
    ) -> None:
        self._detokenizer = detokenizer
        self._stops = StopMatcher(stops)
        self._tools = tools
        self._thoughts = thoughts
        self._spared = spared
        self._spoken = 0  # characters of text, before stop strings
        self._shown = 0  # and behind them
        self.made = 0
        self.reasoning_tokens = 0

    def feed(self, token: int) -> OutputPiece:
        """Take one token; return what it adds."""
        piece = self._detokenizer.feed(token)
        self.made += len(piece)
        if self._thoughts is None:
            split = Split(text=piece)
        else:
            thinks = self._thoughts.is_inside
            split = self._thoughts.feed(piece)
            self.reasoning_tokens += thinks or self._thoughts.is_inside
        self._spoken += len(split.text)
        if self._spared > 0:
            self._spared -= 1
            return self._pass(split.text, split.thought)
        return self._pass(self._stops.feed(split.text), split.thought)

    def flush(self) -> OutputPiece:
        """Return what was held back, now that no token follows."""
        rest = self._detokenizer.flush()
        self.made += len(rest)
        split = Split(text=rest)
        if self._thoughts is not None:
            first, last = self._thoughts.feed(rest), self._thoughts.flush()
            split = Split(first.thought + last.thought, first.text + last.text)
        self._spoken += len(split.text)
        parsed = self._pass(self._stops.feed(split.text) + self._stops.flush(), split.thought)
        if self._tools is None:
            return parsed
        held = self._tools.flush()
        return OutputPiece(parsed.text + held.text, parsed.calls + held.calls, parsed.reasoning)

    @property
    def passed(self) -> int:
        held = 0 if self._thoughts is None else self._thoughts.held
        return self.made - held - self._spoken + self._shown

    @property
    def is_stopped(self) -> bool:
        return self._stops.matched or (self._tools is not None and self._tools.is_full)

    @property
    def has_calls(self) -> bool:
        return self._tools is not None and self._tools.found

    def _pass(self, text: str, thought: str) -> OutputPiece:
        self._shown += len(text)
        if self._tools is None:
            return OutputPiece(text, reasoning=thought)
        parsed = self._tools.feed(text)
        return OutputPiece(parsed.text, parsed.calls, thought)


def begin_answer(
    request: GenerationRequest, voice: ModelFormat, stage: ReasoningState | None, detokenizer: Detokenizer
) -> OutputProcessor:
    """Return the empty answer to a request; ``stage`` is where it begins, ``None`` outside a conversation."""
    tools = None
    if isinstance(request.prompt, Chat) and request.prompt.tools:
        names = request.tool_choice.names or tuple(tool.name for tool in request.prompt.tools)
        tools = ToolCallParser(
            voice.dialect,
            frozenset(names),
            schemas={tool.name: tool.parameters for tool in request.prompt.tools},
            is_single=not request.tool_choice.is_parallel,
            is_formatted=request.grammar is not None,
            is_forced=request.tool_choice.mode is ToolMode.REQUIRED,
        )
    return OutputProcessor(
        detokenizer,
        request.stop,
        tools=tools,
        thoughts=voice.thoughts(stage),
        spared=request.sampling.min_tokens or 0,
    )
