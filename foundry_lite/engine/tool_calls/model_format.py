"""Model format: the tool-call format of a model's family, and its reasoning tags."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec
from msgspec import Struct

from foundry_lite.engine.reasoning import ReasoningParser, ReasoningState, Tags, stage_of
from foundry_lite.engine.tool_calls.detect import DIALECTS, recognise, recognise_thoughts
from foundry_lite.engine.tool_calls.formats import ToolFormat
from foundry_lite.engine.tool_calls.harmony import CHANNELS, ChannelSplitter
from foundry_lite.errors import LoadFailed

_CARD = "card.toml"

Splitter = ReasoningParser | ChannelSplitter


class _Said(Struct):
    """The tool-call format that a card names; empty where it names none."""

    dialect: str = ""


@dataclass(frozen=True, slots=True)
class ModelFormat:
    """A model's format. ``tags`` is ``None`` for one that does not think; ``tokens`` are the added tokens with ids."""

    dialect: ToolFormat
    tags: Tags | None
    tokens: Mapping[str, int]

    @property
    def spellings(self) -> frozenset[str]:
        """The delimiters of calls and thoughts: they belong to the text of an answer, be they special tokens or not."""
        tags = frozenset[str]() if self.tags is None else frozenset(self.tags) - {"", self.tags.title}
        return self.dialect.spellings | tags

    def stage(self, prompt_end: str) -> ReasoningState:
        """Return the reasoning state in which the answer to a prompt begins, whose last characters these are."""
        return ReasoningState.OVER if self.tags is None else stage_of(prompt_end, self.tags)

    def thoughts(self, stage: ReasoningState | None) -> Splitter | None:
        """Return a parser of an answer's reasoning; ``None`` for a model without tags, or outside a conversation."""
        if self.tags is None or stage is None:
            return None
        return ChannelSplitter(stage) if self.tags is CHANNELS else ReasoningParser(self.tags, stage)


def find_voice(folder: Path, template: str, tokens: Mapping[str, int], *, without_tools: str = "") -> ModelFormat:
    """Return the format of the model in ``folder``: the one on its card, else that of its template and tokens.

    ``template`` is the one for tools; reasoning tags may be found in the one for conversations ``without_tools`` alone.
    Raises `LoadFailed` for a card that names an unknown format or cannot be read.
    """
    said = _read_dialect(folder / _CARD)
    if said and said not in DIALECTS:
        raise LoadFailed(f"{_CARD}: there is no dialect {said!r}", hint=f"There are: {', '.join(DIALECTS)}.")
    dialect = DIALECTS[said] if said else recognise(template, tokens)
    tags = recognise_thoughts(dialect, template, tokens) or recognise_thoughts(dialect, without_tools, tokens)
    return ModelFormat(dialect, tags, tokens)


def _read_dialect(path: Path) -> str:
    try:
        return msgspec.toml.decode(path.read_bytes(), type=_Said).dialect
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError, msgspec.DecodeError) as error:
        raise LoadFailed(f"{path.name} cannot be read: {error}") from error
