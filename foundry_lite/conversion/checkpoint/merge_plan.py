"""Merge plan of a PEFT adapter: its change to each base tensor, found from names and shapes in the two files.

Source: the names that PEFT (0.21) saves. ``base_model.model.`` stands before the name of a module, which is followed by
``lora_A.weight`` and ``lora_B.weight``; ``lora_embedding_A`` and ``lora_embedding_B``; ``lora_B.bias``;
``lora_magnitude_vector`` (DoRA); ``base_layer.weight`` or ``.bias`` (what the base had, or a trained bias);
``token_adapter.trainable_tokens_delta`` (new rows of an embedding); or ``weight`` or ``bias`` (trained as a whole).
Where the vocabulary grew, head and embedding stand there with all that they consist of: ``modules_to_save.weight``, the
same as ``weight``, ``original_module.weight``, and ``token_adapter.base_layer.weight``.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from foundry_lite.conversion.formats.peft_config import TOKENS, WEIGHTS, rank_of, scale_of
from foundry_lite.conversion.formats.safetensors import Tensor
from foundry_lite.errors import DamagedWeights, UnsupportedAdapter, WrongBase

HEAD = "lm_head.weight"

_PREFIX = "base_model.model."
_KEYS = re.compile(
    r"(?P<module>.+?)\.(?:(?P<side>lora_[AB]|lora_embedding_[AB])(?:\.weight)?|(?P<bias>lora_B\.bias)"
    r"|(?P<magnitude>lora_magnitude_vector)(?:\.weight)?|(?:token_adapter\.)?base_layer\.(?P<base>weight|bias)"
    r"|modules_to_save\.(?P<saved>weight|bias)|original_module\.(?P<original>weight|bias)"
    r"|(?:token_adapter\.)?(?P<tokens>trainable_tokens_delta)|(?P<whole>weight|bias))"
)
_PARTS = {"base": "copy", "original": "copy", "tokens": "rows"}
_CONV1D = re.compile(r"(?:.*\.)?(?:c_attn|c_proj|c_fc|q_attn)")  # GPT-2's, stored as (inputs, outputs)
_EMBEDDINGS = ("embed_tokens.weight", "wte.weight", "embed_in.weight", "word_embeddings.weight")
_MERGE_THERE = "Merge it where it was trained (merge_and_unload, save_pretrained), and import that."
_OTHER_VOCABULARY = (
    "Give the model that it was trained on, with that vocabulary (resize_token_embeddings, save_pretrained): "
    f"--base PATH. {_MERGE_THERE.replace('Merge', 'Or merge', 1)}"
)
_ONE_BASE = "Give the model that it was trained on: --base PATH."


@dataclass(frozen=True, slots=True)
class Change:
    """Change of one base tensor by the merge. All strings but ``source`` are names in the adapter's file, or empty.

    In order: ``whole`` or else ``source``, the base's tensor, is taken; rows are replaced; ``up``·``down`` times
    ``scale`` is added; with a ``magnitude`` every output is brought to that length; ``added`` times ``scale`` is added.
    """

    source: str
    whole: str = ""
    saved: str = ""  # the same as ``whole`` under another name
    copy: str = ""  # what the base's tensor was during the training
    down: str = ""
    up: str = ""
    scale: float = 1.0
    by_columns: bool = False  # outputs are the columns of the stored matrix: embeddings, and GPT-2's layers
    magnitude: str = ""
    added: str = ""
    rows: str = ""
    indices: tuple[int, ...] = ()
    shape: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """All changes by the name of the tensor that is written. ``unties``: the head gets weights of its own.

    ``vocabulary`` is the number of rows that the embedding has then.
    """

    changes: dict[str, Change]
    unties: bool
    vocabulary: int


def make_plan(
    config: dict[str, Any],
    base_config: dict[str, Any],
    adapter: Mapping[str, Tensor],
    base: Mapping[str, tuple[int, ...]],
) -> Plan:
    """Find what the adapter does to each tensor. ``base`` has the base's shapes.

    Raises `WrongBase` for an adapter of a model of another shape, `UnsupportedAdapter`, or `DamagedWeights`.
    """
    tied = HEAD not in base
    names = _Names(base, tied)
    changes: dict[str, Change] = {}
    for key in adapter:
        target, part = _read_key(key, names)
        before = changes.get(target) or Change(names.source(target))
        changes[target] = _with_part(before, part, key)
    for target, change in changes.items():
        changes[target] = _complete(target, change, config, base_config, adapter, base)
    _require_biases(changes, config, base)
    _require_saved(changes, config)
    return _settle(changes, names, tied, base)


class _Names:
    """The names of the base's tensors, found from the names of modules in the training."""

    def __init__(self, base: Mapping[str, tuple[int, ...]], tied: bool) -> None:
        self._base = base
        self.embedding = next((name for name in base if name.endswith(_EMBEDDINGS)), "")
        self._tied = tied

    def find(self, name: str) -> str:
        """Return the base's name; files written by the inner model lack the first part, such as ``transformer.``."""
        if name in self._base or (name == HEAD and self._tied):
            return name
        inner = name.partition(".")[2]
        if inner in self._base:
            return inner
        raise WrongBase(f"the adapter changes {name}, which the base has not", hint=_ONE_BASE)

    def source(self, target: str) -> str:
        return self.embedding if target == HEAD and self._tied else target


