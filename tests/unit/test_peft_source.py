"""An adapter and its base: found, compared, and merged; against PEFT itself in tests/integration/test_merge.py."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import numpy as np
import pytest

from foundry_lite.conversion.checkpoint.merge_lora import merge
from foundry_lite.conversion.formats import safetensors
from foundry_lite.conversion.sources.detect import inspect
from foundry_lite.conversion.sources.peft_adapter import shards_of
from foundry_lite.conversion.sources.source_model import Kind, Options, SourceModel
from foundry_lite.errors import (
    DamagedWeights,
    NotAModel,
    PickledWeights,
    SourceRejected,
    UnsafeSource,
    UnsupportedAdapter,
    WrongBase,
)
from tests.unit import source_folder
from tests.unit.source_folder import (
    HIDDEN,
    TOKENIZER,
    VOCABULARY,
    Arrays,
    change_config,
    lora,
    write_adapter,
    write_json,
)

PREFIX = "base_model.model."
QUERY = "model.layers.0.self_attn.q_proj"
EMBEDDING = "model.embed_tokens"


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return source_folder.write(tmp_path / "base")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "adapter"


def merged(found: SourceModel, target: Path) -> Arrays:
    target.mkdir()
    assert found.base is not None
    merge(found.folder, found.base.folder, shards_of(found.base), target)
    return safetensors.read_arrays(target / "model.safetensors")


def dora(folder: Path, base: Path, *, seed: int = 0) -> Path:
    """Write an adapter that was trained by DoRA on the model of that seed."""
    found = lora()
    for name, array in source_folder.arrays(seed).items():
        if "q_proj" in name:
            magnitude = np.linalg.norm(array, axis=1) * np.linspace(0.98, 1.02, len(array), dtype=np.float32)
            found[f"{PREFIX}{name.removesuffix('.weight')}.lora_magnitude_vector"] = magnitude
    return write_adapter(folder, base, found, use_dora=True)


def test_an_adapter_is_found_with_its_base(base: Path, folder: Path) -> None:
    found = inspect(write_adapter(folder, base))
    assert found.kind is Kind.ADAPTER
    assert found.base == inspect(base)
    assert found.files == (folder / "adapter_config.json", folder / "adapter_model.safetensors")
    assert (found.parameters, found.context_length) == (source_folder.PARAMETERS, 512)
    assert found.notes == ()


def test_the_base_is_the_one_given_and_a_different_name_is_noted(base: Path, folder: Path) -> None:
    found = inspect(write_adapter(folder, "org/another-model"), Options(base=base))
    assert found.base == inspect(base)
    assert "trained on 'org/another-model'" in found.notes[0]
    assert inspect(write_adapter(folder, "org/BASE"), Options(base=base)).notes == ()


def test_the_base_may_be_named_from_the_adapters_folder(base: Path, folder: Path) -> None:
    found = inspect(write_adapter(folder, "../base"))
    assert found.base is not None
    assert found.base.parameters == inspect(base).parameters


def test_the_base_is_looked_for_in_the_hubs_cache(
    base: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    model = tmp_path / "hub" / "models--org--name"
    (model / "refs").mkdir(parents=True)
    (model / "refs" / "main").write_text("0123")
    (model / "snapshots").mkdir()
    write_adapter(folder, "org/name")
    with pytest.raises(UnsupportedAdapter, match="the base 'org/name' is not on this machine") as caught:
        inspect(folder)
    assert "--base PATH" in caught.value.hint
    base.rename(model / "snapshots" / "0123")
    assert inspect(folder).notes == ()


@pytest.mark.parametrize("name", ["", None, "no/such/name/at-all", "base"])
def test_without_a_base_it_is_said_how_to_give_one(name: Any, base: Path, folder: Path) -> None:
    write_adapter(folder, base, base_model_name_or_path=name)
    with pytest.raises(UnsupportedAdapter) as caught:
        inspect(folder)
    assert "--base PATH" in caught.value.hint


def add_biases(base: Path) -> None:
    """Give the queries of both layers a bias, as Qwen 2's have."""
    path = base / "model.safetensors"
    found = safetensors.read_arrays(path)
    biases = {f"model.layers.{layer}.self_attn.q_proj.bias": np.ones(HIDDEN, np.float32) for layer in range(2)}
    source_folder.write_arrays(path, found | biases)


