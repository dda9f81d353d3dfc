"""The store: what is found under a name, and how a model appears and goes."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest

from foundry_lite.catalog.card import Card, format_card
from foundry_lite.catalog.recipe import Precision, Recipe, recipe_for
from foundry_lite.catalog.reference import ModelRef, parse_reference
from foundry_lite.errors import DamagedArtifact, ModelNotFound, StorageFull
from foundry_lite.store.manifest import Source, new_manifest, write_manifest
from foundry_lite.store.store import EMBEDDED, Store
from tests import tiny_model

NO_PROCESS = 4_194_305  # one more than the largest process number that Linux gives
INT4, INT8 = recipe_for(Precision.INT4), recipe_for(Precision.INT8)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def embedded(tmp_path: Path) -> Path:
    return tmp_path / "package" / "embedded"


@pytest.fixture
def store(home: Path, embedded: Path) -> Store:
    return Store(home, embedded)


def install(root: Path, name: str, recipe: Recipe = INT4, created: str = "2026-01-01T00:00:00+00:00") -> Path:
    """Put an artifact of one file under ``root/name/variant``."""
    folder = root / name / recipe.variant
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(b"12345")
    card = Card(name, "A", 1, 1, "s", recipe)
    (folder / "card.toml").write_text(format_card(card))
    manifest = new_manifest(folder, name, Source("test", "s", "A", 1, ()), recipe, versions={}, checks=())
    write_manifest(folder, msgspec.structs.replace(manifest, created=created))
    return folder


def stage(store: Store, name: str) -> Path:
    """Make a model in a staging folder, ready to be committed."""
    staging = store.begin_staging(name)
    install(staging, name)
    return staging / name


def names(store: Store) -> list[str]:
    return [str(artifact.ref) for artifact in store.scan().artifacts]


def test_a_store_that_does_not_exist_is_empty(store: Store, home: Path) -> None:
    listing = store.scan()
    assert (listing.artifacts, listing.damages, listing.leftovers) == ((), (), ())
    assert not home.exists()


def test_a_scan_finds_own_and_embedded_models_in_order(store: Store, home: Path, embedded: Path) -> None:
    install(home / "models", "b", INT8)
    install(home / "models", "b", INT4)
    install(home / "models", "a")
    install(embedded, "c")
    assert [(str(one.ref), one.is_embedded) for one in store.scan().artifacts] == [
        ("a:cpu-int4", False),
        ("b:cpu-int4", False),
        ("b:cpu-int8", False),
        ("c:cpu-int4", True),
    ]


def test_an_artifact_has_its_card(store: Store, home: Path) -> None:
    install(home / "models", "a")
    assert store.resolve(ModelRef("a")).card() == Card("a", "A", 1, 1, "s", INT4)


def test_a_reference_with_a_variant_finds_that_one(store: Store, home: Path) -> None:
    install(home / "models", "a", INT4)
    folder = install(home / "models", "a", INT8)
    artifact = store.resolve(ModelRef("a", "cpu-int8"))
    assert (str(artifact.ref), artifact.folder) == ("a:cpu-int8", folder)


def test_a_name_alone_finds_the_newest_variant(store: Store, home: Path) -> None:
    install(home / "models", "a", INT4, "2026-02-01T00:00:00+00:00")
    install(home / "models", "a", INT8, "2026-01-31T23:59:59+00:00")
    assert str(store.resolve(ModelRef("a")).ref) == "a:cpu-int4"


def test_an_own_model_hides_the_embedded_one_of_its_name(store: Store, home: Path, embedded: Path) -> None:
    install(embedded, "a", created="2027-01-01T00:00:00+00:00")
    own = install(home / "models", "a")
    assert store.resolve(ModelRef("a")).folder == own
    assert [one.folder for one in store.scan().artifacts] == [own]


def test_an_embedded_model_is_found_when_there_is_no_own(store: Store, embedded: Path) -> None:
    folder = install(embedded, "a")
    artifact = store.resolve(ModelRef("a"))
    assert (artifact.folder, artifact.is_embedded) == (folder, True)


def test_the_identity_changes_when_a_model_is_replaced(store: Store, home: Path) -> None:
    folder = install(home / "models", "a", created="2026-01-01T00:00:00+00:00")
    before = store.resolve(ModelRef("a")).identity
    assert store.resolve(ModelRef("a")).identity == before
    folder.rename(home / "away")
    install(home / "models", "a", created="2026-01-01T00:00:01+00:00")
    assert store.resolve(ModelRef("a")).identity != before


@pytest.mark.parametrize(
    ("asked", "guess"),
    [("home-asistant", "home-assistant"), ("home-assistant:cpu-int8", "home-assistant:cpu-int4")],
)
def test_a_misspelt_name_is_answered_with_the_closest(asked: str, guess: str, store: Store, embedded: Path) -> None:
    install(embedded, "home-assistant")
    with pytest.raises(ModelNotFound) as caught:
        store.resolve(parse_reference(asked))
    assert caught.value.message == f"no model is called '{asked}'"
    assert caught.value.hint == f"Did you mean {guess}? 'foundry-lite list' shows all."


def test_a_name_like_no_other_is_answered_without_a_guess(store: Store, embedded: Path) -> None:
    install(embedded, "home-assistant")
    with pytest.raises(ModelNotFound) as caught:
        store.resolve(ModelRef("zzz"))
    assert caught.value.hint == "'foundry-lite list' shows all."


def test_a_damaged_model_is_listed_as_damage_beside_the_good_ones(store: Store, home: Path) -> None:
    install(home / "models", "good")
    bad = install(home / "models", "bad")
    (bad / "manifest.json").write_bytes(b"{")
    listing = store.scan()
    assert [str(one.ref) for one in listing.artifacts] == ["good:cpu-int4"]
    assert [one.folder for one in listing.damages] == [bad]
    assert listing.damages[0].reason.startswith("cpu-int4/manifest.json: ")


def test_a_damaged_model_is_found_and_not_read(store: Store, home: Path) -> None:
    (install(home / "models", "bad") / "manifest.json").unlink()
    with pytest.raises(DamagedArtifact):
        store.resolve(ModelRef("bad"))


def test_files_beside_the_models_are_no_models(store: Store, home: Path) -> None:
    install(home / "models", "a")
    (home / "models" / "README").write_text("hello")
    (home / "models" / "a" / ".DS_Store").write_text("hello")
    assert names(store) == ["a:cpu-int4"]
    assert store.scan().damages == ()


def test_it_holds_own_and_embedded_names_and_no_others(store: Store, home: Path, embedded: Path) -> None:
    install(home / "models", "own")
    install(embedded, "shipped")
    assert [store.holds(name) for name in ("own", "shipped", "neither")] == [True, True, False]


def test_staging_folders_are_new_and_empty(store: Store, home: Path) -> None:
    first, second = store.begin_staging("a"), store.begin_staging("a")
    assert [first.name, second.name] == [f"a-{os.getpid()}-0", f"a-{os.getpid()}-1"]
    assert first.parent == second.parent == home / "staging"
    assert not list(first.iterdir())


def test_staging_where_nothing_can_be_written_is_a_full_storage(store: Store, home: Path) -> None:
    home.mkdir()
    (home / "staging").write_text("a file is in the way")
    with pytest.raises(StorageFull, match="cannot write to"):
        store.begin_staging("a")


def test_staging_gives_up_after_a_thousand_left_over_folders(store: Store, home: Path) -> None:
    for number in range(1000):
        (home / "staging" / f"a-{os.getpid()}-{number}").mkdir(parents=True)
    with pytest.raises(StorageFull, match="left-over"):
        store.begin_staging("a")


def commit(store: Store, staging: Path, *variants: str, keeps: bool = True) -> None:
    store.install(staging, "a", variants, keeps=lambda _: keeps)


def test_a_model_is_not_there_before_it_is_installed_and_whole_after_it(store: Store, home: Path) -> None:
    staging = stage(store, "a").parent
    (staging / "a" / "cpu-int4").rename(staging / "cpu-int4")
    assert names(store) == []
    commit(store, staging, "cpu-int4")
    assert names(store) == ["a:cpu-int4"]
    assert (home / "models" / "a" / "cpu-int4" / "model.onnx").read_bytes() == b"12345"
    assert not (staging / "cpu-int4").exists()


def stage_variant(store: Store, recipe: Recipe = INT4, created: str = "2026-03-01T00:00:00+00:00") -> Path:
    """Make one variant in a staging folder, as a build does; return the staging folder."""
    staging = store.begin_staging("a")
    install(staging.parent, staging.name, recipe, created)
    path = staging / recipe.variant / "manifest.json"
    path.write_bytes(path.read_bytes().replace(staging.name.encode(), b"a"))
    return staging


def test_a_variant_joins_those_that_are_kept_and_takes_the_place_of_its_like(store: Store, home: Path) -> None:
    install(home / "models", "a", INT8)
    install(home / "models", "a", INT4)
    staging = stage_variant(store)
    commit(store, staging, "cpu-int4")
    assert names(store) == ["a:cpu-int4", "a:cpu-int8"]
    assert store.resolve(ModelRef("a", "cpu-int4")).manifest.created.startswith("2026-03")


def test_variants_that_are_not_kept_go(store: Store, home: Path) -> None:
    old = install(home / "models", "a", INT8)
    commit(store, stage_variant(store), "cpu-int4", keeps=False)
    assert names(store) == ["a:cpu-int4"]
    assert not old.exists()


def test_the_old_variant_is_put_back_when_the_new_one_cannot_be_moved(store: Store, home: Path) -> None:
    install(home / "models", "a", INT8)
    with pytest.raises(FileNotFoundError):
        commit(store, store.begin_staging("a"), "cpu-int8")
    assert names(store) == ["a:cpu-int8"]


def test_a_variant_that_was_being_replaced_at_a_kill_is_put_back(store: Store, home: Path) -> None:
    old = install(home / "models", "a", INT8)
    dead = home / "staging" / f"a-{NO_PROCESS}-0"
    dead.mkdir(parents=True)
    old.rename(dead / "0.replaced")
    install(home / "models", "a", INT4).rename(dead / "cpu-int4.gone")
    store.remove_leftovers()
    assert names(store) == ["a:cpu-int8"]


def test_a_model_that_was_being_replaced_at_a_kill_is_found_by_the_next_who_asks(store: Store, home: Path) -> None:
    """Between the two renames it is nowhere: an import would find the name free, and a request no model."""
    install(home / "models", "a", INT8)
    install(home / "models", "a", INT4)
    dead = home / "staging" / f"a-{NO_PROCESS}-0"
    dead.mkdir(parents=True)
    (home / "models" / "a").rename(dead / "a.replaced-model")
    assert store.holds("a")
    assert names(store) == ["a:cpu-int4", "a:cpu-int8"]


def test_what_a_kill_left_behind_a_finished_replacement_is_not_put_back(store: Store, home: Path) -> None:
    dead = home / "staging" / f"a-{NO_PROCESS}-0"
    dead.mkdir(parents=True)
    install(home / "models", "a", INT8).rename(dead / "0.replaced")
    new = install(home / "models", "a", INT8, "2026-05-01T00:00:00+00:00")
    assert store.resolve(ModelRef("a")).folder == new
    assert store.resolve(ModelRef("a")).manifest.created.startswith("2026-05")
    store.remove_leftovers()
    assert not dead.exists()


def test_what_a_live_process_has_set_aside_is_left_to_it(store: Store, home: Path) -> None:
    aside = store.begin_staging("a") / "0.replaced"
    install(home / "models", "a", INT8).rename(aside)
    assert names(store) == []
    assert aside.exists()


def test_a_model_whose_other_variants_go_is_replaced_as_a_whole(store: Store, home: Path) -> None:
    install(home / "models", "a", INT8)
    kept = install(home / "models", "a", Recipe(Precision.FP32)) / "model.onnx"
    staging = stage_variant(store)
    store.install(staging, "a", ("cpu-int4",), keeps=lambda old: old.variant == "cpu-fp32")
    assert names(store) == ["a:cpu-fp32", "a:cpu-int4"]
    assert kept.samefile(staging / "a.replaced-model" / "cpu-fp32" / "model.onnx")


def test_a_removal_says_what_it_would_remove_and_removes_nothing(store: Store, home: Path) -> None:
    install(home / "models", "a", INT4)
    install(home / "models", "a", INT8)
    removal = store.plan_removal(ModelRef("a"))
    assert [str(one.ref) for one in removal.artifacts] == ["a:cpu-int4", "a:cpu-int8"]
    assert removal.folders == (home / "models" / "a",)
    assert removal.size_bytes == sum(one.manifest.size_bytes for one in store.scan().artifacts) > 10
    assert names(store) == ["a:cpu-int4", "a:cpu-int8"]


def test_removing_a_name_removes_all_its_variants(store: Store, home: Path) -> None:
    install(home / "models", "a", INT4)
    install(home / "models", "a", INT8)
    install(home / "models", "b")
    store.remove(store.plan_removal(ModelRef("a")))
    assert names(store) == ["b:cpu-int4"]
    assert not list((home / "staging").iterdir())


def test_removing_one_variant_keeps_the_others(store: Store, home: Path) -> None:
    install(home / "models", "a", INT4)
    install(home / "models", "a", INT8)
    store.remove(store.plan_removal(ModelRef("a", "cpu-int4")))
    assert names(store) == ["a:cpu-int8"]


def test_removing_the_last_variant_frees_the_name(store: Store, home: Path) -> None:
    install(home / "models", "a", INT4)
    store.remove(store.plan_removal(ModelRef("a", "cpu-int4")))
    assert not store.holds("a")
    assert not (home / "models" / "a").exists()


def test_a_damaged_model_can_be_removed(store: Store, home: Path) -> None:
    (install(home / "models", "a") / "manifest.json").write_bytes(b"{")
    removal = store.plan_removal(ModelRef("a"))
    assert removal.artifacts == ()
    store.remove(removal)
    assert not store.holds("a")


@pytest.mark.parametrize("ref", [ModelRef("a"), ModelRef("a", "cpu-int4")], ids=str)
def test_an_embedded_model_cannot_be_removed(ref: ModelRef, store: Store, embedded: Path) -> None:
    install(embedded, "a")
    with pytest.raises(ModelNotFound) as caught:
        store.plan_removal(ref)
    assert caught.value.message == f"{ref} comes with foundry-lite and cannot be removed"


def test_removing_an_own_model_brings_the_embedded_one_back(store: Store, home: Path, embedded: Path) -> None:
    install(home / "models", "a")
    folder = install(embedded, "a")
    store.remove(store.plan_removal(ModelRef("a")))
    assert store.resolve(ModelRef("a")).folder == folder


def test_removing_what_is_not_there_is_answered_with_the_closest(store: Store, home: Path) -> None:
    install(home / "models", "mine")
    with pytest.raises(ModelNotFound) as caught:
        store.plan_removal(ModelRef("mime"))
    assert caught.value.hint.startswith("Did you mean mine?")


def test_leftovers_say_their_size_and_whether_their_process_runs(store: Store, home: Path) -> None:
    store.begin_staging("mine")
    for name in (f"mine-{NO_PROCESS}-0", f"old-{NO_PROCESS}-3.replaced", "no-number"):
        (home / "staging" / name).mkdir()
    (home / "staging" / f"mine-{NO_PROCESS}-0" / "half").write_bytes(b"123")
    found = {one.folder.name: (one.size_bytes, one.is_live) for one in store.scan().leftovers}
    assert found == {
        f"mine-{os.getpid()}-0": (0, True),
        f"mine-{NO_PROCESS}-0": (3, False),
        f"old-{NO_PROCESS}-3.replaced": (0, False),
        "no-number": (0, False),
    }


def test_leftovers_of_ended_processes_are_removed_and_live_ones_stay(store: Store, home: Path) -> None:
    live = store.begin_staging("mine")
    dead = home / "staging" / f"mine-{NO_PROCESS}-0"
    (dead / "deep" / "er").mkdir(parents=True)
    assert [one.folder for one in store.remove_leftovers()] == [dead]
    assert not dead.exists()
    assert live.is_dir()
    assert store.remove_leftovers() == ()


def test_leftovers_are_no_models(store: Store) -> None:
    stage(store, "a")
    with pytest.raises(ModelNotFound):
        store.resolve(ModelRef("a"))
    assert not store.holds("a")


def test_the_embedded_models_lie_in_the_package() -> None:
    assert EMBEDDED.parent.name == "foundry_lite"


@pytest.mark.parametrize("body", [b'{"schema": 1, "name": "\xff"}', b'{"x": ' + b"[" * 100_000], ids=["binary", "deep"])
def test_no_content_of_a_manifest_hides_the_other_models(body: bytes, store: Store, home: Path) -> None:
    """Bytes that are no UTF-8, inside a string, were no decoding error to the scan: it raised."""
    install(home / "models", "good")
    (install(home / "models", "bad") / "manifest.json").write_bytes(body)
    assert names(store) == ["good:cpu-int4"]
    assert len(store.scan().damages) == 1


def test_a_note_on_the_processor_goes_with_its_variant_and_with_nothing_else(tmp_path: Path) -> None:
    for recipe in (recipe_for(Precision.FP32), recipe_for(Precision.INT8)):
        tiny_model.install(tmp_path, "mine", recipe=recipe)
    tiny_model.install(tmp_path, "mine--too")
    store = Store(tmp_path)
    artifacts = {str(one.ref): one for one in store.scan().artifacts if not one.is_embedded}
    for one in artifacts.values():
        store.processor_notes.write(one, "alike")
    store.remove(store.plan_removal(parse_reference("mine:cpu-int8")))
    noted = {name for name, one in artifacts.items() if store.processor_notes.find(one)}
    assert noted == {"mine:cpu-fp32", "mine--too:cpu-fp32"}