def _read_key(key: str, names: _Names) -> tuple[str, str]:
    """Return the base's tensor that a tensor of the adapter belongs to, and the field of `Change` that it fills."""
    match = _KEYS.fullmatch(key.removeprefix(_PREFIX)) if key.startswith(_PREFIX) else None
    if match is None:
        raise UnsupportedAdapter(
            f"{WEIGHTS}: '{key[:120]}' is nothing that is known of LoRA",
            hint="Merge it by PEFT (merge_and_unload), save the model, and import that.",
        )
    module, found = match["module"], match.groupdict()
    if side := found["side"]:
        return names.find(f"{module}.weight"), "up" if side.endswith("B") else "down"
    if found["bias"]:
        return names.find(f"{module}.bias"), "added"
    if found["base"] == "bias":
        return names.find(f"{module}.bias"), "whole"
    kind = next(one for one in ("magnitude", "base", "original", "saved", "tokens", "whole") if found[one])
    leaf = found["whole"] or found["saved"] or found["original"] or "weight"
    return names.find(f"{module}.{leaf}"), _PARTS.get(kind, kind)


def _with_part(change: Change, part: str, key: str) -> Change:
    if getattr(change, part):
        raise DamagedWeights(f"{WEIGHTS}: {key} stands there twice, under two names", hint="Save the adapter again.")
    found: dict[str, Any] = {part: key, "by_columns": change.by_columns or ".lora_embedding_" in key}
    return dataclasses.replace(change, **found)


def _complete(
    target: str,
    change: Change,
    config: dict[str, Any],
    base_config: dict[str, Any],
    adapter: Mapping[str, Tensor],
    base: Mapping[str, tuple[int, ...]],
) -> Change:
    """Add the numbers, and compare all shapes."""
    module = target.rpartition(".")[0]
    shape = base[change.source]
    change = dataclasses.replace(change, whole=change.whole or change.saved)
    kept = change.whole or change.copy
    if kept:
        for name in filter(None, (change.whole, change.saved, change.copy)):
            _require_size(target, adapter[name].shape, shape)
        shape = adapter[kept].shape
        if not change.whole and shape != base[change.source]:
            change = dataclasses.replace(change, whole=change.copy)  # the embedding was made larger before the training
    change = dataclasses.replace(change, shape=shape)
    if change.down or change.up or change.magnitude:
        change = _complete_factors(target, module, change, config, base_config, adapter)
    if change.added:
        change = dataclasses.replace(change, scale=scale_of(config, module))
        if adapter[change.added].shape != shape:
            raise _differs(target, adapter[change.added].shape, shape)
    if change.rows:
        change = _complete_rows(module, change, config, adapter)
    return change


