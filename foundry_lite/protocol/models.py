"""OpenAI's model list, with what foundry-lite knows beyond it in a block of its own."""

from __future__ import annotations

from datetime import datetime
from typing import Literal, TypeAlias

from msgspec import UNSET, Struct, UnsetType

from foundry_lite.catalog.card import Task

Capability: TypeAlias = Literal["completion", "chat", "tools", "reasoning", "embeddings", "rerank"]


class ModelBlock(Struct, frozen=True):
    """Model properties that foundry-lite adds to OpenAI's fields.

    ``aliases`` are names that a request may use in place of the id. ``context_length`` is in tokens, as served.
    ``provider`` is the execution provider that it runs with here. ``dimensions`` are those of an embedding model's
    vectors. ``base`` is the id of the model that an adapter runs over; size and licence are the adapter's own then.
    """

    aliases: list[str]
    task: Task
    capabilities: list[Capability]
    architecture: str
    parameters: int
    variant: str
    precision: str
    provider: str
    size_bytes: int
    context_length: int
    license: str
    is_embedded: bool
    is_loaded: bool
    base: str | None = None
    dimensions: int | UnsetType = UNSET


class ModelBody(Struct, frozen=True):
    """OpenAI's model object. ``parent`` is Foundry Local's: the name without a variant, which its clients look for.

    ``max_model_len`` is vLLM's, where many clients look for the length of the context.
    """

    id: str
    created: int
    parent: str
    max_model_len: int
    foundry_lite: ModelBlock
    object: Literal["model"] = "model"
    owned_by: str = "foundry-lite"


class ModelList(Struct, frozen=True):
    """The body of ``GET /v1/models``."""

    data: list[ModelBody]
    object: Literal["list"] = "list"


class Health(Struct, frozen=True):
    """The body of ``GET /health``. ``memory_usage`` is in bytes, of the daemon and all its workers.

    ``uptime`` is the same as ``uptime_seconds``, under the name that Foundry Local's samples read.
    """

    status: Literal["ok"]
    version: str
    uptime_seconds: float
    uptime: float
    memory_usage: int


class LoadedModel(Struct, frozen=True):
    """A model that is loaded, or being loaded; sizes in bytes."""

    model: str
    state: Literal["loading", "ready", "dead"]
    pid: int | None = None
    resident_bytes: int | None = None
    peak_bytes: int | None = None
    kv_limit_bytes: int | None = None
    runner: str | None = None
    provider: str | None = None
    fallback_reason: str | None = None
    processor_note: str | None = None  # how this processor compares with the one that its figures come from, if another
    requests: int = 0
    adapters: list[str] = []
    idle_seconds: float = 0.0
    unload_in_seconds: float | None = None


class LoadedModels(Struct, frozen=True):
    """The body of ``GET /api/ps``."""

    models: list[LoadedModel]


def write_model(name: str, alias: str, created: datetime, block: ModelBlock) -> ModelBody:
    """Return the body of ``GET /v1/models/{id}``."""
    return ModelBody(name, int(created.timestamp()), alias, block.context_length, block)
