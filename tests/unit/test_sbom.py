"""The list of inputs: complete, in CycloneDX's form, the same for the same build."""

from __future__ import annotations

import json
import uuid
from typing import Any

import msgspec
import pytest

from foundry_lite.catalog.card import Ancestor, Card, Evidence, Origin
from foundry_lite.catalog.recipe import Precision, recipe_for
from foundry_lite.conversion.records.sbom import format_sbom, spdx_of
from foundry_lite.store.manifest import FileEntry, Manifest, Source

BASE = Source("huggingface-folder", "base", "LlamaForCausalLM", 10, (FileEntry("model.safetensors", 40, "a" * 64),))
SOURCE = Source(
    "peft-adapter",
    "/home/ada/skill",
    "LlamaForCausalLM",
    2,
    (FileEntry("adapter.safetensors", 8, "b" * 64),),
    base=BASE,
)
RECIPE = recipe_for(Precision.INT4)
MANIFEST = Manifest(
    1, "mine", RECIPE.variant, "2026-11-21T00:00:00+00:00", SOURCE, RECIPE, {"onnx": "1.23.2", "foundry-lite": "0.2.0"},
    (), (FileEntry("card.toml", 5, "c" * 64), FileEntry("model.onnx", 6, "d" * 64)), "e" * 64,
)  # fmt: skip
CARD = Card(
    "mine", "LlamaForCausalLM", 10, 512, "skill", RECIPE, license="apache-2.0",
    lineage=(
        Ancestor(Origin.BASE, "maker/base", "huggingface-folder", "1" * 64, revision="9" * 40, license="Gemma"),
        Ancestor(Origin.ADAPTER, "skill", "peft-adapter", "2" * 64),
    ),
)  # fmt: skip


def listed(card: Card = CARD, manifest: Manifest = MANIFEST) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(format_sbom(card, manifest))
    return found


def test_every_source_file_and_every_built_file_is_there_with_hash_and_size() -> None:
    files = {
        one["bom-ref"]: (one["hashes"][0]["content"], {p["name"]: p["value"] for p in one["properties"]})
        for one in listed()["components"]
    }
    assert set(files) == {"base:model.safetensors", "source:adapter.safetensors", "built:model.onnx"}
    sha256, properties = files["base:model.safetensors"]
    assert (sha256, properties["foundry-lite:size_bytes"]) == ("a" * 64, "40")


def test_the_model_has_its_licence_its_ancestors_and_its_tools() -> None:
    metadata = listed()["metadata"]
    model = metadata["component"]
    assert model["licenses"] == [{"license": {"id": "Apache-2.0"}}]
    base, adapter = model["pedigree"]["ancestors"]
    assert (base["name"], base["version"], base["licenses"]) == (
        "maker/base", "9" * 40, [{"license": {"name": "Gemma"}}],
    )  # fmt: skip
    assert "licenses" not in adapter
    tools = {one["name"]: one["version"] for one in metadata["tools"]["components"]}
    assert tools == MANIFEST.versions


def test_references_are_unique_and_lead_somewhere() -> None:
    found = listed()
    model = found["metadata"]["component"]
    references = [one["bom-ref"] for one in (model, *model["pedigree"]["ancestors"], *found["components"])]
    assert len(set(references)) == len(references)
    assert {ref for one in found["dependencies"] for ref in (one["ref"], *one["dependsOn"])} <= set(references)


def test_the_same_build_on_another_day_has_the_same_list_byte_for_byte() -> None:
    later = msgspec.structs.replace(MANIFEST, created="2031-01-01T00:00:00+00:00", versions=dict(reversed(
        MANIFEST.versions.items())))  # fmt: skip
    measured = msgspec.structs.replace(CARD, evidence=(Evidence("speed", 3, "tokens/s", "2031-01-01", "bench"),))
    assert format_sbom(measured, later) == format_sbom(CARD, MANIFEST)
    assert "timestamp" not in listed()["metadata"]
    assert json.loads(format_sbom(CARD, MANIFEST, "2026-11-21T00:00:00Z"))["metadata"]["timestamp"]


def test_the_serial_number_is_a_uuid_of_the_content() -> None:
    serial = uuid.UUID(listed()["serialNumber"].removeprefix("urn:uuid:"))
    assert serial.version == 5
    other = msgspec.structs.replace(MANIFEST, versions={"onnx": "1.23.3"})
    assert listed(manifest=other)["serialNumber"] != listed()["serialNumber"]


def test_no_path_of_somebody_s_disk_is_published() -> None:
    assert "/home/ada" not in format_sbom(CARD, MANIFEST)


@pytest.mark.parametrize(("text", "spdx"), [("MIT", "MIT"), ("apache-2.0", "Apache-2.0"), ("gemma", None)])
def test_licences_have_the_names_of_spdx(text: str, spdx: str | None) -> None:
    assert spdx_of(text) == spdx
