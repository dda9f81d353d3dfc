"""OpenAI's model list, with what foundry-lite knows beyond it in a block of its own."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from msgspec import Struct


class ModelEntry(Struct, frozen=True):
    """One served model. ``aliases`` are names that a request may use in place of the id.

    ``base`` is the id of the model that an adapter runs over; the sizes are the adapter's own then.
    """

    id: str
    aliases: tuple[str, ...]
    created: datetime
    size_bytes: int
    context_length: int
    is_embedded: bool
    is_loaded: bool
    base: str | None = None


def write_models(entries: Iterable[ModelEntry]) -> dict[str, Any]:
    """Return the body of ``GET /v1/models``."""
    return {"object": "list", "data": [write_model(entry) for entry in entries]}


def write_model(entry: ModelEntry) -> dict[str, Any]:
    """Return the body of ``GET /v1/models/{id}``."""
    return {
        "id": entry.id,
        "object": "model",
        "created": int(entry.created.timestamp()),
        "owned_by": "foundry-lite",
        "foundry_lite": {
            "aliases": list(entry.aliases),
            "size_bytes": entry.size_bytes,
            "context_length": entry.context_length,
            "is_embedded": entry.is_embedded,
            "is_loaded": entry.is_loaded,
            "base": entry.base,
        },
    }
