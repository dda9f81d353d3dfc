"""A model's card: what a person wants to know of it before using it, in TOML.

A card travels with its artifact (``card.toml``); those of the models that we ship also stand in ``model_cards/``.
Every figure in a card is an `Evidence`: a number nobody measured cannot be written down.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Any

import msgspec
import tomli_w
from msgspec import Struct

from foundry_lite.catalog.recipe import Recipe
from foundry_lite.errors import DamagedArtifact


class Evidence(Struct, frozen=True, omit_defaults=True):
    """One measured figure: what it is, its unit, when and by what command, with which versions."""

    metric: str
    value: float
    unit: str
    date: str
    command: str
    samples: int | None = None
    machine: str | None = None
    versions: dict[str, str] = {}


class Defaults(Struct, frozen=True, omit_defaults=True):
    """What holds when a request says nothing: the model's own ``generation_config.json``, else OpenAI's defaults."""

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    reproducible: bool = False  # the same request with the same seed gives the same tokens, at a cost in speed


class Task(StrEnum):
    """What a model is for."""

    GENERATE = "generate"
    EMBED = "embed"
    RERANK = "rerank"


class Card(Struct, frozen=True, omit_defaults=True):
    """What a model is, where it comes from, how this variant was built and what was measured of it."""

    name: str
    architecture: str
    parameters: int
    context_length: int
    source: str
    recipe: Recipe
    task: Task = Task.GENERATE
    description: str = ""
    license: str = "unknown"
    defaults: Defaults = Defaults()
    limits: str = ""
    evidence: tuple[Evidence, ...] = ()


def read_card(path: Path) -> Card:
    """Read a card. Raises `DamagedArtifact` naming the field that is wrong."""
    try:
        return msgspec.toml.decode(path.read_bytes(), type=Card)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DamagedArtifact(f"{path.name}: {error}", hint="Import the model again with --force.") from error


def format_card(card: Card) -> str:
    """Return the card as TOML."""
    return tomli_w.dumps(_without_none(msgspec.to_builtins(card)), multiline_strings=True)


def _without_none(value: Any) -> Any:
    # TOML has no null: what is not there is not written.
    if isinstance(value, dict):
        return {key: _without_none(one) for key, one in value.items() if one is not None}
    if isinstance(value, list | tuple):
        return [_without_none(one) for one in value]
    return value
