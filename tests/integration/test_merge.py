"""Adapters that PEFT has written, merged by us and run by transformers, against PEFT's own model of them."""

from __future__ import annotations

import asyncio
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from foundry_lite.conversion.checkpoint.merge_lora import merge
from foundry_lite.conversion.checkpoint.normalize import prepare
from foundry_lite.conversion.formats import safetensors
from foundry_lite.conversion.jobs.step_context import StepContext
from foundry_lite.conversion.sources.detect import inspect
from foundry_lite.conversion.sources.peft_adapter import shards_of
from foundry_lite.conversion.sources.source_model import Options
from foundry_lite.conversion.toolchains.toolchains import Toolchains
from foundry_lite.errors import UnsupportedAdapter
from tests import source_model, source_zero

TOKENS = [1, 5, 7, 2, 30, 77, 200, 310, 5, 12]
QUERY = ["q_proj"]
ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
ENDS = ["embed_tokens", "lm_head"]

# A family and what LoraConfig is told.
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "LoRA": ("Llama", {"target_modules": ALL}),
    "rsLoRA": ("Llama", {"target_modules": ALL, "use_rslora": True}),
    "DoRA": ("Llama", {"target_modules": [*ALL, *ENDS], "use_dora": True}),
    "DoRA and rsLoRA": ("Llama", {"target_modules": ALL, "use_dora": True, "use_rslora": True}),
    "patterns": (
        "Llama",
        {
            "target_modules": ALL,
            "rank_pattern": {"q_proj": 2, r".*\.0\.mlp\.up_proj": 3},
            "alpha_pattern": {"v_proj": 32},
        },
    ),
    "embedding and head": ("Llama", {"target_modules": [*QUERY, *ENDS]}),
    "modules to save": ("Llama", {"target_modules": QUERY, "modules_to_save": [*ENDS, "norm"]}),
    "trained tokens": (
        "Llama",
        {"target_modules": QUERY, "trainable_token_indices": {"embed_tokens": [1, 5], "lm_head": [2, 3, 7]}},
    ),
    "LoRA's biases": ("Qwen2", {"target_modules": QUERY, "lora_bias": True}),
    "all biases": ("Qwen2", {"target_modules": QUERY, "bias": "all"}),
    "biases of layers with LoRA": ("Qwen2", {"target_modules": QUERY, "bias": "lora_only"}),
    "tied, LoRA of the head": ("Qwen2", {"target_modules": [*QUERY, "lm_head"]}),
    "tied, LoRA of the embedding": ("Qwen2", {"target_modules": [*QUERY, "embed_tokens"]}),
    "tied, LoRA of both": ("Qwen2", {"target_modules": [*QUERY, "embed_tokens"], "ensure_weight_tying": True}),
    "tied, a head saved": ("Qwen2", {"target_modules": QUERY, "modules_to_save": ["lm_head"]}),
    "tied, an embedding saved": ("Qwen2", {"target_modules": QUERY, "modules_to_save": ["embed_tokens"]}),
    "tied, trained tokens": ("Qwen2", {"target_modules": QUERY, "trainable_token_indices": [1, 5, 7]}),
    "tied, trained tokens and LoRA of the head": (
        "Qwen2",
        {"target_modules": [*QUERY, "lm_head"], "trainable_token_indices": [1, 5]},
    ),
    "grown": ("Llama", {"target_modules": ALL}),
    "grown, a head saved": ("Llama", {"target_modules": QUERY, "modules_to_save": ["lm_head"]}),
    "grown, an embedding saved": ("Llama", {"target_modules": QUERY, "modules_to_save": ["embed_tokens"]}),
    "grown, DoRA of both": ("Llama", {"target_modules": [*QUERY, *ENDS], "use_dora": True}),
    "grown, trained tokens": ("Llama", {"target_modules": QUERY, "trainable_token_indices": [1, 402]}),
    "grown, trained tokens and a head saved": (
        "Llama",
        {"target_modules": QUERY, "trainable_token_indices": [1, 402], "modules_to_save": ["lm_head"]},
    ),
    "tied, grown": ("Qwen2", {"target_modules": ALL}),
    "tied, grown, both saved": (
        "Qwen2",
        {"target_modules": QUERY, "modules_to_save": ENDS, "ensure_weight_tying": True},
    ),
    "tied, grown, a head saved": ("Qwen2", {"target_modules": QUERY, "modules_to_save": ["lm_head"]}),
    "tied, grown, LoRA of the head": ("Qwen2", {"target_modules": [*QUERY, "lm_head"]}),
    "tied, grown, LoRA of the embedding": ("Qwen2", {"target_modules": [*QUERY, "embed_tokens"]}),
    "tied, grown, trained tokens": ("Qwen2", {"target_modules": QUERY, "trainable_token_indices": [1, 402]}),
    "all that is linear, but one": ("Llama", {"target_modules": "all-linear", "exclude_modules": ["k_proj"]}),
    "named by a pattern, in one layer": (
        "Llama",
        {"target_modules": ["q_proj", "up_proj"], "layers_to_transform": [1], "layers_pattern": "layers"},
    ),
    "fused layers": ("Phi3", {"target_modules": ["qkv_proj", "gate_up_proj", "down_proj"], "use_dora": True}),
    "layers stored the other way round": ("GPT2", {"target_modules": ["c_attn", "c_proj", "c_fc"]}),
    "DoRA stored the other way round": ("GPT2", {"target_modules": ["c_attn", "c_proj"], "use_dora": True}),
}
_TRAINED = ("lora_", "modules_to_save", "trainable_tokens", "bias")


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("bases")
    return {name: source_model.write(folder / name, name) for name in ("Llama", "Qwen2", "Phi3", "GPT2")}