def _require_biases(changes: Mapping[str, Change], config: dict[str, Any], base: Mapping[str, tuple[int, ...]]) -> None:
    """Refuse an adapter that trained biases and does not bring them: versions of PEFT before 0.21 leave some out."""
    if config.get("bias", "none") == "none":
        return
    adapted = (f"{name.removesuffix('.weight')}.bias" for name, change in changes.items() if change.down)
    trained = [name for name in base if name.endswith(".bias")] if config["bias"] == "all" else adapted
    missing = next((name for name in trained if name in base and name not in changes), None)
    if missing:
        raise UnsupportedAdapter(
            f"{WEIGHTS}: {missing} was trained (bias={config['bias']!r}), and PEFT did not save it",
            hint=f"{_MERGE_THERE} Or save it with PEFT 0.21 or newer.",
        )


def _require_saved(changes: Mapping[str, Change], config: dict[str, Any]) -> None:
    """Refuse an adapter whose configuration names modules or tokens as trained that its file does not have."""
    named = config.get("modules_to_save") or []
    whole = [name.rpartition(".")[0] for name, change in changes.items() if change.whole]
    for name in [named] if isinstance(named, str) else named:
        if not any(f".{module}".endswith(f".{name}") for module in whole):
            raise UnsupportedAdapter(
                f"{WEIGHTS}: {name} was trained (modules_to_save), and the file has no weights of it",
                hint=_MERGE_THERE,
            )
    if config.get("trainable_token_indices") and not any(change.rows for change in changes.values()):
        raise UnsupportedAdapter(
            f"{WEIGHTS}: tokens were trained (trainable_token_indices), and the file has none of their rows",
            hint=_MERGE_THERE,
        )


def _require_size(target: str, found: tuple[int, ...], expected: tuple[int, ...]) -> None:
    """Compare the shapes, but for the rows of an embedding or head: a vocabulary may have grown."""
    resizable = target == HEAD or target.endswith(_EMBEDDINGS)
    if found != expected and not (resizable and len(found) == 2 and found[1:] == expected[1:]):
        raise _differs(target, found, expected)


def _complete_factors(
    target: str,
    module: str,
    change: Change,
    config: dict[str, Any],
    base_config: dict[str, Any],
    adapter: Mapping[str, Tensor],
) -> Change:
    if not change.down or not change.up:
        raise DamagedWeights(f"{WEIGHTS}: {module} has only one of its two matrices", hint="Save the adapter again.")
    if bool(config.get("use_dora")) != bool(change.magnitude):
        raise DamagedWeights(
            f"{WEIGHTS}: {module} has {'a' if change.magnitude else 'no'} magnitude, and its configuration says "
            f"use_dora={bool(config.get('use_dora'))}",
            hint="Save the adapter again.",
        )
    down, up = adapter[change.down].shape, adapter[change.up].shape
    rank = rank_of(config, module)
    if len(down) != 2 or len(up) != 2 or not down[0] == up[1] == rank:
        raise DamagedWeights(
            f"{WEIGHTS}: {module} has matrices of the shapes {list(down)} and {list(up)}; the rank is {rank:g}",
            hint="Save the adapter again.",
        )
    size = (up[0], down[1])
    by_columns = change.by_columns or _is_transposed(module, size, change.shape, config, base_config)
    if (size[::-1] if by_columns else size) != change.shape:
        raise _differs(target, size[::-1] if by_columns else size, change.shape)
    if change.magnitude and adapter[change.magnitude].shape != (up[0],):
        raise _differs(change.magnitude, adapter[change.magnitude].shape, (up[0],))
    return dataclasses.replace(change, scale=scale_of(config, module), by_columns=by_columns)


