"""The numbers of a ``config.json``, each within what a model can be, before anything is allocated by them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foundry_lite.conversion.formats.safe_files import exists, read_json
from foundry_lite.errors import NotAModel, UnsafeSource

# What a field is called, and what GPT-2 and its relatives call it.
_NAMES = {
    "hidden_size": ("hidden_size", "n_embd", "d_model"),
    "num_hidden_layers": ("num_hidden_layers", "n_layer", "num_layers"),
    "num_attention_heads": ("num_attention_heads", "n_head"),
    "vocab_size": ("vocab_size",),
    "intermediate_size": ("intermediate_size", "n_inner", "ffn_dim", "ffn_hidden_size"),
    "num_key_value_heads": ("num_key_value_heads",),
    "head_dim": ("head_dim",),
    "max_position_embeddings": ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length"),
}
# The largest of open models are about a tenth of each; beyond, a folder is made to exhaust the machine.
_MOST = {
    "hidden_size": 1 << 18,
    "num_hidden_layers": 2_000,
    "num_attention_heads": 1 << 13,
    "vocab_size": 10_000_000,
    "intermediate_size": 1 << 21,
    "num_key_value_heads": 1 << 13,
    "head_dim": 1 << 13,
    "max_position_embeddings": 100_000_000,  # tokens
}
_SAVE = "Save the model again."


@dataclass(frozen=True, slots=True)
class Shape:
    """The sizes of a decoder; ``inner`` of its MLP, ``None`` when the configuration does not have it."""

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_size: int
    vocabulary: int
    inner: int | None
    context_length: int  # tokens


def read_config(folder: Path) -> dict[str, Any]:
    """Read ``config.json``. Raises `NotAModel` or `UnsafeSource`."""
    path = folder / "config.json"
    if not exists(path):
        raise NotAModel(f"{folder} is no model folder: it has no config.json", hint=_where_else(folder))
    return read_json(path)


def _where_else(folder: Path) -> str:
    """Return the next step for a folder without a model: the newest one within it that has one, if any."""
    within = [path.parent for pattern in ("*/config.json", "snapshots/*/config.json") for path in folder.glob(pattern)]
    within += [path.parent for path in folder.glob("*/adapter_config.json")]
    if not within:
        return "Give a folder as save_pretrained() writes it."
    newest = max(within, key=lambda path: path.stat().st_mtime)
    return f"There is one in it: give {newest}"


def read_shape(config: dict[str, Any]) -> Shape:
    """Check all sizes and return them. Raises `NotAModel` naming the field, `UnsafeSource` for absurd ones."""
    inner_config = config.get("text_config")  # models that see have their decoder's part there
    part = inner_config if isinstance(inner_config, dict) and "hidden_size" in inner_config else config
    hidden, heads = _number(part, "hidden_size"), _number(part, "num_attention_heads")
    head_size = _optional(part, "head_dim")
    if head_size is None:
        if hidden % heads:
            raise NotAModel(
                f"config.json: 'hidden_size' {hidden} cannot be divided among {heads} attention heads", hint=_SAVE
            )
        head_size = hidden // heads
    kv_heads = _optional(part, "num_key_value_heads") or heads
    if heads % kv_heads:
        raise NotAModel(
            f"config.json: {heads} attention heads cannot share {kv_heads} heads of keys and values", hint=_SAVE
        )
    _check_positive(part)
    return Shape(
        layers=_number(part, "num_hidden_layers"),
        hidden=hidden,
        heads=heads,
        kv_heads=kv_heads,
        head_size=head_size,
        vocabulary=_number(part, "vocab_size"),
        inner=_optional(part, "intermediate_size"),
        context_length=_number(part, "max_position_embeddings"),
    )


def _number(config: dict[str, Any], field: str) -> int:
    value = _optional(config, field)
    if value is None:
        raise NotAModel(f"config.json: '{field}' is {_shown(config.get(field))}", hint=_SAVE)
    return value


def _optional(config: dict[str, Any], field: str) -> int | None:
    name = next((one for one in _NAMES[field] if config.get(one) is not None), None)
    if name is None:
        return None
    value = config[name]
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise NotAModel(f"config.json: '{name}' is {_shown(value)}, not a whole number above 0", hint=_SAVE)
    if value > _MOST[field]:
        raise UnsafeSource(
            f"config.json: '{name}' is {_shown(value)}; no model has more than {_MOST[field]}",
            hint="Correct config.json, if this is your model.",
        )
    return value


def _check_positive(config: dict[str, Any]) -> None:
    """Refuse what would make every logit NaN: a scaling of positions or a norm that is zero, or no number."""
    found: dict[str, Any] = {
        name: config[name] for name in ("rope_theta", "rms_norm_eps", "layer_norm_epsilon") if name in config
    }
    for scaling in ("rope_scaling", "rope_parameters"):
        inner = config.get(scaling)
        if isinstance(inner, dict):
            found |= {f"{scaling}.{name}": inner[name] for name in ("factor", "rope_theta") if name in inner}
    for name, value in found.items():
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if value is not None and not (number and 0 < value < math.inf):
            raise NotAModel(f"config.json: '{name}' is {_shown(value)}, not a number above 0", hint=_SAVE)


def _shown(value: Any) -> str:
    try:
        return repr(value)[:40]
    except ValueError:  # an integer of more digits than Python writes
        return "a number of thousands of digits"
