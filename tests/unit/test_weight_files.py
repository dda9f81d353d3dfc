"""Which weight files of a folder are read, and what the exporters are given of them: shards, indexes, tied heads."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from foundry_lite.conversion.checkpoint.consolidate_zero import consolidate
from foundry_lite.conversion.checkpoint.merge_lora import merge
from foundry_lite.conversion.checkpoint.normalize import prepare
from foundry_lite.conversion.checkpoint.unpack_gptq_awq import unpack
from foundry_lite.conversion.formats import safetensors
from foundry_lite.conversion.jobs.step_context import StepContext
from foundry_lite.conversion.sources.deepspeed_zero import locate
from foundry_lite.conversion.sources.detect import inspect
from foundry_lite.conversion.sources.peft_adapter import shards_of
from foundry_lite.conversion.sources.source_model import SourceModel
from foundry_lite.conversion.sources.weight_checks import INDEX, OWN_HEAD_NOTE, SINGLE, TIED_BY_DEFAULT
from foundry_lite.conversion.toolchains.toolchains import Toolchains
from foundry_lite.errors import DamagedWeights
from tests import source_model, source_zero
from tests.packed_model import write_packed
from tests.unit import source_folder
from tests.unit.source_folder import change_config, write_adapter, write_json

FIRST, SECOND = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return source_folder.write(tmp_path / "source")


def cut(folder: Path, **index: Any) -> dict[str, str]:
    """Put two shards and an index in the place of a whole file; the tensors of a layer lie in both."""
    tensors = safetensors.read_header(folder / SINGLE)
    where = {name: (SECOND, FIRST)[place % 2] for place, name in enumerate(sorted(tensors))}
    for shard in (FIRST, SECOND):
        kinds = {name: (one.dtype, one.shape) for name, one in tensors.items() if where[name] == shard}
        data = {name: safetensors.read_raw(folder / SINGLE, tensors[name]) for name in kinds}
        safetensors.write(folder / shard, kinds, data)
    (folder / SINGLE).unlink()
    write_json(folder, INDEX, {"weight_map": where, **index})
    return where


def prepared(found: SourceModel, tmp_path: Path) -> Path:
    """Return the folder that exporters and transformers are given of a plain folder."""
    target = tmp_path / "prepared"
    target.mkdir()
    bench = StepContext(tmp_path, tmp_path / "log", Toolchains(tmp_path / "toolchains"))
    asyncio.run(prepare(found, target, bench))
    return target


def give_head(folder: Path, head: str) -> None:
    """Say that head and embedding are one, and save a head that is a copy of the embedding, or another one."""
    found = source_folder.arrays()
    if head == "copy":
        found[HEAD] = found[EMBEDDING]
    source_folder.write_arrays(folder / SINGLE, found)
    change_config(folder, tie_word_embeddings=True)


@pytest.mark.parametrize("index", [{}, {"metadata": {"total_size": 7}}, {"metadata": None}])
def test_shards_come_to_the_exporter_with_an_index_that_transformers_reads(
    index: dict[str, Any], folder: Path, tmp_path: Path
) -> None:
    where = cut(folder, **index)
    before = (folder / INDEX).read_bytes()
    target = prepared(inspect(folder), tmp_path)
    assert json.loads((target / INDEX).read_text()) == {"metadata": {}, "weight_map": where}
    assert (target / FIRST).read_bytes() == (folder / FIRST).read_bytes()
    assert (folder / INDEX).read_bytes() == before
    assert not (target / INDEX).is_symlink()


def test_a_single_shard_has_its_index_too(folder: Path, tmp_path: Path) -> None:
    (folder / SINGLE).rename(folder / "model-00001-of-00001.safetensors")
    write_json(folder, INDEX, {"weight_map": dict.fromkeys(source_folder.arrays(), "model-00001-of-00001.safetensors")})
    target = prepared(inspect(folder), tmp_path)
    assert set(json.loads((target / INDEX).read_text())["weight_map"]) == set(source_folder.arrays())


def test_a_whole_file_counts_and_not_the_index_of_shards_that_are_gone(folder: Path, tmp_path: Path) -> None:
    whole = (folder / SINGLE).read_bytes()
    cut(folder)
    (folder / SECOND).unlink()
    (folder / SINGLE).write_bytes(whole)
    found = inspect(folder)
    assert shards_of(found) == (folder / SINGLE,)
    assert found.parameters == source_folder.PARAMETERS
    assert [note for note in found.notes if INDEX in note and "model.safetensors, as in transformers" in note]
    target = prepared(found, tmp_path)
    assert not (target / INDEX).exists()


def test_a_shard_that_is_cut_off_or_gone_is_named(folder: Path) -> None:
    cut(folder)
    os.truncate(folder / SECOND, (folder / SECOND).stat().st_size - 4)
    with pytest.raises(DamagedWeights, match=f"{SECOND} is damaged: it is truncated"):
        inspect(folder)
    (folder / SECOND).unlink()
    with pytest.raises(DamagedWeights, match=f"1 of 2 shards are missing: {SECOND}"):
        inspect(folder)
    (folder / INDEX).unlink()
    with pytest.raises(DamagedWeights, match=f"1 shards of weights .{FIRST}.* and no {INDEX}"):
        inspect(folder)


def test_packed_shards_are_unpacked_as_one_file_is(tmp_path: Path) -> None:
    source = source_model.write(tmp_path / "floats")
    whole = tmp_path / "whole"
    write_packed(source, whole, "gptq", group=32)
    unpack_to(whole, tmp_path / "one")
    cut(whole)
    found = inspect(whole)
    assert [path.name for path in shards_of(found)] == [FIRST, SECOND]
    unpack_to(whole, tmp_path / "two")
    assert (tmp_path / "one" / SINGLE).read_bytes() == (tmp_path / "two" / SINGLE).read_bytes()


def unpack_to(folder: Path, target: Path) -> None:
    target.mkdir()
    unpack(folder, target)


@pytest.mark.parametrize("head", ["own", "copy"])
def test_a_head_of_its_own_is_kept_against_what_the_configuration_says(head: str, folder: Path, tmp_path: Path) -> None:
    give_head(folder, head)
    found = inspect(folder)
    assert found.unties == (head == "own")
    assert (OWN_HEAD_NOTE in found.notes) == found.unties
    target = prepared(found, tmp_path)
    assert json.loads((target / "config.json").read_text())["tie_word_embeddings"] == (head == "copy")
    assert json.loads((folder / "config.json").read_text())["tie_word_embeddings"] is True


def test_heads_of_other_widths_are_compared_by_their_numbers(folder: Path) -> None:
    found = source_folder.arrays()
    table = np.round(found[EMBEDDING]).astype(np.float32)  # whole numbers are the same in 16 bits
    kinds: dict[str, Any] = {name: ("F32", one.shape) for name, one in found.items()}
    data: dict[str, Any] = {name: [one] for name, one in found.items()}
    data[EMBEDDING] = [table]
    kinds[HEAD], data[HEAD] = ("F16", table.shape), [table.astype(np.float16)]
    safetensors.write(folder / SINGLE, kinds, data)
    change_config(folder, tie_word_embeddings=True)
    assert not inspect(folder).unties
    data[HEAD] = [(table + 1).astype(np.float16)]
    safetensors.write(folder / SINGLE, kinds, data)
    assert inspect(folder).unties


def test_families_that_say_nothing_are_tied_as_transformers_ties_them() -> None:
    from transformers import CONFIG_MAPPING

    from foundry_lite.conversion import architectures
    from tests.source_model import FAMILIES

    assert len(FAMILIES) >= len(architectures.supported())
    prefixes = {prefix for prefix, _ in FAMILIES.values()}
    types = [name for name in CONFIG_MAPPING if CONFIG_MAPPING[name].__name__.removesuffix("Config") in prefixes]
    types.append("gemma3_text")
    types.remove("gemma3")
    assert len(types) >= len(prefixes)
    assert {name for name in types if CONFIG_MAPPING[name]().tie_word_embeddings} == TIED_BY_DEFAULT


@pytest.mark.parametrize("head", ["own", "copy"])
def test_a_checkpoint_keeps_a_head_of_its_own_too(head: str, folder: Path, tmp_path: Path) -> None:
    give_head(folder, head)
    checkpoint = source_zero.write(folder, tmp_path / "checkpoint", stage=2)
    assert inspect(checkpoint).unties == (head == "own")
    (tmp_path / "out").mkdir()
    consolidate(*locate(checkpoint), tmp_path / "out")
    assert (HEAD in safetensors.read_header(tmp_path / "out" / SINGLE)) == (head == "own")
    assert json.loads((tmp_path / "out" / "config.json").read_text())["tie_word_embeddings"] == (head == "copy")


def test_an_adapter_over_a_copied_head_changes_it_as_if_there_were_none(folder: Path, tmp_path: Path) -> None:
    """PEFT trains one tensor where transformers has tied two; the copy in the file must not stay as it was."""
    adapter = write_adapter(
        tmp_path / "adapter", folder, trainable_token_indices={"embed_tokens": [3]}, target_modules=[]
    )
    key = "base_model.model.model.embed_tokens.token_adapter.trainable_tokens_delta"
    source_folder.write_arrays(adapter / "adapter_model.safetensors", {key: np.ones((1, 32), np.float32)})
    merged = []
    for head in ("copy", "none"):
        give_head(folder, "copy")
        if head == "none":
            source_folder.change_weights(folder, lm_head__weight=None)
        found = inspect(adapter)
        assert found.base is not None
        (tmp_path / head).mkdir()
        merge(adapter, folder, shards_of(found.base), tmp_path / head)
        merged.append(safetensors.read_arrays(tmp_path / head / SINGLE))
    assert merged[0].keys() == merged[1].keys()
    assert HEAD not in merged[0]
    assert np.array_equal(merged[0][EMBEDDING][3], np.ones(32))


def test_an_adapter_over_a_head_of_its_own_keeps_it_and_tells_what_is_said_of_the_base(
    folder: Path, tmp_path: Path
) -> None:
    give_head(folder, "own")
    found = inspect(write_adapter(tmp_path / "adapter", folder))
    assert found.unties
    assert OWN_HEAD_NOTE in found.notes
