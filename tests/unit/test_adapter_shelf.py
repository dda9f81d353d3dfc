"""Adapters in the store: over which base they run, and how they appear and go."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from foundry_lite.catalog.card import Card, format_card
from foundry_lite.catalog.recipe import Precision, Recipe
from foundry_lite.catalog.reference import parse_reference
from foundry_lite.errors import BadReference, DamagedArtifact, ModelNotFound, NameTaken
from foundry_lite.store.adapters import FILE, Adapter
from foundry_lite.store.manifest import (
    FileEntry,
    Source,
    new_adapter_manifest,
    new_manifest,
    read_manifest,
    verify_digests,
    verify_sizes,
    write_manifest,
)
from foundry_lite.store.store import Artifact, Store

PLAIN, ADAPTABLE = Recipe(Precision.INT4, 32), Recipe(Precision.INT4, 32, adapters=True)
OTHER = Recipe(Precision.FP32, adapters=True)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def store(home: Path, tmp_path: Path) -> Store:
    return Store(home, tmp_path / "embedded")


def install(home: Path, name: str, recipe: Recipe = ADAPTABLE, weights: str = "w", created: str = "2026-01-01") -> Path:
    folder = home / "models" / name / recipe.variant
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(b"12345")
    (folder / "card.toml").write_text(format_card(Card(name, "A", 1, 1, "s", recipe)))
    files = (FileEntry("config.json", 1, created), FileEntry("model.safetensors", 1, weights))
    manifest = new_manifest(folder, name, Source("test", "s", "A", 1, files), recipe, versions={}, checks=())
    write_manifest(folder, msgspec.structs.replace(manifest, created=f"{created}T00:00:00+00:00"))
    return folder


def stage(store: Store, base: Path, adapter: str, content: bytes = b"abc") -> Path:
    folder = store.begin_staging(f"x--{adapter}") / adapter
    folder.mkdir()
    (folder / FILE).write_bytes(content)
    source = Source("peft-adapter", "s", "LoRA", 1, ())
    manifest = new_adapter_manifest(folder, read_manifest(base), adapter, source, rank=1, modules=("q_proj",))
    write_manifest(folder, manifest)
    return folder


def add(store: Store, base: Path, adapter: str, content: bytes = b"abc", *, replace: bool = False) -> Adapter:
    return store.adapters.commit(stage(store, base, adapter, content), replace=replace)


def resolve(store: Store, text: str) -> Artifact:
    return store.resolve(parse_reference(text))


def test_an_adapter_runs_over_the_newest_variant_that_takes_adapters(store: Store, home: Path) -> None:
    base = install(home, "a", ADAPTABLE, created="2026-01-01")
    newer = install(home, "a", OTHER, created="2026-02-01")
    install(home, "a", PLAIN, created="2026-03-01")
    adapter = add(store, base, "x")
    found = resolve(store, "a@x")
    assert (found.folder, found.adapter, str(found.ref)) == (newer, adapter, "a:cpu-fp32-lora@x")
    assert found.base == resolve(store, "a:cpu-fp32-lora")
    assert resolve(store, "a:cpu-int4-lora@x").folder == base


def test_a_variant_without_places_or_of_other_weights_is_no_base(store: Store, home: Path) -> None:
    base = install(home, "a", ADAPTABLE)
    install(home, "a", PLAIN)
    install(home, "a", OTHER, weights="other", created="2026-02-01")
    add(store, base, "x")
    assert resolve(store, "a@x").folder == base
    with pytest.raises(ModelNotFound, match="a:cpu-int4 takes no adapters"):
        resolve(store, "a:cpu-int4@x")
    with pytest.raises(ModelNotFound, match="other weights than 'a:cpu-fp32-lora'"):
        resolve(store, "a:cpu-fp32-lora@x")


def test_an_unknown_adapter_is_not_found_and_the_nearest_is_named(store: Store, home: Path) -> None:
    add(store, install(home, "a"), "support")
    with pytest.raises(ModelNotFound, match="no model is called 'a@suport'") as caught:
        resolve(store, "a@suport")
    assert "a@support" in caught.value.hint


def test_a_damaged_adapter_is_listed_as_damage_and_refused_when_asked_for(store: Store, home: Path) -> None:
    base = install(home, "a")
    good, bad = add(store, base, "good"), add(store, base, "bad")
    (bad.folder / "manifest.json").write_text("{")
    listing = store.scan()
    assert listing.adapters == (good,)
    assert [one.folder for one in listing.damages] == [bad.folder]
    with pytest.raises(DamagedArtifact):
        resolve(store, "a@bad")
    assert resolve(store, "a@good").adapter == good


def test_an_adapter_is_verified_as_a_model_is(store: Store, home: Path) -> None:
    adapter = add(store, install(home, "a"), "x", b"abc")
    verify_digests(adapter.folder, adapter.manifest)
    adapter.path.write_bytes(b"abd")
    verify_sizes(adapter.folder, adapter.manifest)
    with pytest.raises(DamagedArtifact, match="a@x: the content of adapter.onnx_adapter has changed"):
        verify_digests(adapter.folder, adapter.manifest)
    adapter.path.write_bytes(b"ab")
    with pytest.raises(DamagedArtifact, match="has 2 bytes, not 3"):
        verify_sizes(adapter.folder, adapter.manifest)


def test_a_name_is_taken_once_and_a_replaced_adapter_is_another_one(store: Store, home: Path) -> None:
    base = install(home, "a")
    first = add(store, base, "x", b"abc")
    staged = stage(store, base, "x", b"xyz")
    with pytest.raises(NameTaken, match="'a' has an adapter called 'x' already"):
        store.adapters.commit(staged, replace=False)
    assert first.path.read_bytes() == b"abc"
    second = store.adapters.commit(staged, replace=True)
    assert second.path.read_bytes() == b"xyz"
    assert second.identity != first.identity
    assert add(store, base, "x", b"abc", replace=True).identity == first.identity


def test_what_a_killed_replacement_had_set_aside_is_put_back(store: Store, home: Path) -> None:
    adapter = add(store, install(home, "a"), "x")
    grave = home / "staging" / "a--x-4194305-0"
    grave.mkdir()
    adapter.folder.rename(grave / "x.replaced-adapter")
    assert [one.folder for one in store.remove_leftovers() if one.folder == grave]
    assert resolve(store, "a@x").adapter == adapter
    assert not (home / "models" / "x").exists()


def test_removing_an_adapter_leaves_the_model_and_the_others(store: Store, home: Path) -> None:
    base = install(home, "a")
    add(store, base, "x")
    other = add(store, base, "y")
    plan = store.plan_removal(parse_reference("a@x"))
    assert (plan.name, plan.size_bytes, plan.artifacts) == ("a@x", 3, ())
    store.remove(plan)
    assert store.scan().adapters == (other,)
    store.remove(store.plan_removal(parse_reference("a@y")))
    assert not (home / "adapters" / "a").exists()
    assert resolve(store, "a").folder == base


def test_an_adapter_is_of_all_variants_so_a_variant_cannot_lose_it(store: Store, home: Path) -> None:
    add(store, install(home, "a"), "x")
    with pytest.raises(BadReference, match="belongs to all variants"):
        store.plan_removal(parse_reference("a:cpu-int4-lora@x"))
    with pytest.raises(ModelNotFound):
        store.plan_removal(parse_reference("a@z"))


def test_a_model_takes_its_adapters_with_it_and_so_does_its_last_variant(store: Store, home: Path) -> None:
    base = install(home, "a")
    install(home, "a", PLAIN)
    adapter = add(store, base, "x")
    keeping = add(store, install(home, "b"), "x")
    first = store.plan_removal(parse_reference("a:cpu-int4-lora"))
    assert first.adapters == ()
    store.remove(first)
    assert store.scan().adapters == (adapter, keeping)
    last = store.plan_removal(parse_reference("a:cpu-int4"))
    assert (last.adapters, last.size_bytes) == (
        (adapter,),
        5 + 3 + len((home / "models/a/cpu-int4/card.toml").read_bytes()),
    )
    store.remove(last)
    assert store.scan().adapters == (keeping,)
    assert sorted(path.name for path in (home / "adapters").iterdir()) == ["b"]
    assert list((home / "staging").glob("a*")) == []


def test_an_adapter_is_not_installed_over_a_base_that_was_replaced_meanwhile(store: Store, home: Path) -> None:
    folder = install(home, "a")
    base = resolve(store, "a")
    staged = stage(store, folder, "x")
    folder.rename(home / "away")
    install(home, "a", weights="other")
    with pytest.raises(ModelNotFound, match="replaced while the adapter was being fitted"):
        store.install_adapter(staged, base, replace=False)
    assert store.scan().adapters == ()


def test_of_two_adapters_of_one_name_at_once_the_second_is_refused_unless_it_is_the_same(
    store: Store, home: Path
) -> None:
    folder = install(home, "a")
    base = resolve(store, "a")
    staged = [stage(store, folder, "x", content) for content in (b"abc", b"abc", b"xyz")]
    first = store.install_adapter(staged[0], base, replace=False)
    assert store.install_adapter(staged[1], base, replace=False) == first
    with pytest.raises(NameTaken):
        store.install_adapter(staged[2], base, replace=False)
    assert first.adapter is not None
    assert first.adapter.path.read_bytes() == b"abc"