WRONG: dict[str, tuple[dict[str, Any], Arrays, str]] = {
    "other sizes": ({}, lora(inputs=48), "model.layers.0.self_attn.q_proj.weight has the shape [32, 48]"),
    "other outputs": ({}, lora("self_attn.k_proj"), "has the shape [32, 32]; the base has [16, 32]"),
    "more layers": ({}, {k.replace("layers.1", "layers.7"): v for k, v in lora().items()}, "changes model.layers.7"),
    "other modules": ({}, lora("self_attn.qkv_proj"), "changes model.layers.0.self_attn.qkv_proj.weight"),
    "another vocabulary": (
        {},
        {
            f"{PREFIX}{EMBEDDING}.lora_embedding_A": np.ones((2, VOCABULARY + 1), np.float32),
            f"{PREFIX}{EMBEDDING}.lora_embedding_B": np.ones((HIDDEN, 2), np.float32),
        },
        "has the shape [21, 32]; the base has [20, 32]",
    ),
    "another width": (
        {},
        {f"{PREFIX}lm_head.weight": np.ones((VOCABULARY, HIDDEN + 1), np.float32)},
        "lm_head.weight has the shape [20, 33]",
    ),
    "another embedding": (
        {},
        {f"{PREFIX}{EMBEDDING}.base_layer.weight": source_folder.arrays(seed=5)["model.embed_tokens.weight"]},
        "this base has another one",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_base_is_refused(name: str, base: Path, folder: Path) -> None:
    config, found, fact = WRONG[name]
    with pytest.raises(WrongBase) as caught:
        inspect(write_adapter(folder, base, found, **config))
    assert fact in caught.value.message
    assert "--base PATH" in caught.value.hint


def test_a_base_of_the_same_sizes_is_told_by_its_tokenizer(base: Path, folder: Path) -> None:
    write_adapter(folder, base)
    write_json(folder, "tokenizer.json", TOKENIZER)
    inspect(folder)
    vocabulary = {f"t{number}": 17 - number for number in range(18)}
    write_json(folder, "tokenizer.json", {"model": {"vocab": vocabulary}})
    with pytest.raises(WrongBase, match="the tokenizer beside the adapter is another"):
        inspect(folder)


def test_a_base_of_the_same_sizes_is_told_by_the_magnitudes_of_dora(base: Path, folder: Path) -> None:
    inspect(dora(folder, base))
    with pytest.raises(WrongBase, match="magnitudes"):
        inspect(dora(folder, base, seed=3))


def test_nothing_is_merged_into_a_quantized_base(base: Path, folder: Path) -> None:
    change_config(base, quantization_config={"quant_method": "bitsandbytes"})
    with pytest.raises(UnsupportedAdapter, match="is quantized") as caught:
        inspect(write_adapter(folder, base))
    assert "QLoRA" in caught.value.hint


def test_a_base_that_is_an_adapter_is_refused(base: Path, folder: Path, tmp_path: Path) -> None:
    write_adapter(folder, base)
    with pytest.raises(UnsupportedAdapter, match="is an adapter itself"):
        inspect(write_adapter(tmp_path / "second", base), Options(base=folder))


REFUSED: dict[str, tuple[dict[str, Any], Arrays | None, type[SourceRejected], str]] = {
    "another method": ({"peft_type": "IA3"}, None, UnsupportedAdapter, "'peft_type' is \"IA3\""),
    "a prompt": ({"peft_type": "PROMPT_TUNING"}, None, UnsupportedAdapter, "'peft_type' is \"PROMPT_TUNING\""),
    "a bias that was not saved": (
        {"bias": "lora_only"},
        None,
        UnsupportedAdapter,
        f"{QUERY}.bias was trained (bias='lora_only'), and PEFT did not save it",
    ),
    "saved twice, and not the same": (
        {},
        {
            f"{PREFIX}lm_head.weight": np.ones((VOCABULARY, HIDDEN), np.float32),
            f"{PREFIX}lm_head.modules_to_save.weight": np.zeros((VOCABULARY, HIDDEN), np.float32),
        },
        DamagedWeights,
        "should be the same, and differ",
    ),
    "a start that changed the base": ({"init_lora_weights": "pissa"}, None, UnsupportedAdapter, "'init_lora_weights'"),
    "layers put twice": ({"layer_replication": [[0, 2], [1, 2]]}, None, UnsupportedAdapter, "'layer_replication'"),
    "active after some tokens": ({"alora_invocation_tokens": [1]}, None, UnsupportedAdapter, "'alora_invocation"),
    "whole parameters": ({"target_parameters": ["x"]}, None, UnsupportedAdapter, "'target_parameters'"),
    "a field of the future": ({"use_something_new": True}, None, UnsupportedAdapter, "'use_something_new' is true"),
    "an unknown tensor": (
        {},
        {f"{PREFIX}{QUERY}.vera_A": np.ones(2, np.float32)},
        UnsupportedAdapter,
        "nothing that is",
    ),
    "half a pair": (
        {},
        {f"{PREFIX}{QUERY}.lora_A.weight": np.ones((2, 32), np.float32)},
        DamagedWeights,
        "only one of",
    ),
    "another rank": ({"r": 3}, None, DamagedWeights, "the rank is 3"),
    "a rank that is none": ({"r": 0}, None, NotAModel, "'r' must be a number above 0"),
    "no matrices": ({}, {}, DamagedWeights, "holds no matrices"),
    "no magnitudes": ({"use_dora": True}, None, DamagedWeights, "has no magnitude"),
    "tokens beyond": (
        {"trainable_token_indices": [20]},
        {f"{PREFIX}{EMBEDDING}.token_adapter.trainable_tokens_delta": np.ones((1, HIDDEN), np.float32)},
        DamagedWeights,
        "their numbers do not fit",
    ),
    "NaN": ({}, {name: array * np.float32(np.nan) for name, array in lora().items()}, DamagedWeights, "not finite"),
}


@pytest.mark.parametrize(
    ("kinds", "step"),
    [
        (
            ("IA3", "LOHA", "LOKR", "VERA", "OFT", "BOFT", "ADALORA", "RANDLORA", "HRA", "NEW_METHOD"),
            "merge_and_unload()",
        ),
        (("PROMPT_TUNING", "P_TUNING", "PREFIX_TUNING", "XLORA", "ADAPTION_PROMPT", "CPT"), "cannot be merged"),
    ],
)
def test_another_method_is_refused_by_its_name_with_what_to_do_next(
    kinds: tuple[str, ...], step: str, base: Path, folder: Path
) -> None:
    for kind in kinds:
        with pytest.raises(UnsupportedAdapter, match=f"'peft_type' is \"{kind}\"") as caught:
            inspect(write_adapter(folder, base, peft_type=kind))
        assert step in caught.value.hint
    with pytest.raises(UnsupportedAdapter, match="alora_invocation_tokens") as caught:
        inspect(write_adapter(folder, base, alora_invocation_tokens=[1]))
    assert "cannot be merged" in caught.value.hint


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_be_merged_wrongly_is_refused(name: str, base: Path, folder: Path) -> None:
    config, found, kind, fact = REFUSED[name]
    if "bias" in config:
        add_biases(base)
    with pytest.raises(SourceRejected) as caught:
        inspect(write_adapter(folder, base, found, **config))
    assert type(caught.value) is kind
    assert fact in caught.value.message
    assert caught.value.hint


def test_files_of_an_adapter_are_read_as_safely_as_others(base: Path, folder: Path) -> None:
    write_adapter(folder, base)
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    with pytest.raises(PickledWeights):
        inspect(folder)
    (folder / "adapter_model.safetensors").symlink_to("/dev/zero")
    with pytest.raises(UnsafeSource):
        inspect(folder)


def test_what_is_added_is_scaled_and_all_else_keeps_its_bytes(base: Path, folder: Path, tmp_path: Path) -> None:
    before = source_folder.arrays()
    found = inspect(write_adapter(folder, base, use_rslora=True, alpha_pattern={"layers.1.self_attn.q_proj": 6}))
    after = merged(found, tmp_path / "merged")
    assert after.keys() == before.keys()
    for name, array in before.items():
        if "q_proj" not in name:
            assert np.array_equal(after[name], array)
            continue
        module = PREFIX + name.removesuffix(".weight")
        factor = (6 if "layers.1" in name else 4) / np.sqrt(2)
        delta = factor * lora()[f"{module}.lora_B.weight"] @ lora()[f"{module}.lora_A.weight"]
        np.testing.assert_allclose(after[name], array + delta, rtol=1e-5, atol=1e-5)


def test_a_16_bit_base_is_merged_in_float32_and_said_to_be(base: Path, folder: Path, tmp_path: Path) -> None:
    change_config(base, dtype="bfloat16")
    halves = {name: (one.view(np.uint32) >> 16).astype(np.uint16) for name, one in source_folder.arrays().items()}
    kinds = {name: ("BF16", one.shape) for name, one in halves.items()}
    safetensors.write(base / "model.safetensors", kinds, {name: [one] for name, one in halves.items()})
    merged(inspect(write_adapter(folder, base)), tmp_path / "merged")
    header = safetensors.read_header(tmp_path / "merged" / "model.safetensors")
    assert {name for name, tensor in header.items() if tensor.dtype == "F32"} == {
        f"model.layers.{layer}.self_attn.q_proj.weight" for layer in (0, 1)
    }
    assert json.loads((tmp_path / "merged" / "config.json").read_text())["dtype"] == "float32"


def test_the_same_merge_has_the_same_bytes(base: Path, folder: Path, tmp_path: Path) -> None:
    found = inspect(write_adapter(folder, base))
    merged(found, tmp_path / "one")
    merged(found, tmp_path / "two")
    for name in ("model.safetensors", "config.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_shards_stay_shards(base: Path, folder: Path, tmp_path: Path) -> None:
    found = source_folder.arrays()
    where = {name: f"model-0000{1 + ('layers' in name)}-of-00002.safetensors" for name in found}
    for shard in set(where.values()):
        source_folder.write_arrays(base / shard, {name: found[name] for name in found if where[name] == shard})
    write_json(base, "model.safetensors.index.json", {"weight_map": where})
    (base / "model.safetensors").unlink()
    adapter = inspect(write_adapter(folder, base))
    (tmp_path / "merged").mkdir()
    assert adapter.base is not None
    merge(folder, base, shards_of(adapter.base), tmp_path / "merged")
    index = json.loads((tmp_path / "merged" / "model.safetensors.index.json").read_text())
    assert index["weight_map"] == where
    assert {path.name for path in (tmp_path / "merged").glob("*.safetensors")} == set(where.values())


def test_the_embedding_may_have_grown_in_training(base: Path, folder: Path, tmp_path: Path) -> None:
    grown = np.ones((VOCABULARY + 3, HIDDEN), np.float32)
    both = {f"{PREFIX}{EMBEDDING}.weight": grown, f"{PREFIX}lm_head.weight": grown * 2}
    found = inspect(write_adapter(folder, base, lora() | both, modules_to_save=["embed_tokens", "lm_head"]))
    after = merged(found, tmp_path / "merged")
    assert np.array_equal(after["lm_head.weight"], grown * 2)
    assert json.loads((tmp_path / "merged" / "config.json").read_text())["vocab_size"] == VOCABULARY + 3
    with pytest.raises(UnsupportedAdapter, match="the embedding has 23 tokens, the head 20"):
        inspect(write_adapter(folder, base, lora() | {f"{PREFIX}{EMBEDDING}.weight": grown}))


@pytest.mark.parametrize("same", [True, False])
def test_a_tied_head_gets_weights_of_its_own_only_when_it_must(same: bool, folder: Path, tmp_path: Path) -> None:
    base = source_folder.write(tmp_path / "base", tied=True)
    table = np.random.default_rng(4).standard_normal((VOCABULARY, HIDDEN), np.float32)
    both = {f"{PREFIX}{EMBEDDING}.weight": table, f"{PREFIX}lm_head.weight": table if same else table * 2}
    found = inspect(write_adapter(folder, base, lora() | both, modules_to_save=["embed_tokens", "lm_head"]))
    after = merged(found, tmp_path / "merged")
    config = json.loads((tmp_path / "merged" / "config.json").read_text())
    assert config["tie_word_embeddings"] is same
    assert ("lm_head.weight" in after) is not same
    assert found.parameters == sum(array.size for array in after.values())
    assert any("one tensor" in note for note in found.notes) is not same


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        (
            {"modules_to_save": ["lm_head"]},
            r"lm_head was trained \(modules_to_save\), and the file has no weights of it",
        ),
        ({"modules_to_save": "lm_head"}, r"lm_head was trained \(modules_to_save\)"),
        ({"trainable_token_indices": [1, 2]}, r"tokens were trained \(trainable_token_indices\)"),
        ({"trainable_token_indices": {"embed_tokens": [1]}}, r"tokens were trained \(trainable_token_indices\)"),
    ],
)
def test_what_is_said_to_be_trained_and_was_not_saved_is_refused(
    base: Path, folder: Path, fields: dict[str, Any], says: str
) -> None:
    with pytest.raises(UnsupportedAdapter, match=says):
        inspect(write_adapter(folder, base, **fields))


def test_a_folder_of_a_trainer_names_the_checkpoint_in_it(tmp_path: Path) -> None:
    source_folder.write(tmp_path / "out" / "checkpoint-50")
    with pytest.raises(NotAModel, match="it has no config.json") as refused:
        inspect(tmp_path / "out")
    assert refused.value.hint == f"There is one in it: give {tmp_path / 'out' / 'checkpoint-50'}"


def test_weights_of_another_name_are_named(tmp_path: Path) -> None:
    folder = source_folder.write(tmp_path / "model")
    (folder / "model.safetensors").rename(folder / "model.fp16.safetensors")
    with pytest.raises(NotAModel, match=r"has no model.safetensors; it has model.fp16.safetensors"):
        inspect(folder)
