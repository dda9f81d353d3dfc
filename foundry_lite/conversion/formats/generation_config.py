"""Reads ``generation_config.json``: each field of transformers' ``GenerationConfig`` is honoured, or named in a note.

Honoured are those that become defaults of the installed model (`Defaults`); the ids of tokens that end an answer are
the exporter's. Named in a note are those that would change which tokens are chosen, and do not here.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from foundry_lite.catalog.card import Defaults
from foundry_lite.conversion.formats.safe_files import exists, read_json

FILE = "generation_config.json"

# They change how fast or with how much memory tokens are made, what is returned beside them, or nothing.
_SILENT = {
    "assistant_confidence_threshold", "assistant_early_exit", "assistant_ensemble_weight", "assistant_lookbehind",
    "auto_map", "bos_token_id", "cache_config", "cache_implementation", "compile_config", "continuous_batching_config",
    "decoder_start_token_id", "disable_compile", "eos_token_id", "is_assistant", "low_memory", "max_cache_len",
    "max_matching_ngram_size", "num_assistant_tokens", "num_assistant_tokens_schedule", "output_attentions",
    "output_hidden_states", "output_logits", "output_scores", "pad_token_id", "prefill_chunk_size",
    "prompt_lookup_num_tokens", "remove_invalid_values", "renormalize_logits", "return_dict_in_generate",
    "speculation_type", "target_lookbehind", "transformers_version", "use_cache", "use_mtp",
}  # fmt: skip
# Values by which a field changes nothing; ``False``, empty values and null never do either.
_NEUTRAL: dict[str, Any] = {
    "diversity_penalty": 0, "encoder_no_repeat_ngram_size": 0, "encoder_repetition_penalty": 1, "epsilon_cutoff": 0,
    "eta_cutoff": 0, "guidance_scale": 1, "min_length": 0, "no_repeat_ngram_size": 0, "num_beam_groups": 1,
    "num_beams": 1, "num_return_sequences": 1, "penalty_alpha": 0, "top_h": 1, "typical_p": 1,
}  # fmt: skip
_OF_BEAMS = {"diversity_penalty", "early_stopping", "length_penalty", "num_beam_groups"}  # nothing without several
_OF_DRAWING = {"epsilon_cutoff", "eta_cutoff", "min_p", "temperature", "top_h", "top_k", "top_p", "typical_p"}
_OTHERS = {
    "bad_words_ids", "begin_suppress_tokens", "constraints", "do_sample", "dola_layers",
    "exponential_decay_length_penalty", "force_words_ids", "forced_bos_token_id", "forced_eos_token_id", "max_length",
    "max_time", "sequence_bias", "token_healing", "watermarking_config",
}  # fmt: skip
_LONGEST = 60  # characters of a value in a note
_MOST_NAMED = 12
_MOST_TOKENS = 10_000


def _is_number(value: Any, least: float, most: float) -> bool:
    is_real = isinstance(value, int | float) and not isinstance(value, bool)
    return is_real and least <= value <= most  # not so for NaN, which JSON of Python may hold


def _is_count(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value < 2**31


def _tokens(value: Any) -> tuple[int, ...] | None:
    fine = isinstance(value, list) and len(value) <= _MOST_TOKENS and all(_is_count(one, 0) for one in value)
    return tuple(value) if fine else None


def _texts(value: Any) -> tuple[str, ...] | None:
    found = [value] if isinstance(value, str) else value
    fine = isinstance(found, list) and all(isinstance(one, str) and 0 < len(one) <= 1000 for one in found)
    return tuple(found) if fine and len(found) <= 64 else None


# Field → the field of `Defaults`, and its value; ``None`` for one that cannot be obeyed.
_HONOURED: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "temperature": ("temperature", lambda value: float(value) if _is_number(value, 0, 2) else None),
    "top_p": ("top_p", lambda value: float(value) if _is_number(value, math.ulp(0.0), 1) else None),
    "top_k": ("top_k", lambda value: value if _is_count(value, 0) else None),
    "min_p": ("min_p", lambda value: float(value) if _is_number(value, 0, 1) else None),
    "repetition_penalty": (
        "repetition_penalty",
        lambda value: float(value) if _is_number(value, math.ulp(0.0), 10) else None,
    ),
    "max_new_tokens": ("max_new_tokens", lambda value: value if _is_count(value, 1) else None),
    "min_new_tokens": ("min_tokens", lambda value: value if _is_count(value, 0) else None),
    "stop_strings": ("stop", _texts),
    "suppress_tokens": ("suppressed", _tokens),
}
KNOWN = _SILENT | _NEUTRAL.keys() | _OF_BEAMS | _OTHERS | _HONOURED.keys()


def read_generation(folder: Path, config: Mapping[str, Any], context_length: int) -> tuple[Defaults, tuple[str, ...]]:
    """Return the defaults of a folder, and what the user should know of the rest.

    Where there is no ``generation_config.json``, the generation fields of config.json count, as in transformers.
    Raises `NotAModel` or `UnsafeSource`.
    """
    if exists(folder / FILE):
        return defaults_of(read_json(folder / FILE), FILE, context_length)
    return defaults_of({name: config[name] for name in sorted(config.keys() & KNOWN)}, "config.json", context_length)


def defaults_of(own: Mapping[str, Any], where: str, context_length: int) -> tuple[Defaults, tuple[str, ...]]:
    """Return the defaults that a configuration names, and a note on fields that are not honoured.

    Greedy where it has ``do_sample: false``; fields that only sampling reads are then ignored, as in transformers.
    """
    is_greedy = own.get("do_sample") is False
    said = {name: value for name, value in own.items() if value is not None and not (is_greedy and name in _OF_DRAWING)}
    asked = {name: read(said[name]) for name, (_, read) in _HONOURED.items() if name in said}
    found = {_HONOURED[name][0]: value for name, value in asked.items() if value is not None}
    left = {
        name: value
        for name, value in said.items()
        if (name in asked and asked[name] is None)
        or (name not in _HONOURED and _is_asked(name, value, said, context_length))
    }
    single, longer = _bad_words(said.get("bad_words_ids", []))
    if single:
        found["suppressed"] = tuple(dict.fromkeys((*found.get("suppressed", ()), *single)))
    left |= {"bad_words_ids": longer} if longer else {}
    found |= {"temperature": 0.0} if is_greedy else {}
    return msgspec.structs.replace(Defaults(), **found), _notes(left, where)


def _is_asked(name: str, value: Any, said: Mapping[str, Any], context_length: int) -> bool:
    """Return whether a field that is not honoured would change the answers."""
    if name in _SILENT or name.startswith("_") or name in ("do_sample", "bad_words_ids") or not value:
        return False
    if name in _OF_BEAMS and said.get("num_beams") in (None, 1):
        return False
    if name == "max_length":  # of prompt and answer; whoever gives both means the other
        return said.get("max_new_tokens") is None and not (_is_count(value, 1) and value >= context_length)
    return name not in _NEUTRAL or value != _NEUTRAL[name]


def _bad_words(value: Any) -> tuple[list[int], list[Any]]:
    """Tell words of one token, which can be forbidden, from longer ones."""
    single: list[int] = []
    longer: list[Any] = []
    for word in value if isinstance(value, list) else [value]:
        tokens = _tokens(word)
        if tokens is not None and len(tokens) == 1 and len(single) < _MOST_TOKENS:
            single.append(tokens[0])
        else:
            longer.append(word)
    return single, longer


def _notes(left: Mapping[str, Any], where: str) -> tuple[str, ...]:
    if not left:
        return ()
    named = [f"{name[:60]} = {_shown(value)}" for name, value in left.items()]
    more = f" and {len(named) - _MOST_NAMED} more" if len(named) > _MOST_NAMED else ""
    return (f"{where} asks for what is not done here: {', '.join(named[:_MOST_NAMED])}{more}.",)


def _shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
