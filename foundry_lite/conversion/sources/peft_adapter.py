"""A PEFT adapter together with its base: LoRA, rsLoRA, DoRA, to be merged into weights of 16 or 32 bit (`merge`).

Which base it was trained on stands in its configuration, as a name that may mean anything by now. So the base is also
compared: the sizes of all that is changed, the embedding and tokenizer that were saved beside the adapter, and the
magnitudes of DoRA, which began as the lengths of the base's own rows.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from foundry_lite.conversion.checkpoint.merge_plan import HEAD, Change, Plan, make_plan
from foundry_lite.conversion.formats import peft_config
from foundry_lite.conversion.formats.hf_config import read_config
from foundry_lite.conversion.formats.safe_files import check_file, exists
from foundry_lite.conversion.formats.safetensors import Tensor, read_header, read_raw, read_rows, spans
from foundry_lite.conversion.sources import hf_folder, hub_cache
from foundry_lite.conversion.sources.chat_templates import check_templates, notes_on, template_paths
from foundry_lite.conversion.sources.source_model import Kind, Options, SourceModel
from foundry_lite.conversion.sources.vocabulary import check_vocabulary, read_vocabulary
from foundry_lite.conversion.sources.weight_checks import (
    EMBEDDINGS,
    HEADS,
    by_name,
    check_finite,
    has_own_head,
    is_tied,
)
from foundry_lite.errors import DamagedWeights, NotAModel, UnsupportedAdapter, WrongBase

TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "chat_template.jinja",
    "chat_template.json", "vocab.json", "merges.txt", "tokenizer.model",
)  # fmt: skip

_OBEYED = {
    "fan_in_fan_out", "bias", "use_dora", "lora_bias", "modules_to_save", "trainable_token_indices",
    "save_embedding_layers", "peft_type", "token_indices", "init_weights",
}  # fmt: skip
_MERGE_BY_PEFT = "Merge it by PEFT (merge_and_unload), save the model, and import that."
_GIVE_BASE = "Give the model that it was trained on, in 16 or 32 bit: --base PATH."
_SAME_TOKENS = 0.98  # of the tokens of two tokenizers have the same number when they are of one model
_NEAR = 0.02  # of the spread of an embedding: what 16 bit change of it is a tenth of that
_ALIKE = 0.5  # correlation of magnitudes and lengths: near 1 for the right base, near 0 for others
_FEW = 8  # modules whose magnitudes are compared


@dataclasses.dataclass(frozen=True, slots=True)
class Weights:
    """The tensors of an adapter and of its base, each with its file."""

    path: Path
    adapter: dict[str, Tensor]
    base: dict[str, tuple[Path, Tensor]]


def recognises(path: Path) -> bool:
    """Return whether a path is a PEFT adapter's folder; with a whole model beside the adapter, it is not."""
    return peft_config.is_adapter(path) and not (path / "config.json").is_file()


def inspect(folder: Path, options: Options) -> SourceModel:
    """Look at an adapter and its base.

    Raises a `SourceRejected`: `WrongBase` or `UnsupportedAdapter` besides those of a model folder.
    """
    config = peft_config.read_config(folder)
    peft_config.check_fields(config, _OBEYED, _MERGE_BY_PEFT)
    path = peft_config.find_weights(folder)
    weights = read_header(path)
    base_folder = find_base(folder, config, options.base)
    base = _inspect_base(base_folder)
    plan, both = read_plan(folder, base_folder, shards_of(base))
    check_finite({path: weights})
    _compare_embedding(plan, both)
    _compare_magnitudes(plan, both)
    _compare_tokenizers(folder, base_folder)
    texts = folder if exists(folder / "tokenizer.json") else base_folder
    check_vocabulary(texts, plan.vocabulary)
    templates = check_templates(folder) or check_templates(base_folder)
    untied = plan.changes[HEAD].shape if plan.unties else (0,)
    return dataclasses.replace(
        base,
        kind=Kind.ADAPTER,
        folder=folder,
        files=(folder / peft_config.CONFIG, path, *own_texts(folder)),
        parameters=base.parameters + int(np.prod(untied)),
        license=hf_folder.read_license(folder),  # the adapter's own; the card has the base's too
        base=base,
        needs_template=not templates,
        notes=(
            *_notes(base_folder, config, plan),
            *_notes_of_base(base),
            *hf_folder.check_code(folder, read_config(base_folder)),
            *notes_on(templates),
        ),
    )


