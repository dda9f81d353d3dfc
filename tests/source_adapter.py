"""LoRA adapters with random weights over a model folder, written by PEFT itself: what ``import`` is given."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
ALL = (*ATTENTION, "gate_proj", "up_proj", "down_proj")


def write(source: Path, folder: Path, *, seed: int = 1, targets: tuple[str, ...] = ALL, **config: Any) -> Path:
    """Write an adapter over the model in ``source``; its B's are random too, so it changes every answer."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    base = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # PEFT asks transformers by a name that this will lose
        model = get_peft_model(base, LoraConfig(target_modules=list(targets), task_type="CAUSAL_LM", **config))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    model.save_pretrained(str(folder))
    return folder


def merged_logits(source: Path, adapter: Path | None, tokens: list[int]) -> Any:
    """Return PEFT's own logits ``(tokens, vocabulary)`` of the model with the adapter merged into it."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)
    if adapter is not None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            model = PeftModel.from_pretrained(model, str(adapter)).merge_and_unload()
    with torch.inference_mode():
        return model(torch.tensor([tokens])).logits[0].numpy()
