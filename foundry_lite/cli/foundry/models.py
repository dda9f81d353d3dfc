"""The model commands of ``foundry``: installed and loaded models, printed as Foundry Local's command does."""

from __future__ import annotations

import json
from collections.abc import Iterable
from fnmatch import fnmatch
from typing import Any
from urllib.parse import quote

from foundry_lite.catalog.card import Task
from foundry_lite.catalog.reference import parse_reference
from foundry_lite.cli.daemon_client import ask_daemon
from foundry_lite.cli.foundry.service import find, say, start
from foundry_lite.engine.runners.providers import NAMES
from foundry_lite.errors import InvalidRequest, ModelNotFound
from foundry_lite.server.foundry_local.v0 import device_of, not_downloaded
from foundry_lite.server.openai.model_entries import ModelEntry, all_offers, offer_of
from foundry_lite.settings import Settings
from foundry_lite.store.store import Store

_LOAD_SECONDS = 600.0
_TYPES = {Task.GENERATE: "Chat", Task.EMBED: "Embedding", Task.RERANK: "Rerank"}
_COLUMNS = (("alias", "Alias"), ("device", "Device"), ("type", "Type"), ("fileSizeMb", "MB"), ("id", "Model ID"))
_FILTERS = ("alias", "device", "type", "executionProvider")


def models(settings: Settings, *, variants: bool = False, loaded: bool = False) -> list[dict[str, Any]]:
    """Return the models: the one that each name means, or all ``variants``; or only those that are ``loaded``."""
    in_memory = _loaded(settings)
    offers = all_offers(Store(settings.home), settings)
    shown = offers if variants or loaded else [one for one in offers if one.is_usual]
    entries = [_entry(one, is_loaded=one.id in in_memory) for one in shown]
    return [one for one in entries if one["loaded"]] if loaded else entries


def chosen(entries: Iterable[dict[str, Any]], patterns: dict[str, str]) -> list[dict[str, Any]]:
    """Return the entries whose fields match the patterns, ``*`` for anything, in any case. Raises `FoundryError`.

    The field ``search`` is looked for in names.
    """
    entries = list(entries)
    for field, pattern in patterns.items():
        if field == "search":
            entries = [one for one in entries if pattern.lower() in f"{one['alias']} {one['id']}".lower()]
        elif field in _FILTERS:
            entries = [one for one in entries if fnmatch(str(one[field]).lower(), pattern.lower())]
        else:
            raise InvalidRequest(f"models are not filtered by '{field}', but by {', '.join(_FILTERS)}", field)
    return entries


def print_models(entries: list[dict[str, Any]], key: str | None = None) -> None:
    """Print a table, or JSON under a ``key``."""
    if key is not None:
        say(json.dumps({key: entries}))
        return
    rows = [tuple(title for _, title in _COLUMNS), *(tuple(str(one[name]) for name, _ in _COLUMNS) for one in entries)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_COLUMNS))]
    for row in rows:
        say("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def info(settings: Settings, model: str) -> dict[str, Any]:
    """Return what is known of one model. Raises `ModelNotFound`, `DamagedArtifact`."""
    offer = _offer(settings, model)
    return _entry(offer, is_loaded=offer.id in _loaded(settings))


def load(settings: Settings, model: str, device: str | None) -> str:
    """Load a model into the daemon, which is started if none runs; return its id. Raises `FoundryError`."""
    offer = _offer(settings, model)
    here = device_of(offer.provider)
    if device is not None and device.upper() != here:
        raise InvalidRequest(f"'{offer.id}' runs on the {here} here, not on the {device.upper()}", "device")
    found = find(settings) or start(settings)[0]
    ask_daemon(found, f"/models/load/{quote(offer.id)}", timeout=_LOAD_SECONDS)
    return offer.id


def unload(settings: Settings, model: str) -> tuple[str, bool]:
    """Unload a model; return its id, and whether it was loaded. Raises `FoundryError`."""
    offer = _offer(settings, model)
    found = find(settings)
    if found is None:
        return offer.id, False
    answer = ask_daemon(found, f"/models/unload/{quote(offer.id)}")
    return offer.id, answer["status"] == "unloaded"


def _offer(settings: Settings, model: str) -> ModelEntry:
    store = Store(settings.home)
    try:
        return offer_of(store.resolve(parse_reference(model)), store, settings)
    except ModelNotFound as error:
        raise not_downloaded(error, model) from error


def _loaded(settings: Settings) -> set[str]:
    found = find(settings)
    return set() if found is None else set(ask_daemon(found, "/models/loaded"))


def _entry(offer: ModelEntry, *, is_loaded: bool) -> dict[str, Any]:
    return {
        "alias": offer.alias,
        "id": offer.id,
        "variantName": offer.id,
        "displayName": offer.id,
        "type": _TYPES[offer.card.task],
        "device": device_of(offer.provider),
        "executionProvider": NAMES[offer.provider].onnxruntime,
        "fileSizeMb": offer.size_mb,
        "license": offer.license,
        "contextLength": offer.context_length,
        "supportsToolCalling": "tools" in offer.capabilities,
        "cached": True,
        "loaded": is_loaded,
    }
