"""Folders of encoders with random weights, as sentence-transformers and transformers save them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.source_model import _tokenizer
from tests.tiny_model import END, EOS

_SHAPE: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 130,
    "initializer_range": 0.2,
    "pad_token_id": 0,
    "bos_token_id": 0,
    "eos_token_id": 2,
}
_OWN: dict[str, dict[str, Any]] = {
    "Albert": {"embedding_size": 64},
    "DebertaV2": {"relative_attention": True, "position_buckets": 32, "share_att_key": True, "type_vocab_size": 0,
                  "norm_rel_ebd": "layer_norm", "pos_att_type": ["p2c", "c2p"], "position_biased_input": False},
    "DistilBert": {"dim": 64, "n_layers": 2, "n_heads": 4, "hidden_dim": 128},
    "Electra": {"embedding_size": 64},
    "EuroBert": {"num_key_value_heads": 2, "mask_token_id": 1},
    "Gemma3Text": {"head_dim": 16, "num_key_value_heads": 2, "sliding_window": 16, "use_bidirectional_attention": True},
    "Mistral": {"num_key_value_heads": 2},
    "ModernBert": {"cls_token_id": 0, "sep_token_id": 2, "local_attention": 16, "global_attn_every_n_layers": 2},
    "Qwen2": {"num_key_value_heads": 2},
    "Qwen3": {"head_dim": 16, "num_key_value_heads": 2},
}  # fmt: skip


def write(folder: Path, family: str = "Bert", *, scores: bool = False, pooling: str = "mean") -> Path:
    """Write an encoder of a family: of sentence-transformers, or with ``scores`` a cross-encoder."""
    import torch
    import transformers

    torch.manual_seed(0)
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=_tokenizer(), bos_token=EOS, eos_token=END, pad_token=EOS, cls_token=EOS, sep_token=END,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )  # fmt: skip
    labels: dict[str, Any] = {"num_labels": 1} if scores else {}
    own = {**_SHAPE, **_OWN.get(family, {}), **labels}
    config = getattr(transformers, f"{family}Config")(vocab_size=len(fast), **own)
    name = f"{family}ForSequenceClassification" if scores else f"{family}Model"
    getattr(transformers, name)(config).save_pretrained(folder)
    fast.save_pretrained(folder)
    if not scores:
        kinds = {"Transformer": "", "Pooling": "1_Pooling", "Normalize": "2_Normalize"}
        modules = [{"type": f"sentence_transformers.models.{kind}", "path": path} for kind, path in kinds.items()]
        (folder / "modules.json").write_text(json.dumps(modules))
        (folder / "1_Pooling").mkdir()
        (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode": pooling}))
    return folder
