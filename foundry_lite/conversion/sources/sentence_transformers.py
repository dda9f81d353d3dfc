"""Encoders: folders of sentence-transformers, of BERT and its relatives, and cross-encoders that score pairs.

How token vectors become one, and whether it is normalised, stands in the folder's own files; whatever would not be
computed as sentence-transformers computes it is refused by name.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foundry_lite.catalog.card import Task
from foundry_lite.catalog.encoder import Activation, Encoder, Pooling, Similarity
from foundry_lite.conversion.formats.hf_config import read_config, read_shape
from foundry_lite.conversion.formats.safe_files import (
    LARGEST_TEXT,
    check_file,
    decode_json,
    exists,
    read_bytes,
    read_json,
)
from foundry_lite.conversion.sources import hf_folder, remote_code
from foundry_lite.conversion.sources.source_model import Exporter, Kind, Options, SourceModel
from foundry_lite.conversion.sources.vocabulary import check_vocabulary
from foundry_lite.conversion.sources.weight_checks import (
    Shapes,
    check_finite,
    find_weights,
    shapes_of,
    weight_bits,
    weights_notes,
)
from foundry_lite.errors import DamagedWeights, NotAModel, SourceRejected, UnsupportedArchitecture

MODULES = "modules.json"

# Each converted and compared with transformers in tests/integration/test_encoders.py.
FAMILIES = (
    *("Albert", "Bert", "Camembert", "DebertaV2", "DistilBert", "Electra", "EuroBert", "Gte", "JinaEmbeddingsV3"),
    *("MPNet", "ModernBert", "NomicBert", "Roberta", "XLMRoberta"),
)
DECODERS = ("Gemma3Text", "Mistral", "Qwen2", "Qwen3")  # with their hidden states as the vectors of tokens
_OFFSET = ("Camembert", "MPNet", "Roberta", "XLMRoberta")  # positions begin behind that of the padding
_HEADS = ("Model", "ForMaskedLM", "ForCausalLM", "ForPreTraining", "ForSequenceClassification")
_CLASSIFIER = "ForSequenceClassification"

_SETTINGS = ("sentence_bert_config.json", "config_sentence_transformers.json")
_MODES = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_lasttoken": "lasttoken",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
}
_NO_LIMIT = 1_000_000  # tokens: transformers writes 1e30 for a tokenizer without a limit
_LAYER = re.compile(r"(?:^|\.)layers?\.(\d+)\.")
_EMBEDDINGS = ("word_embeddings.weight", "embed_tokens.weight", "tok_embeddings.weight")
_SAVE = "Save the model again with sentence-transformers."
_MEAN_NOTE = "It does not say how token vectors become one: their mean is taken, as sentence-transformers does."


@dataclass(frozen=True, slots=True)
class _Module:
    """Module of `modules.json`: ``kind`` is the name of its class."""

    kind: str
    path: str


def recognises(path: Path) -> bool:
    """Return whether a path is a folder of sentence-transformers, or of a family of encoders."""
    if not path.is_dir() or not exists(path / "config.json"):
        return path.is_dir() and exists(path / MODULES)
    if exists(path / MODULES) or exists(path / _SETTINGS[1]):
        return True
    try:
        name = _architecture(read_config(path))
    except SourceRejected:
        return False
    stem = _stem(name)
    return stem in FAMILIES or (stem in DECODERS and name.endswith((_CLASSIFIER, "Model")))


def inspect(folder: Path, _options: Options | None = None) -> SourceModel:
    """Return the description of an encoder's folder.

    Raises a `SourceRejected`: `NotAModel`, `UnsupportedArchitecture`, `DamagedWeights`, `PickledWeights`, `RemoteCode`,
    `UnsafeSource`.
    """
    config = _read_config(folder)
    stem = _stem(_architecture(config))
    code = remote_code.check_code(folder, config, is_known=stem in FAMILIES or stem in DECODERS)
    encoder = read_head(folder)
    weights = find_weights(folder)
    tensors = shapes_of(weights)
    _check_shapes(config, tensors)
    check_vocabulary(folder, read_shape(_plain(config)).vocabulary)
    check_finite(weights)
    is_said = encoder.task is Task.RERANK or _pooling_file(folder) is not None
    return SourceModel(
        kind=Kind.CROSS if encoder.task is Task.RERANK else Kind.SENTENCES,
        folder=folder,
        files=(*weights, *hf_folder.text_files(folder), *_own_files(folder)),
        architecture=_architecture(config),
        parameters=sum(math.prod(size) for size in tensors.values()),
        context_length=encoder.max_length,
        task=encoder.task,
        exporter=Exporter.ENCODER,
        license=hf_folder.read_license(folder),
        weight_bits=weight_bits(weights),
        notes=(*([] if is_said else [_MEAN_NOTE]), *weights_notes(folder), *code),
    )


def read_head(folder: Path) -> Encoder:
    """Return the encoder settings of a folder, by which its vectors or scores are made; without those of the graph.

    Raises `UnsupportedArchitecture` naming what is not supported, `NotAModel` or `UnsafeSource`.
    """
    config = _read_config(folder)
    name = _architecture(config)
    _require_family(name)
    length = _max_length(folder, config, _stem(name))
    pad = config.get("pad_token_id")
    pad_id = pad if isinstance(pad, int) and pad >= 0 else 0
    lowercase = _optional(folder / _SETTINGS[0]).get("do_lower_case") is True
    if name.endswith(_CLASSIFIER):
        _require_one_label(config)
        return Encoder(Task.RERANK, length, 1, pad_id, activation=_activation(config), lowercase=lowercase)
    own = _optional(folder / _SETTINGS[1])
    prompts = own.get("prompts")
    texts = {str(k): v for k, v in prompts.items() if isinstance(v, str) and v} if isinstance(prompts, dict) else {}
    return Encoder(
        task=Task.EMBED,
        max_length=length,
        dimensions=read_shape(_plain(config)).hidden,
        pad_id=pad_id,
        pooling=_pooling(folder),
        normalise=any(one.kind == "Normalize" for one in _modules(folder)),
        similarity=_similarity(own),
        lowercase=lowercase,
        prompts=texts,
        default_prompt=default if (default := own.get("default_prompt_name")) in texts else "",
    )


def _read_config(folder: Path) -> dict[str, Any]:
    if not exists(folder / "config.json"):
        nested = [one.path for one in _modules(folder) if one.kind == "Transformer" and one.path]
        if nested:
            raise NotAModel(
                f"the model lies in {nested[0]!r} inside of {folder}, as old sentence-transformers saved it",
                hint="Load it with a current sentence-transformers and save it again.",
            )
    return read_config(folder)


def _architecture(config: dict[str, Any]) -> str:
    names = config.get("architectures")
    return str(names[0]) if isinstance(names, list) and names else ""


def _stem(architecture: str) -> str:
    return next((architecture.removesuffix(head) for head in _HEADS if architecture.endswith(head)), architecture)


def _require_family(name: str) -> None:
    stem = _stem(name)
    is_scored_decoder = stem in DECODERS and name.endswith(_CLASSIFIER)
    if (stem in FAMILIES or stem in DECODERS) and not is_scored_decoder:
        return
    given = f"'{name}'" if name else "none named in config.json"
    more = "" if is_scored_decoder else f"; for embeddings also {', '.join(DECODERS)}"
    raise UnsupportedArchitecture(
        f"the encoder's architecture ({given}) is not supported", hint=f"Supported: {', '.join(FAMILIES)}{more}."
    )


def _plain(config: dict[str, Any]) -> dict[str, Any]:
    """Return the configuration with the usual names: DistilBERT has its own."""
    usual = {"hidden_size": "dim", "num_hidden_layers": "n_layers", "num_attention_heads": "n_heads"}
    return config | {name: config[own] for name, own in usual.items() if name not in config and own in config}


def _require_one_label(config: dict[str, Any]) -> None:
    labels: Any = config.get("id2label")
    count = len(labels) if isinstance(labels, dict) else config.get("num_labels", 2)
    if count != 1:
        raise UnsupportedArchitecture(
            f"the model classifies into {count} labels; a reranker has one score", hint="Import a cross-encoder."
        )


def _activation(config: dict[str, Any]) -> Activation:
    own = config.get("sentence_transformers")
    name = own.get("activation_fn") if isinstance(own, dict) else None
    name = name or config.get("sbert_ce_default_activation_function") or "Sigmoid"
    try:
        return Activation(str(name).rpartition(".")[2].lower())
    except ValueError:
        raise UnsupportedArchitecture(
            f"the scores go through {str(name)[:80]!r}", hint=f"Supported: {', '.join(Activation)}."
        ) from None


def _modules(folder: Path) -> tuple[_Module, ...]:
    """Return the modules of a folder of sentence-transformers in their order; none when it is a plain folder."""
    if not exists(folder / MODULES):
        return ()
    entries = decode_json(read_bytes(folder / MODULES, LARGEST_TEXT), MODULES)
    if not isinstance(entries, list) or not all(isinstance(one, dict) for one in entries):
        raise NotAModel(f"{MODULES} is not a list of modules", hint=_SAVE)
    found = tuple(_Module(str(one.get("type", "")).rpartition(".")[2], str(one.get("path", ""))) for one in entries)
    kinds = [one.kind for one in found]
    odd = [kind for kind in kinds if kind not in ("Transformer", "Pooling", "Normalize")]
    if odd:
        raise UnsupportedArchitecture(
            f"{MODULES} has the module {odd[0][:60]!r} of sentence-transformers",
            hint="Supported are Transformer, Pooling and Normalize, in this order.",
        )
    if kinds not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
        raise NotAModel(f"{MODULES} has the modules {', '.join(kinds) or 'none'}", hint=_SAVE)
    return found


def _pooling_file(folder: Path) -> Path | None:
    """Return the configuration of the pooling. Raises `UnsafeSource` when it is none of this folder."""
    path = next((one.path for one in _modules(folder) if one.kind == "Pooling"), None)
    return None if path is None else check_file(folder / path / "config.json", root=folder)


def _pooling(folder: Path) -> Pooling:
    path = _pooling_file(folder)
    if path is None:
        return Pooling.MEAN
    own = _read_nested(path, folder)
    mode = own.get("pooling_mode")
    modes = [mode] if isinstance(mode, str) else [name for key, name in _MODES.items() if own.get(key) is True]
    if len(modes) != 1 or modes[0] not in list(Pooling):
        raise UnsupportedArchitecture(
            f"the pooling of the token vectors is {' and '.join(modes) or 'not said'}",
            hint=f"Supported is one of {', '.join(Pooling)}.",
        )
    if own.get("include_prompt") is False:
        raise UnsupportedArchitecture(
            "the pooling leaves the tokens of the prompt out ('include_prompt' is false)",
            hint="Supported is pooling over all tokens.",
        )
    return Pooling(modes[0])


def _read_nested(path: Path, folder: Path) -> dict[str, Any]:
    value = decode_json(read_bytes(path, LARGEST_TEXT, root=folder), path.relative_to(folder).as_posix())
    if not isinstance(value, dict):
        raise NotAModel(f"{path.relative_to(folder)} is not a JSON object", hint=_SAVE)
    return value


def _similarity(own: dict[str, Any]) -> Similarity:
    name = own.get("similarity_fn_name") or Similarity.COSINE
    try:
        return Similarity(name)
    except ValueError:
        raise UnsupportedArchitecture(
            f"vectors are compared by {str(name)[:60]!r}", hint=f"Supported: {', '.join(Similarity)}."
        ) from None


def _max_length(folder: Path, config: dict[str, Any], stem: str) -> int:
    """Return how many tokens a text may have: the least of the limits in its files, and of its positions."""
    positions = read_shape(_plain(config)).context_length
    pad: Any = config.get("pad_token_id")
    usable = positions - (pad + 1 if isinstance(pad, int) else 2) if stem in _OFFSET else positions
    stated = (
        _optional(folder / _SETTINGS[0]).get("max_seq_length"),
        _optional(folder / "tokenizer_config.json").get("model_max_length"),
    )
    length = min([usable, *(one for one in stated if isinstance(one, int) and 0 <= one < _NO_LIMIT)])
    if length < 3:
        raise NotAModel(f"a text may have {length} tokens, which leaves no room for its own", hint=_SAVE)
    return length


def _optional(path: Path) -> dict[str, Any]:
    return read_json(path) if exists(path) else {}


def _own_files(folder: Path) -> tuple[Path, ...]:
    names = (MODULES, *_SETTINGS)
    found = [check_file(folder / name) for name in names if exists(folder / name)]
    pooling = _pooling_file(folder)
    return (*found, *(() if pooling is None else (pooling,)))


def _check_shapes(config: dict[str, Any], tensors: Shapes) -> None:
    """Compare the embedding and the number of layers with the configuration; transformers compares the rest."""
    shape = read_shape(_plain(config))
    for name, size in tensors.items():
        if name.endswith(_EMBEDDINGS) and size[:1] != (shape.vocabulary,):
            raise DamagedWeights(
                f"{name} has {size[0] if size else 0} rows; config.json says {shape.vocabulary} tokens", hint=_SAVE
            )
    layers = {int(found[1]) for name in tensors if (found := _LAYER.search(name))}
    missing = sorted(set(range(shape.layers)) - layers)
    if missing and "num_hidden_groups" not in config:  # ALBERT's layers share their weights
        raise DamagedWeights(
            f"config.json says {shape.layers} layers; the weights of layer {missing[0]} are missing", hint=_SAVE
        )
