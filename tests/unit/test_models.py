"""OpenAI's model list."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import msgspec

from foundry_lite.protocol.models import ModelEntry, write_model, write_models

ENTRY = ModelEntry("mine:cpu-int4", ("mine",), datetime(2026, 1, 1, tzinfo=UTC), 5, 512, True, False)
WRITTEN = {
    "id": "mine:cpu-int4",
    "object": "model",
    "created": 1767225600,  # date -u -d 2026-01-01 +%s
    "owned_by": "foundry-lite",
    "foundry_lite": {
        "aliases": ["mine"],
        "size_bytes": 5,
        "context_length": 512,
        "is_embedded": True,
        "is_loaded": False,
        "base": None,
    },
}


def test_a_model_has_openais_fields_and_a_block_of_ours() -> None:
    assert write_model(ENTRY) == WRITTEN


def test_an_adapter_names_the_model_that_it_runs_over() -> None:
    adapted = msgspec.structs.replace(ENTRY, id="mine:cpu-int4-lora@x", base="mine:cpu-int4-lora")
    assert write_model(adapted)["foundry_lite"]["base"] == "mine:cpu-int4-lora"


def test_a_list_holds_the_models_in_their_order() -> None:
    other = msgspec.structs.replace(ENTRY, id="other", aliases=())
    listed = write_models([ENTRY, other])
    assert listed["object"] == "list"
    assert [model["id"] for model in listed["data"]] == ["mine:cpu-int4", "other"]
    assert listed["data"][0] == WRITTEN


def test_an_empty_list_is_a_list() -> None:
    assert write_models([]) == {"object": "list", "data": []}


def test_the_time_does_not_depend_on_the_zone_it_was_written_in() -> None:
    there = datetime(2026, 1, 1, 5, 30, 0, 999_999, tzinfo=timezone(timedelta(hours=5, minutes=30)))
    assert write_model(msgspec.structs.replace(ENTRY, created=there))["created"] == 1767225600
