"""How one model speaks: its family's calls, and the tags of its thoughts."""

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
    """What a card says of it."""

    dialect: str = ""


@dataclass(frozen=True, slots=True)
class ModelFormat:
    """``tags`` is ``None`` for a model that does not think aloud; ``tokens`` are the added tokens, with their ids."""

    dialect: ToolFormat
    tags: Tags | None
    tokens: Mapping[str, int]

    @property
    def spellings(self) -> frozenset[str]:
        """The marks of calls and thoughts: they belong to the text of an answer, be they special tokens or not."""
        tags = frozenset[str]() if self.tags is None else frozenset(self.tags) - {"", self.tags.title}
        return self.dialect.spellings | tags

    def stage(self, prompt_end: str) -> ReasoningState:
        """Say where the answer to a prompt begins, whose last characters these are."""
        return ReasoningState.OVER if self.tags is None else stage_of(prompt_end, self.tags)

    def thoughts(self, stage: ReasoningState | None) -> Splitter | None:
        """Return what takes the thoughts out of an answer; ``None`` for what is no answer in a conversation."""
        if self.tags is None or stage is None:
            return None
        return ChannelSplitter(stage) if self.tags is CHANNELS else ReasoningParser(self.tags, stage)


def find_voice(folder: Path, template: str, tokens: Mapping[str, int], *, without_tools: str = "") -> ModelFormat:
    """Return how the model in ``folder`` speaks: as its card says, else as its template and its tokens tell.

    ``template`` is the one for tools; of thoughts, the one for conversations ``without_tools`` may tell alone.
    Raises `LoadFailed` for a card that names no family.
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
