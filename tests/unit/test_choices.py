"""What was chosen for a model: how it is kept, when it holds, and what it decides."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import msgspec
import pytest

from foundry_lite import machine as devices
from foundry_lite.catalog.recipe import Precision, Provider, recipe_for
from foundry_lite.catalog.reference import ModelRef
from foundry_lite.catalog.report import Measured
from foundry_lite.errors import ModelNotFound, StorageFull
from foundry_lite.residency.options import engine_options
from foundry_lite.settings import Settings
from foundry_lite.store.choices import Choice, Choices, Constraints, Trial, new_choice
from foundry_lite.store.store import Artifact, Store
from tests.unit.test_store import INT4, INT8, install

ASKED = Constraints(streams=4, prompt_tokens=128, new_tokens=64, rounds=1, max_ttft=500.0)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A model in int4 and, newer, in int8."""
    install(tmp_path / "home" / "models", "a", INT4, "2026-01-01T00:00:00+00:00")
    install(tmp_path / "home" / "models", "a", INT8, "2026-02-01T00:00:00+00:00")
    return Store(tmp_path / "home", tmp_path / "embedded")


def choose(store: Store, variant: str = "cpu-int4", threads: int = 3, **changes: Any) -> Choice:
    """Write down a choice for the model."""
    machine = devices.probe_machine().as_dict()
    measured = Measured(
        "2026-11-21", machine, {"onnxruntime": "1"}, "bench", threads, "cpu", 128, 64, 4, 5.0, 6.0, 7.0, 8.0, 9.0, 1, 2
    )
    trial = Trial(variant, Provider.CPU, threads, 5, measured=measured)
    weights = store.resolve(ModelRef("a")).manifest.weights_digest
    choice = new_choice(trial, (trial,), ASKED, weights=weights, reason="because", command="tune a")
    choice = msgspec.structs.replace(choice, **changes)
    store.choices.write("a", choice)
    return choice


def meant(store: Store) -> Artifact:
    return store.resolve(ModelRef("a"))


def test_without_a_choice_a_name_means_the_newest_variant(store: Store) -> None:
    assert (meant(store).ref.variant, meant(store).chosen) == ("cpu-int8", None)


def test_a_name_alone_means_the_variant_that_was_chosen(store: Store) -> None:
    choice = choose(store)
    assert store.choices.explain("a") == choice
    assert meant(store).ref.variant == "cpu-int4"
    assert meant(store).chosen is not None
    assert store.resolve(ModelRef("a", "cpu-int8")).chosen is None


def test_the_chosen_threads_and_provider_are_used_where_the_user_sets_none(store: Store, tmp_path: Path) -> None:
    choose(store, threads=3, provider=Provider.OPENVINO)
    settings = Settings(home=tmp_path)
    options = engine_options(settings, meant(store))
    assert (options.threads, options.provider) == (3, Provider.OPENVINO)
    options = engine_options(dataclasses.replace(settings, threads=1, provider="cpu"), meant(store))
    assert (options.threads, options.provider) == (1, Provider.CPU)
    options = engine_options(settings, store.resolve(ModelRef("a", "cpu-int8")))
    assert (options.threads, options.provider) == (0, Provider.CPU)


@pytest.mark.parametrize("change", [{"cores": 4096}, {"processor": "another"}])
def test_of_a_choice_from_another_machine_only_the_variant_holds(
    store: Store, tmp_path: Path, change: dict[str, Any]
) -> None:
    choice = choose(store, machine={**devices.probe_machine().as_dict(), **change}, provider=Provider.OPENVINO)
    assert not choice.is_of_this_machine
    assert meant(store).ref.variant == "cpu-int4"
    options = engine_options(Settings(home=tmp_path), meant(store))
    assert (options.threads, options.provider) == (0, Provider.CPU)


def test_a_model_built_for_another_provider_is_run_with_that(tmp_path: Path) -> None:
    recipe = msgspec.structs.replace(recipe_for(Precision.FP16), provider=Provider.CUDA)
    install(tmp_path / "models", "g", recipe)
    artifact = Store(tmp_path, tmp_path / "embedded").resolve(ModelRef("g"))
    assert engine_options(Settings(home=tmp_path), artifact).provider is Provider.CUDA


def test_a_choice_for_other_weights_is_ignored(store: Store) -> None:
    choose(store, weights="of others")
    assert (meant(store).ref.variant, meant(store).chosen) == ("cpu-int8", None)


def test_removing_the_chosen_variant_forgets_the_choice_and_removing_another_keeps_it(store: Store) -> None:
    choose(store)
    store.remove(store.plan_removal(ModelRef("a", "cpu-int8")))
    assert meant(store).chosen is not None
    install(store.resolve(ModelRef("a")).folder.parents[1], "a", INT8, "2026-03-01T00:00:00+00:00")
    store.remove(store.plan_removal(ModelRef("a", "cpu-int4")))
    assert meant(store).ref.variant == "cpu-int8"
    assert store.choices.find("a") is None


def test_removing_a_model_forgets_its_choice(store: Store) -> None:
    choose(store)
    store.remove(store.plan_removal(ModelRef("a")))
    assert store.choices.find("a") is None


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"schema": 1}', b'{"schema": 9999, "variant": "cpu-int4"}', b"\xff" * 9]
)
def test_a_file_that_cannot_be_read_is_no_choice_and_no_error(store: Store, tmp_path: Path, content: bytes) -> None:
    choose(store)
    (tmp_path / "home" / "choices" / "a.json").write_bytes(content)
    assert meant(store).ref.variant == "cpu-int8"
    assert store.choices.explain("a") is None


def test_a_write_that_fails_leaves_the_choice_before_it_and_nothing_else(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = choose(store)

    def fail(*_arguments: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(StorageFull, match="No space left"):
        patch.setattr(Path, "replace", fail)
        choose(store, "cpu-int8")
    assert store.choices.explain("a") == before
    assert [path.name for path in (tmp_path / "home" / "choices").iterdir()] == ["a.json"]


def test_where_nothing_can_be_written_it_is_a_full_storage(tmp_path: Path, store: Store) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageFull):
        Choices(tmp_path / "file" / "choices").write("a", choose(store))


@pytest.mark.parametrize(
    ("trial", "label"),
    [
        (Trial("cpu-int4", Provider.CPU, 1, 1), "cpu-int4 with 1 thread"),
        (Trial("cpu-int4", Provider.OPENVINO, 2, 1), "cpu-int4 with 2 threads on openvino"),
        (Trial("cuda-int4", Provider.CUDA, 2, 1), "cuda-int4 with 2 threads"),
        (Trial("cpu-fp16", Provider.CPU, 0, 0, failed="cannot be built"), "cpu-fp16"),
    ],
)
def test_a_trial_has_a_name_for_people(trial: Trial, label: str) -> None:
    assert trial.label == label


def test_a_choice_of_what_was_removed_or_replaced_meanwhile_is_not_written(store: Store, tmp_path: Path) -> None:
    choice = choose(store)
    store.choose("a", choice)
    for stale in (msgspec.structs.replace(choice, weights="other"), msgspec.structs.replace(choice, variant="gone")):
        with pytest.raises(ModelNotFound, match="removed or replaced while it was measured"):
            store.choose("a", stale)
    assert store.choices.explain("a") == choice
