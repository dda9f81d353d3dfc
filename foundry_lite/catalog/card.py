"""A model's card: what a person wants to know of it before using it, in TOML.

A card travels with its artifact (``card.toml``); those of the models that we ship also stand in ``model_cards/``.
Every figure in a card is an `Evidence`: a number nobody measured cannot be written down.
"""

from __future__ import annotations

from enum import StrEnum
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec
import tomli_w
from msgspec import Struct

from foundry_lite.catalog.recipe import Recipe
from foundry_lite.catalog.report import Golden
from foundry_lite.errors import DamagedArtifact


class Evidence(Struct, frozen=True, omit_defaults=True):
    """Measured figure of a card: metric, value and unit, with the date, command, machine and versions behind it."""

    metric: str
    value: float
    unit: str
    date: str
    command: str
    samples: int | None = None
    machine: str | None = None
    versions: dict[str, str] = {}


class Defaults(Struct, frozen=True, omit_defaults=True):
    """Default generation parameters: from the model's own ``generation_config.json``, else OpenAI's defaults.

    ``max_new_tokens`` 0 is the end of the context. ``stop`` strings end an answer beside those of a request, and the
    tokens ``suppressed`` are never chosen.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    min_tokens: int = 0
    max_new_tokens: int = 0
    stop: tuple[str, ...] = ()
    suppressed: tuple[int, ...] = ()
    reproducible: bool = False  # the same request with the same seed gives the same tokens, at a cost in speed


class Task(StrEnum):
    """Task of a model: text generation, embedding or reranking."""

    GENERATE = "generate"
    EMBED = "embed"
    RERANK = "rerank"


class Origin(StrEnum):
    """Kind of an ancestor in a model's lineage."""

    BASE = "base"  # the model that an adapter was trained over
    ADAPTER = "adapter"  # merged into the base before it
    SOURCE = "source"  # a model with weights of its own


class Ancestor(Struct, frozen=True, omit_defaults=True):
    """Ancestor in a lineage. ``digest`` is the sha256 over its weights' hashes; ``revision`` a commit of the Hub."""

    origin: Origin
    name: str
    kind: str
    digest: str
    revision: str = ""
    license: str = "unknown"
    parameters: int | None = None


class Basis(StrEnum):
    """Basis of a size in a card: measured or computed."""

    MEASURED = "measured"  # files of that precision were built and counted
    COMPUTED = "computed"  # parameters times bytes for each


class Sizes(Struct, frozen=True):
    """Bytes of this variant's files, beside the same parameters in 32 and in 16 bits."""

    variant: int
    fp32: int
    fp16: int
    fp32_is: Basis
    fp16_is: Basis

    def smaller_than(self, other: int) -> float:
        """Return the share of ``other`` bytes that this variant saves; negative where it is larger."""
        return 1 - self.variant / other


class Card(Struct, frozen=True, omit_defaults=True):
    """Card of a variant (``card.toml``): the model, its source and lineage, the recipe, defaults and evidence.

    ``lineage`` is in the order in which weights were made, base model first. ``command`` builds the same again.
    """

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
    revision: str = ""
    command: str = ""
    untested_here: bool = False  # built for a provider that this machine could not run
    notes: tuple[str, ...] = ()
    lineage: tuple[Ancestor, ...] = ()
    tools: dict[str, str] = {}
    sizes: Sizes | None = None
    goldens: tuple[Golden, ...] = ()
    evidence: tuple[Evidence, ...] = ()
    dialect: str = ""  # tool-call format, where template and tokens do not determine it: docs/tools.md


def read_card(path: Path) -> Card:
    """Read a card. Raises `DamagedArtifact` naming the field that is wrong."""
    try:
        return _read_card(path, _stamp(path))
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DamagedArtifact(f"{path.name}: {error}", hint="Import the model again with --force.") from error


def _stamp(path: Path) -> tuple[int, ...]:
    """Return a value that changes whenever a file does, by a write or by a rename."""
    found = path.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


@lru_cache(maxsize=256)  # some requests ask for it, and Python's TOML takes 4 ms
def _read_card(path: Path, _stamp: tuple[int, ...]) -> Card:
    return msgspec.toml.decode(path.read_bytes(), type=Card)


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
