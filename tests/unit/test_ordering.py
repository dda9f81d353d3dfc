"""From words to an order: an installed model by its name, a source by its path."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import msgspec
import pytest

from foundry_lite.catalog.card import Task
from foundry_lite.catalog.recipe import Algorithm, Precision, Recipe, parse_variant
from foundry_lite.conversion.build_spec import AUTO, BuildSpec, Walk, command_of, fitting
from foundry_lite.conversion.ordering import order_for
from foundry_lite.conversion.preflight import fingerprint, memory_needed, require_memory, require_room
from foundry_lite.conversion.sources.source_model import Exporter, Kind, SourceModel
from foundry_lite.errors import InvalidRequest, MemoryShort, ModelNotFound, StorageFull
from foundry_lite.store.manifest import FileEntry, Source
from foundry_lite.store.store import Store
from tests import tiny_model

FOUND = SourceModel(Kind.FOLDER, Path(), (), "LlamaForCausalLM", 1000, 512)


def test_a_path_needs_a_name_and_a_name_needs_a_model(tmp_path: Path) -> None:
    store = Store(tmp_path / "home")
    order = order_for(str(tmp_path), "mine", "base", store)
    assert (order.name, order.path, order.base, order.recipes) == ("mine", str(tmp_path), "base", ())
    for model, name, kind, param in (
        (str(tmp_path), None, InvalidRequest, "name"),
        (str(tmp_path), "mine:cpu-int4", InvalidRequest, "name"),
        (str(tmp_path / "nowhere"), "mine", InvalidRequest, "model"),
        ("home-assistant", "mine", InvalidRequest, "model"),
        ("home-assistant:cpu-int4", None, InvalidRequest, "model"),
        ("nobody", None, ModelNotFound, None),
    ):
        with pytest.raises(kind) as caught:
            order_for(model, name, None, store)
        assert getattr(caught.value, "param", None) == param
        assert caught.value.hint


def test_an_installed_model_is_built_from_where_it_came(tmp_path: Path) -> None:
    folder = tiny_model.install(tmp_path / "home", "mine")
    store = Store(tmp_path / "home")
    source = tmp_path / "source"
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["source"] |= {"location": str(source), "base": {**manifest["source"], "location": "its-base"}}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ModelNotFound, match="not at"):
        order_for("mine", None, None, store)
    source.mkdir()
    assert order_for("mine", None, None, store) == BuildSpec("mine", str(source), base="its-base")
    assert order_for("mine", None, "other", store).base == "other"


def test_what_is_not_ordered_suits_the_source() -> None:
    plain = fitting(BuildSpec("n", "p"), FOUND)
    assert ([one.variant for one in plain.recipes], plain.walk) == (["cpu-int4-b128", "cpu-int4"], Walk.FASTEST)
    own = Recipe(Precision.INT4, 64, symmetric=False, algorithm=Algorithm.KEPT)
    packed = fitting(BuildSpec("n", "p"), changed(FOUND, recipe=own))
    assert (packed.recipes, packed.walk) == ((own,), Walk.ALL)
    encoder = fitting(BuildSpec("n", "p"), changed(FOUND, task=Task.EMBED))
    assert [one.variant for one in encoder.recipes] == ["cpu-int8-fp"]
    assert fitting(BuildSpec("n", "p", walk=Walk.FIRST), FOUND).recipes == AUTO
    assert (
        fitting(BuildSpec("n", "p", walk=Walk.FIRST), changed(FOUND, task=Task.RERANK)).recipes[-1].variant
        == "cpu-fp16"
    )
    ordered = BuildSpec("n", "p", (own,), walk=Walk.FIRST)
    assert fitting(ordered, FOUND) is ordered


def changed(found: SourceModel, **changes: object) -> SourceModel:
    return dataclasses.replace(found, **changes)  # type: ignore[arg-type]


def test_a_card_tells_the_command_that_builds_the_same_variant() -> None:
    order = BuildSpec("mine", "my model", base="b", eval="cases.jsonl", reproducible=True, allow_pickle=True)
    command = command_of(order, parse_variant("cpu-int4-b128-fp"))
    assert command == (
        "foundry-lite build 'my model' --name mine --variant cpu-int4-b128-fp --base b --eval cases.jsonl "
        "--allow-pickle --reproducible"
    )


def test_a_build_that_cannot_fit_is_refused_with_what_it_needs(tmp_path: Path) -> None:
    assert memory_needed(500_000_000) == 2_600_000_000
    huge = changed(FOUND, parameters=10**14)
    with pytest.raises(MemoryShort, match="400000.6 GB"):
        require_memory(huge)
    require_memory(FOUND)
    require_memory(changed(huge, exporter=Exporter.NONE))  # only copied
    with pytest.raises(StorageFull, match="MB are free"):
        require_room(huge, AUTO, tmp_path / "not" / "yet")
    require_room(FOUND, AUTO, tmp_path / "not" / "yet")
    assert not (tmp_path / "not").exists()


def test_a_fingerprint_is_of_the_bytes_and_not_of_the_place() -> None:
    one = Source("k", "here", "A", 1, (FileEntry("a", 1, "00"), FileEntry("b", 1, "11")))
    moved = msgspec.structs.replace(one, location="there", files=tuple(reversed(one.files)))
    other = msgspec.structs.replace(one, files=(FileEntry("a", 1, "11"), FileEntry("b", 1, "00")))
    with_base = msgspec.structs.replace(one, base=other)
    assert fingerprint(one) == fingerprint(moved)
    assert len({fingerprint(one), fingerprint(other), fingerprint(with_base)}) == 3
