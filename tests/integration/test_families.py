"""Every family of decoders is converted from random weights, and agrees with transformers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from foundry_lite.conversion import architectures
from foundry_lite.conversion.sources.detect import inspect
from foundry_lite.engine.runners import onnx_header
from foundry_lite.errors import UnsupportedArchitecture
from tests import built_families, families_table, source_model
from tests.families_table import Row

pytestmark = pytest.mark.build

_BOUNDS = {"off": 1e-3, "int8": 0.03, "int4": 0.6}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built_families.build(tmp_path_factory.mktemp("families"))


@pytest.fixture(scope="module")
def rows(built: Path) -> dict[str, Row]:
    return {family: families_table.measure(built, family) for family in source_model.FAMILIES}


@pytest.mark.parametrize("family", source_model.FAMILIES)
def test_a_family_agrees_with_transformers_in_float32_int8_and_int4(rows: dict[str, Row], family: str) -> None:
    row = rows[family]
    assert row.off < _BOUNDS["off"]
    assert row.int8 < _BOUNDS["int8"]
    assert row.int8 < row.int4 < _BOUNDS["int4"]


@pytest.mark.parametrize("family", source_model.FAMILIES)
def test_a_family_is_recognised_with_the_context_that_it_is_built_for(built: Path, family: str) -> None:
    found = inspect(built / f"{built_families.slug(family)}-source")
    config = json.loads((built / built_families.slug(family) / "genai_config.json").read_bytes())
    assert found.context_length == config["model"]["context_length"]
    assert found.architecture in architectures.supported()


def test_every_architecture_of_the_table_was_converted(rows: dict[str, Row]) -> None:
    assert {row.architecture for row in rows.values()} == set(architectures.supported())


def test_the_page_says_what_was_measured(rows: dict[str, Row]) -> None:
    page = families_table.PAGE.read_text(encoding="utf-8")
    now = families_table.render(page, list(rows.values()))
    assert families_table.read(page) == families_table.read(now), "run 'python -m tests.families_table'"


def test_only_families_with_states_of_convolutions_are_not_batched(rows: dict[str, Row]) -> None:
    alone = {row.architecture for row in rows.values() if "batches" not in row.runner}
    assert alone == {"Lfm2ForCausalLM", "Lfm2MoeForCausalLM"}


@pytest.mark.parametrize("family", ["gpt-oss", "LFM2 MoE", "Mixtral", "OLMoE", "Qwen 2 MoE", "Qwen 3 MoE"])
def test_experts_get_few_bits_and_what_chooses_them_none_fewer(built: Path, rows: dict[str, Row], family: str) -> None:
    nodes = onnx_header.read(built / f"{built_families.slug(family)}-int4" / "model.onnx").nodes
    assert rows[family].int4 > 0
    kinds = [node.kind for node in nodes]
    mixtures = kinds.count("com.microsoft.QMoE")
    assert mixtures == (1 if family == "LFM2 MoE" else 2)
    assert kinds.count("MatMul") == mixtures
    assert "com.microsoft.MoE" not in kinds
    largest = (built / f"{built_families.slug(family)}-int4" / "model.onnx.data").stat().st_size
    assert largest < (built / built_families.slug(family) / "model.onnx.data").stat().st_size / 4


def test_weights_that_are_not_in_the_folder_are_not_made_up(built: Path) -> None:
    said = (built / "lacking.txt").read_text(encoding="utf-8")
    assert said.endswith("lacks weights of this model, or has others: model.layers.1.input_layernorm.weight")


@pytest.mark.parametrize(
    ("architecture", "config", "said"),
    [
        ("", {}, "none named"),
        ("MambaForCausalLM", {}, "'MambaForCausalLM'"),
        ("Qwen2_5_VLForConditionalGeneration", {}, "more than text"),
        ("InternLM2ForCausalLM", {}, "never run"),
        ("PhimoeForCausalLM", {}, "CUDA"),
        ("FalconForCausalLM", {"alibi": True}, "ALiBi"),
        ("PhiForCausalLM", {"qk_layernorm": True}, "norms queries"),
        ("GraniteMoeHybridForCausalLM", {"layer_types": ["mamba", "attention"]}, "Mamba"),
        ("GraniteMoeHybridForCausalLM", {"layer_types": ["attention"], "num_local_experts": 4}, "experts"),
        ("LlamaForCausalLM", {"hidden_size": 120, "num_attention_heads": 5}, "24 numbers"),
        ("GPT2LMHeadModel", {"n_embd": 40, "n_head": 5}, "8 numbers"),
        ("StableLmForCausalLM", {"head_dim": 80, "partial_rotary_factor": 0.25}, "turn 20 numbers"),
        ("Gemma3ForCausalLM", {"use_bidirectional_attention": True}, "both directions"),
    ],
)
def test_what_cannot_be_converted_is_refused_with_the_reason(
    architecture: str, config: dict[str, Any], said: str
) -> None:
    with pytest.raises(UnsupportedArchitecture, match=said):
        architectures.find(architecture, config)


@pytest.mark.parametrize(
    "rope",
    [
        {"rope_scaling": {"type": "su"}, "original_max_position_embeddings": 4096},
        {"rope_scaling": {"rope_type": "longrope", "original_max_position_embeddings": 4096}},
        {"rope_parameters": {"rope_type": "longrope", "original_max_position_embeddings": 4096}},
    ],
)
def test_the_context_of_longrope_is_its_original_length_and_a_note_says_so(rope: dict[str, Any]) -> None:
    family = architectures.find("Phi3ForCausalLM", {"max_position_embeddings": 131072, **rope})
    assert family.context_length == 4096
    assert "4096 tokens, not 131072" in family.notes[0]
