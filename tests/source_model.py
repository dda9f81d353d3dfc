"""Hugging Face folders with random weights, written by transformers itself: what ``import`` is given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from tests.tiny_model import END, EOS, START, TEMPLATE

_SHAPE: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 1024,
    "initializer_range": 0.2,  # wide enough that the best next token is clear
}
_OWN: dict[str, dict[str, Any]] = {
    "Phi3": {"original_max_position_embeddings": 1024},
    "Qwen2": {"tie_word_embeddings": True},
    "Qwen3": {"head_dim": 16},
}


def write(folder: Path, family: str = "Llama", **changes: Any) -> Path:
    """Write a model of a family, such as ``Llama``, with its tokenizer and chat template."""
    import torch
    import transformers

    torch.manual_seed(0)
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=_tokenizer(), bos_token=EOS, eos_token=END, pad_token=EOS
    )
    fast.chat_template = TEMPLATE
    shape = {**_SHAPE, **_OWN.get(family, {}), **changes}
    config = getattr(transformers, f"{family}Config")(
        vocab_size=len(fast), bos_token_id=0, eos_token_id=2, pad_token_id=0, **shape
    )
    getattr(transformers, f"{family}ForCausalLM")(config).save_pretrained(folder)
    fast.save_pretrained(folder)
    return folder


def _tokenizer() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=[EOS, START, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    sample = Path(__file__).parent.parent / "foundry_lite" / "build" / "sample.txt"
    tokenizer.train_from_iterator([sample.read_text(encoding="utf-8")], trainer)
    return tokenizer
