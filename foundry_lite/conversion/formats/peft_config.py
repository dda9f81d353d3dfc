"""PEFT's ``adapter_config.json`` for LoRA: what is obeyed, and what is refused because it would be ignored.

Source: PEFT's ``LoraConfig`` (version 0.21). ``W`` becomes ``W + s B A`` with ``s = alpha / r``, or ``alpha / sqrt(r)``
for rsLoRA. A field that changes what an adapter computes is obeyed or refused, and so is a field that is not known
here, unless it is empty.
"""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

from foundry_lite.conversion.formats.safe_files import check_file, exists, read_json
from foundry_lite.errors import NotAModel, PickledWeights, UnsupportedAdapter

LORA, TOKENS = "LORA", "TRAINABLE_TOKENS"
CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"

_READ = {"peft_type", "r", "lora_alpha", "use_rslora", "rank_pattern", "alpha_pattern", "init_lora_weights", "bias"}
# What describes the training, and does not change what the saved adapter computes.
_NEUTRAL = {
    "auto_mapping", "base_model_name_or_path", "ensure_weight_tying", "eva_config", "exclude_modules",
    "inference_mode", "layers_pattern", "layers_to_transform", "lora_dropout", "megatron_core", "peft_version",
    "qalora_group_size", "revision", "runtime_config", "target_modules", "task_type",
}  # fmt: skip
# Methods that compute beside the weights, so that nothing can be merged.
_BESIDE_WEIGHTS = {
    "ADAPTION_PROMPT", "CARTRIDGE", "CPT", "MULTITASK_PROMPT_TUNING", "P_TUNING", "POLY", "PREFIX_TUNING",
    "PROMPT_TUNING", "XLORA",
}  # fmt: skip
_PER_TOKEN = {"alora_invocation_tokens", "arrow_config"}  # fields of LoRA that is not the same for every token
_BESIDE = "It computes beside the weights and cannot be merged into them. Train LoRA, or all weights."
_MERGE_FIRST = (
    "Only LoRA is read here. Merge it by PEFT: PeftModel.from_pretrained(base, folder).merge_and_unload()"
    ".save_pretrained(target); import the target, with the tokenizer beside it."
)
# Ways to begin that leave the base as it was; the others train against a base that they have changed.
_INITS = (True, False, None, "gaussian", "eva", "orthogonal")


def is_adapter(folder: Path) -> bool:
    """Return whether a folder looks like an adapter as PEFT saves it."""
    return (folder / CONFIG).is_file()


def read_config(folder: Path) -> dict[str, Any]:
    """Read the configuration. Raises `NotAModel` or `UnsafeSource`."""
    if not exists(folder / CONFIG):
        raise NotAModel(f"{folder} is no adapter folder: it has no {CONFIG}", hint="Give a folder as PEFT saves it.")
    try:
        return read_json(folder / CONFIG)
    except NotAModel as error:
        raise NotAModel(error.message, hint="Save the adapter again.") from error


def find_weights(folder: Path) -> Path:
    """Return the adapter's weights. Raises `PickledWeights`, `NotAModel` or `UnsafeSource`."""
    if exists(folder / WEIGHTS):
        return check_file(folder / WEIGHTS)
    if exists(folder / "adapter_model.bin"):
        raise PickledWeights(
            "the weights are pickled (adapter_model.bin): reading them can run any code",
            hint="Save the adapter as safetensors: model.save_pretrained(folder, safe_serialization=True).",
        )
    raise NotAModel(f"{folder} has no {WEIGHTS}", hint="Give a folder as PEFT saves it.")


def check_fields(config: dict[str, Any], obeyed: set[str], hint: str) -> None:
    """Refuse what is neither read here nor among ``obeyed``; ``hint`` is the next step for the user.

    With ``peft_type`` among ``obeyed``, trained tokens alone are taken, too. Raises `UnsupportedAdapter`.
    """
    kind = config.get("peft_type")
    if kind != LORA and not (kind == TOKENS and "peft_type" in obeyed):
        raise unsupported("peft_type", kind, _BESIDE if kind in _BESIDE_WEIGHTS else _MERGE_FIRST)
    if config.get("init_lora_weights", True) not in _INITS:
        raise unsupported(
            "init_lora_weights",
            config["init_lora_weights"],
            "Such a training changes the base too; PEFT can save it as plain LoRA "
            "(save_pretrained with path_initial_model_for_weight_conversion).",
        )
    for name, value in config.items():
        if name not in _READ | _NEUTRAL | obeyed and value:
            raise unsupported(name, value, _BESIDE if name in _PER_TOKEN else hint)


def unsupported(field: str, value: Any, hint: str) -> UnsupportedAdapter:
    """Return the message for a field that cannot be obeyed."""
    return UnsupportedAdapter(f"{CONFIG}: '{field}' is {json.dumps(value)[:80]}, which is not supported", hint=hint)


def rank_of(config: dict[str, Any], module: str) -> float:
    """Return the rank of one module, as PEFT finds it. Raises `NotAModel` when it is no number above 0."""
    return _pattern(config, "rank_pattern", "r", module)


def scale_of(config: dict[str, Any], module: str) -> float:
    """Return the factor before ``B A``. Raises `NotAModel` when it is no number above 0."""
    rank = rank_of(config, module)
    return _pattern(config, "alpha_pattern", "lora_alpha", module) / (
        math.sqrt(rank) if config.get("use_rslora") else rank
    )


def _pattern(config: dict[str, Any], patterns: str, field: str, name: str) -> float:
    """Return a number of the config for one module, as PEFT finds it: the first pattern that its name ends with."""
    try:
        own = config.get(patterns) or {}
        key = next((key for key in own if re.match(rf"(.*\.)?({key})$", name)), None)
    except (re.error, TypeError) as error:
        raise NotAModel(f"{CONFIG}: '{patterns}' cannot be obeyed: {error}", hint="Save the adapter again.") from error
    value = config.get(field) if key is None else own[key]
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise NotAModel(
            f"{CONFIG}: '{field if key is None else patterns}' must be a number above 0, not {json.dumps(value)[:80]}",
            hint="Save the adapter again.",
        )
    return value