def adapt(base: Path, folder: Path, *, more_tokens: int = 0, **config: Any) -> Any:
    """Write an adapter whose every trained number is random; return PEFT's model of it."""
    from peft import LoraConfig

    return adapt_by(LoraConfig(r=4, task_type="CAUSAL_LM", **config), base, folder, more_tokens)


def adapt_by(config: Any, base: Path, folder: Path, more_tokens: int = 0) -> Any:
    """Do the same by any of PEFT's configurations."""
    import torch
    from peft import get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of tied weights, and of what PEFT calls transformers by
        if more_tokens:
            model.resize_token_embeddings(model.config.vocab_size + more_tokens)
        adapted = get_peft_model(model, config).eval()
        for name, parameter in adapted.named_parameters():
            if "magnitude" in name:
                parameter.data *= 1 + 0.03 * torch.randn(parameter.shape)
            elif parameter.requires_grad and any(part in name for part in _TRAINED):
                torch.nn.init.normal_(parameter, std=0.1)
        adapted.save_pretrained(str(folder))
    return adapted


def logits(model: Any) -> Any:
    import torch

    with torch.inference_mode():
        return model(torch.tensor([TOKENS])).logits[0].float().numpy()


def load(folder: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, local_files_only=True).eval()


@pytest.mark.parametrize("name", CASES)
def test_a_merged_model_computes_what_pefts_does(name: str, bases: dict[str, Path], tmp_path: Path) -> None:
    family, config = CASES[name]
    adapted = adapt(bases[family], tmp_path / "adapter", more_tokens=8 if "grown" in name else 0, **config)
    expected, plain = logits(adapted), logits(load(bases[family]))
    found = inspect(tmp_path / "adapter")
    assert found.base is not None
    (tmp_path / "merged").mkdir()
    merge(found.folder, found.base.folder, shards_of(found.base), tmp_path / "merged")
    merged = logits(load(tmp_path / "merged"))
    assert np.abs(merged - expected).max() < 1e-4
    assert np.abs(plain - expected[:, : plain.shape[1]]).max() > 0.1  # so it is the adapter that was compared
    if not name.startswith("tied"):  # PEFT's own merge of one of two tied tensors changes both
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert np.abs(merged - logits(adapted.merge_and_unload())).max() < 1e-4