def _is_transposed(
    module: str, size: tuple[int, int], shape: tuple[int, ...], config: dict[str, Any], base_config: dict[str, Any]
) -> bool:
    """Return whether a layer is stored as ``(inputs, outputs)``; ``fan_in_fan_out`` is only that of the last layer."""
    if size[0] != size[1]:
        return size[::-1] == shape
    old = base_config.get("model_type") in ("gpt2", "openai-gpt", "imagegpt")
    return (old or bool(config.get("fan_in_fan_out"))) and _CONV1D.fullmatch(module) is not None


def _complete_rows(module: str, change: Change, config: dict[str, Any], adapter: Mapping[str, Tensor]) -> Change:
    indices: Any = config.get("token_indices" if config.get("peft_type") == TOKENS else "trainable_token_indices")
    if isinstance(indices, dict):
        indices = next((indices[name] for name in indices if f".{module}".endswith(f".{name}")), None)
    rows = adapter[change.rows].shape
    whole = isinstance(indices, list) and all(type(one) is int and 0 <= one < change.shape[0] for one in indices)
    if not whole or rows != (len(indices), *change.shape[1:]) or change.down:
        raise DamagedWeights(
            f"{WEIGHTS}: the trained tokens of {module} have the shape {list(rows)}, and their numbers do not fit",
            hint="Save the adapter again.",
        )
    return dataclasses.replace(change, indices=tuple(indices))


def _settle(changes: dict[str, Change], names: _Names, tied: bool, base: Mapping[str, tuple[int, ...]]) -> Plan:
    """Decide whether head and embedding stay one tensor.

    In PEFT's model they are two as soon as one of them has an adapter or a copy of its own. What was tied stays in
    both: the trained tokens of an embedding, and the rows by which a vocabulary grew.
    """
    embedding = changes.get(names.embedding)
    head = changes.get(HEAD)
    if tied and embedding and head is None and (embedding.rows or _has_only_grown(embedding, base)):
        return Plan(changes, unties=False, vocabulary=embedding.shape[0])
    if tied and (embedding or head):
        untouched = Change(names.embedding, shape=base[names.embedding])
        before = embedding or untouched
        changes[HEAD] = _sharing(head or untouched, before, rows=head is not None)
        after = _sharing(before, changes[HEAD], rows=False)
        if after is not untouched:
            changes[names.embedding] = after
    rows = changes[names.embedding].shape[0] if names.embedding in changes else base[names.embedding][0]
    heads = changes[HEAD].shape[0] if HEAD in changes else base.get(HEAD, (rows,))[0]
    if heads != rows:
        raise UnsupportedAdapter(
            f"{WEIGHTS}: the embedding has {rows} tokens, the head {heads}: the vocabulary changed in the training, "
            "and PEFT did not save both",
            hint=_MERGE_THERE,
        )
    return Plan(changes, unties=tied and HEAD in changes, vocabulary=rows)


def _has_only_grown(embedding: Change, base: Mapping[str, tuple[int, ...]]) -> bool:
    return not embedding.down and embedding.shape != base[embedding.source]


def _sharing(one: Change, other: Change, *, rows: bool) -> Change:
    """Return a tensor with what it shares with the one that it was tied to, and that was saved for that one alone."""
    is_grown = other.copy and other.whole == other.copy
    if is_grown and not one.whole:
        one = dataclasses.replace(one, whole=other.copy, shape=other.shape)
    if rows and other.rows and not one.rows and one.whole in ("", one.copy):
        one = dataclasses.replace(one, rows=other.rows, indices=other.indices)
    return one


def _differs(name: str, found: tuple[int, ...], expected: tuple[int, ...]) -> WrongBase:
    other_words = (name == HEAD or name.endswith(_EMBEDDINGS)) and found[1:] == expected[1:]
    return WrongBase(
        f"the adapter was trained on a model whose {name} has the shape {list(found)}; the base has {list(expected)}",
        hint=_OTHER_VOCABULARY if other_words else _ONE_BASE,
    )
