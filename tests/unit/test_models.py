"""OpenAI's model list, and what is told of a model that is on the disk only."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import msgspec
import pytest

from foundry_lite.catalog.card import Task
from foundry_lite.catalog.recipe import Precision, Provider, recipe_for
from foundry_lite.engine.chat_template.template import ChatTemplate
from foundry_lite.protocol.models import ModelBlock, write_model
from foundry_lite.server.openai.model_entries import ModelEntry, all_offers
from foundry_lite.settings import Settings
from foundry_lite.store.store import Store
from tests import tiny_encoder, tiny_model
from tests.tiny_encoder import LONGEST, WIDTH

BLOCK = ModelBlock(
    ["mine"],
    Task.GENERATE,
    ["completion"],
    "LlamaForCausalLM",
    7,
    "cpu-int4",
    "int4",
    "cpu",
    5,
    512,
    "MIT",
    True,
    False,
)


def _wire(value: msgspec.Struct) -> Any:
    return json.loads(msgspec.json.encode(value))


def test_a_model_has_openais_fields_and_a_block_of_ours() -> None:
    assert _wire(write_model("mine:cpu-int4", "mine", datetime(2026, 1, 1, tzinfo=UTC), BLOCK)) == {
        "id": "mine:cpu-int4",
        "object": "model",
        "created": 1767225600,  # date -u -d 2026-01-01 +%s
        "owned_by": "foundry-lite",
        "parent": "mine",
        "max_model_len": 512,
        "foundry_lite": {
            "aliases": ["mine"],
            "task": "generate",
            "capabilities": ["completion"],
            "architecture": "LlamaForCausalLM",
            "parameters": 7,
            "variant": "cpu-int4",
            "precision": "int4",
            "provider": "cpu",
            "size_bytes": 5,
            "context_length": 512,
            "license": "MIT",
            "is_embedded": True,
            "is_loaded": False,
            "base": None,
        },
    }


def test_only_an_embedding_model_has_dimensions() -> None:
    block = msgspec.structs.replace(BLOCK, task=Task.EMBED, dimensions=384)
    assert _wire(write_model("e", "mine", datetime.now(UTC), block))["foundry_lite"]["dimensions"] == 384


def test_the_time_does_not_depend_on_the_zone_it_was_written_in() -> None:
    there = datetime(2026, 1, 1, 5, 30, 0, 999_999, tzinfo=timezone(timedelta(hours=5, minutes=30)))
    assert write_model("mine", "mine", there, BLOCK).created == 1767225600


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A store with *plain* in two variants, *vectors* and *scores*, and five that are damaged in one way each."""
    home = tmp_path_factory.mktemp("offers")
    tiny_model.install(home, "plain", recipe=recipe_for(Precision.INT8))
    tiny_model.install(home, "plain", context=8192)
    tiny_encoder.install(home, "vectors")
    tiny_encoder.install(home, "scores", reranks=True)
    for name, file, text in (
        ("no-card", "card.toml", None),
        ("bad-card", "card.toml", "name = 5"),
        ("bad-manifest", "manifest.json", "{"),
        ("bad-template", "chat_template.jinja", "\udcff"),
    ):
        path = tiny_model.install(home, name) / file
        path.unlink()
        if text is not None:
            path.write_bytes(text.encode("utf-8", "surrogateescape"))
    (tiny_encoder.install(home, "bad-encoder") / "encoder.json").write_text("[]")
    yield home


def _offers(home: Path, settings: Settings | None = None) -> dict[str, ModelEntry]:
    found = all_offers(Store(home, embedded=home / "none"), settings or Settings(home=home))
    return {one.id: one for one in found}


def test_damaged_models_are_left_out_and_the_others_listed(store: Path) -> None:
    assert list(_offers(store)) == ["plain:cpu-fp32", "plain:cpu-int8", "scores:cpu-fp32", "vectors:cpu-fp32"]


def test_the_usual_variant_comes_first_and_alone_has_the_alias(store: Path) -> None:
    assert [one.is_usual for one in _offers(store).values()] == [True, False, True, True]


def test_the_context_is_that_which_is_served(store: Path) -> None:
    offers = _offers(store, Settings(context_length=2000))
    assert [one.context_length for one in offers.values()] == [2000, 512, LONGEST, LONGEST]


def test_the_provider_is_the_one_that_a_model_would_run_with_here(store: Path) -> None:
    assert _offers(store)["plain:cpu-fp32"].provider is Provider.CPU
    assert _offers(store, Settings(provider="webgpu"))["plain:cpu-fp32"].provider is Provider.WEBGPU


@pytest.mark.parametrize(
    ("template", "known"),
    [
        (None, ("completion",)),
        ("{{ messages[0].content }}", ("completion", "chat")),
        ("{% if tools %}{{ tools }}{% endif %}", ("completion", "chat", "tools")),
        ("{# tools and <think> would be nice #}{{ messages }} of tools", ("completion", "chat")),
        ("{{ messages[0].tools }}", ("completion", "chat")),
        ("{% if 'tools' in message and message['tools'] %}{{ messages }}{% endif %}", ("completion", "chat", "tools")),
        ("{{ 'no tools' }}", ("completion", "chat")),
        ("{% for t in tools or [] %}{% endfor %}<think></think>", ("completion", "chat", "tools", "reasoning")),
        ("{{ message.content.split('</think>')[-1] }}", ("completion", "chat", "reasoning")),
    ],
)
def test_what_a_model_can_do_is_read_off_its_template(
    template: str | None, known: tuple[str, ...], tmp_path: Path
) -> None:
    folder = tiny_model.install(tmp_path, "mine")
    (folder / "chat_template.jinja").unlink()
    if template is not None:
        (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": template}))
    assert _offers(tmp_path)["mine:cpu-fp32"].capabilities == known
    if template is not None:  # what the worker finds out by parsing it
        assert ChatTemplate(template, {}).shows_tools == ("tools" in known)


def test_an_encoder_makes_vectors_or_scores_and_writes_no_text(store: Path) -> None:
    offers = _offers(store)
    vectors, scores = offers["vectors:cpu-fp32"], offers["scores:cpu-fp32"]
    assert (vectors.capabilities, scores.capabilities) == (("embeddings",), ("rerank",))
    assert vectors.encoder is not None
    assert vectors.encoder.dimensions == WIDTH