def find_base(folder: Path, config: dict[str, Any], given: Path | None) -> Path:
    """Return the base's folder: the one given, else the one that the adapter names, here or in the hub's cache.

    Raises `UnsupportedAdapter` when there is none.
    """
    if given is not None:
        if not given.is_dir():
            raise NotAModel(f"{given}, the base, is no folder", hint=_GIVE_BASE)
        return given
    name, revision = config.get("base_model_name_or_path"), config.get("revision")
    if not isinstance(name, str) or not name:
        raise UnsupportedAdapter(f"{peft_config.CONFIG} does not name the base", hint=_GIVE_BASE)
    for path in (Path(name), folder / name):
        if (path.is_absolute() or path.parent != Path()) and (path / "config.json").is_file():
            return path
    found = hub_cache.find_snapshot(name, revision if isinstance(revision, str) else None)
    if found is None:
        raise UnsupportedAdapter(f"the base '{name[:120]}' is not on this machine", hint=_GIVE_BASE)
    return found


def read_plan(folder: Path, base: Path, shards: Iterable[Path]) -> tuple[Plan, Weights]:
    """Return what the adapter changes, and where all tensors are. Raises `WrongBase`, `DamagedWeights`."""
    path = peft_config.find_weights(folder)
    config = read_config(base)
    tensors = _without_copies(config, by_name({one: read_header(one) for one in shards}))
    shapes = {name: tensor.shape for name, (_, tensor) in tensors.items()}
    weights = Weights(path, read_header(path), tensors)
    plan = make_plan(peft_config.read_config(folder), config, weights.adapter, shapes)
    if not plan.changes:
        raise DamagedWeights(f"{path.name} holds no matrices", hint="Save the adapter again.")
    _compare_saved(plan, weights)
    return _tied_again(plan, weights), weights


def _without_copies(config: dict[str, Any], base: dict[str, tuple[Path, Tensor]]) -> dict[str, tuple[Path, Tensor]]:
    """Leave out a head that is saved as a copy of the embedding which it is tied to: the training had one tensor."""
    if not is_tied(config) or has_own_head(base):
        return base
    has_embedding = any(name.endswith(EMBEDDINGS) for name in base)
    return {name: one for name, one in base.items() if not (has_embedding and name in HEADS)}


def shards_of(base: SourceModel) -> tuple[Path, ...]:
    """Return the weight files of a base."""
    return tuple(path for path in base.files if path.suffix == ".safetensors")


def own_texts(folder: Path) -> tuple[Path, ...]:
    """Return the tokenizer's files that were saved beside the adapter."""
    named = tuple(check_file(folder / name) for name in TOKENIZER_FILES if exists(folder / name))
    return named + template_paths(folder)


def _inspect_base(folder: Path) -> SourceModel:
    if peft_config.is_adapter(folder) and not exists(folder / "config.json"):
        raise UnsupportedAdapter(f"the base {folder} is an adapter itself", hint="Merge and save that one first.")
    if read_config(folder).get("quantization_config"):
        raise UnsupportedAdapter(
            f"the base {folder} is quantized: merged into it, what the adapter learned would be rounded away",
            hint="Give the same model in 16 or 32 bit, also for an adapter that was trained by QLoRA: --base PATH.",
        )
    return hf_folder.inspect(folder)


def _tied_again(plan: Plan, weights: Weights) -> Plan:
    """Keep head and embedding one tensor where an adapter was saved with the same copy of both."""
    head = plan.changes.get(HEAD)
    name, embedding = next(((n, c) for n, c in plan.changes.items() if head and n == head.source), ("", None))
    if not plan.unties or not head or not embedding or not _is_copy(head) or not _is_copy(embedding):
        return plan
    pairs = [(head.whole, embedding.whole), (head.rows, embedding.rows)]
    if head.indices != embedding.indices or not all(_is_same(weights, *pair) for pair in pairs):
        return plan
    changes = {one: change for one, change in plan.changes.items() if one != HEAD}
    return Plan(changes, unties=False, vocabulary=plan.changes[name].shape[0])


def _is_copy(change: Change) -> bool:
    return bool(change.whole or change.rows) and not change.down