def merged_logits(folder: Path) -> Any:
    """Merge an adapter whose base it names."""
    found = inspect(folder)
    assert found.base is not None
    target = folder.with_name("merged")
    target.mkdir()
    merge(found.folder, found.base.folder, shards_of(found.base), target)
    return logits(load(target))


@pytest.mark.parametrize("family", ["Llama", "Qwen2"])
def test_trained_tokens_alone_are_merged(family: str, bases: dict[str, Path], tmp_path: Path) -> None:
    from peft import TrainableTokensConfig

    config = TrainableTokensConfig(token_indices=[1, 5], task_type="CAUSAL_LM")
    adapted = adapt_by(config, bases[family], tmp_path / "adapter")
    assert np.abs(merged_logits(tmp_path / "adapter") - logits(adapted)).max() < 1e-4


@pytest.mark.filterwarnings("ignore")  # of what PEFT calls transformers by
def test_a_training_that_changed_the_base_is_merged_when_peft_has_converted_it(
    bases: dict[str, Path], tmp_path: Path
) -> None:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_pretrained(bases["Llama"], dtype=torch.float32)
    config = LoraConfig(r=4, task_type="CAUSAL_LM", target_modules=ALL, init_lora_weights="pissa")
    adapted = get_peft_model(model, config).eval()
    first = tmp_path / "first"
    adapted.save_pretrained(str(first))
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            parameter.data += 0.1 * torch.randn(parameter.shape)
    adapted.save_pretrained(str(tmp_path / "adapter"))
    with pytest.raises(UnsupportedAdapter, match="init_lora_weights") as caught:
        inspect(tmp_path / "adapter")
    assert "path_initial_model_for_weight_conversion" in caught.value.hint
    adapted.save_pretrained(str(tmp_path / "converted"), path_initial_model_for_weight_conversion=str(first))
    expected = logits(adapted)
    assert np.abs(merged_logits(tmp_path / "converted") - expected).max() < 1e-3


def test_an_adapter_of_a_16_bit_base_is_merged_without_rounding(bases: dict[str, Path], tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    base = tmp_path / "base"
    AutoModelForCausalLM.from_pretrained(bases["Llama"], dtype=torch.bfloat16).save_pretrained(base)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        (base / name).write_bytes((bases["Llama"] / name).read_bytes())
    adapted = adapt(base, tmp_path / "adapter", target_modules=ALL)
    prepared = asyncio.run(prepared_by_the_pipeline(tmp_path / "adapter", tmp_path))
    assert np.abs(logits(load(prepared)) - logits(adapted)).max() < 1e-4
    assert safetensors.read_header(prepared / "model.safetensors")["lm_head.weight"].dtype == "BF16"
    assert (prepared / "tokenizer.json").is_file()
    assert json.loads((prepared / "config.json").read_text())["dtype"] == "float32"


async def prepared_by_the_pipeline(source: Path, folder: Path, options: Options = Options()) -> Path:  # noqa: B008
    scratch, target = folder / "scratch", folder / "prepared"
    scratch.mkdir()
    target.mkdir()
    bench = StepContext(scratch, folder / "log", Toolchains(folder / "toolchains"))
    await prepare(inspect(source, options), target, bench)
    return target


def test_a_checkpoint_that_only_torch_can_read_is_read_when_it_is_allowed(
    bases: dict[str, Path], tmp_path: Path
) -> None:
    import torch

    checkpoint = source_zero.write(bases["Llama"], tmp_path / "checkpoint", stage=3)
    for path in (checkpoint / "global_step10").iterdir():
        torch.save(torch.load(path, weights_only=False), path, _use_new_zipfile_serialization=False)
    prepared = asyncio.run(prepared_by_the_pipeline(checkpoint, tmp_path, Options(allow_pickle=True)))
    after = safetensors.read_arrays(prepared / "model.safetensors")
    before = safetensors.read_arrays(bases["Llama"] / "model.safetensors")
    assert after.keys() == before.keys()
    assert all(np.array_equal(after[name], before[name]) for name in before)