def _is_same(weights: Weights, one: str, other: str) -> bool:
    """Compare two tensors of the adapter, byte by byte; no name is the same as no name."""
    if one == other:
        return True
    if not one or not other or weights.adapter[one].shape != weights.adapter[other].shape:
        return False
    pieces = [read_raw(weights.path, weights.adapter[name]) for name in (one, other)]
    return all(np.array_equal(*pair) for pair in zip(*pieces, strict=True))


def _compare_saved(plan: Plan, weights: Weights) -> None:
    """Compare what was saved twice, under two names. Raises `DamagedWeights`: PEFT would take either."""
    for change in plan.changes.values():
        if change.saved and not _is_same(weights, change.whole, change.saved):
            raise DamagedWeights(
                f"{weights.path.name}: {change.whole} and {change.saved} should be the same, and differ",
                hint="Save the adapter again.",
            )


def _compare_embedding(plan: Plan, weights: Weights) -> None:
    """Compare the base's embedding with the one that PEFT saved beside an adapter of it."""
    for name, change in plan.changes.items():
        if not change.copy:
            continue
        path, tensor = weights.base[change.source]
        for first, last in spans(tensor):
            own = read_rows(path, name, tensor, first, last)
            saved = weights.adapter[change.copy]
            then = read_rows(weights.path, change.copy, saved, first, min(last, saved.rows))
            rows = min(len(own), len(then))
            if rows and np.abs(own[:rows] - then[:rows]).mean() > _NEAR * own[:rows].std():
                raise WrongBase(
                    f"the adapter was saved with the {name} of its base, and this base has another one",
                    hint=_GIVE_BASE,
                )


def _compare_magnitudes(plan: Plan, weights: Weights) -> None:
    alike = [
        one
        for name, change in list(plan.changes.items())
        if change.magnitude and not change.by_columns and (one := _likeness(name, change, weights)) is not None
    ][:_FEW]
    if alike and float(np.median(alike)) < _ALIKE:
        raise WrongBase(
            "the adapter's magnitudes (DoRA) do not follow the lengths of this base's rows: "
            f"their correlation is {np.median(alike):.2f}, and near 1 in the model that it was trained on",
            hint=_GIVE_BASE,
        )


def _likeness(name: str, change: Change, weights: Weights) -> float | None:
    path, tensor = weights.base[change.source]
    lengths = np.concatenate(
        [np.linalg.norm(read_rows(path, name, tensor, *span), axis=1) for span in spans(tensor)] or [np.zeros(0)]
    )
    magnitudes = read_rows(weights.path, change.magnitude, weights.adapter[change.magnitude])
    rows = min(len(lengths), len(magnitudes))  # a vocabulary may have grown
    lengths, magnitudes = lengths[:rows], magnitudes[:rows]
    if lengths.std() < 1e-4 * lengths.mean() or not magnitudes.std():
        return None  # rows of one length are no evidence
    return float(np.corrcoef(lengths, magnitudes)[0, 1])


def _compare_tokenizers(folder: Path, base: Path) -> None:
    if not exists(folder / "tokenizer.json"):
        return
    own, theirs = read_vocabulary(folder), read_vocabulary(base)
    common = [token for token in own if token in theirs]
    same = sum(own[token] == theirs[token] for token in common)
    if same < _SAME_TOKENS * min(len(own), len(theirs)):
        raise WrongBase(
            f"the tokenizer beside the adapter is another than the base's: {same} of {len(own)} tokens have the same "
            "number in both",
            hint=_GIVE_BASE,
        )


def _notes(base: Path, config: dict[str, Any], plan: Plan) -> tuple[str, ...]:
    name = config.get("base_model_name_or_path")
    known = {hub_cache.name_of(base), base.name, str(read_config(base).get("_name_or_path", ""))}
    notes = []
    if isinstance(name, str) and name and _last(name) not in {_last(one) for one in known}:
        notes.append(
            f"The adapter says that it was trained on '{name[:120]}'; it is merged into {base}. Their sizes agree; "
            "whether it is the same model, only you know."
        )
    if plan.unties:
        notes.append("Head and embedding were one tensor in the base; the adapter makes two of them.")
    return tuple(notes)


def _notes_of_base(base: SourceModel) -> tuple[str, ...]:
    """Return what holds for the merged model too; of templates, the adapter may bring others."""
    of_templates = notes_on(check_templates(base.folder))
    return tuple(note for note in base.notes if note not in of_templates)


def _last(name: str) -> str:
    return name.replace("\\", "/").rstrip("/").rpartition("/")[2].lower()
