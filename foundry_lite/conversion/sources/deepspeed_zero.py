"""A DeepSpeed ZeRO checkpoint (stages 1 to 3): float32 weights that every process holds a part of.

Source: DeepSpeed's ``zero_to_fp32.py`` (0.19), which is the published format. ``param_shapes`` of the model states has
the parameters in the order in which they lie in the flat groups of the optimizer states. In stages 1 and 2 a group is
the ranks' partitions one after the other. In stage 3 every parameter is cut into one part for each rank, the last
one padded. Nothing is unpickled: `torch_zip`.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foundry_lite.conversion.formats import torch_zip
from foundry_lite.conversion.formats.hf_config import read_config
from foundry_lite.conversion.formats.safe_files import check_file, exists, read_text
from foundry_lite.conversion.formats.torch_zip import Stored
from foundry_lite.conversion.sources import hf_folder
from foundry_lite.conversion.sources.source_model import Kind, Options, SourceModel
from foundry_lite.conversion.sources.weight_checks import INDEX, SINGLE, is_tied, not_finite
from foundry_lite.errors import DamagedWeights, NotAModel, PickledWeights, UnsafeSource, UnsupportedArchitecture

_OPTIM, _MODEL = "*_optim_states.pt", "*_model_states.pt"
_STATE, _STAGE, _RANKS = "optimizer_state_dict", "zero_stage", "partition_count"
_FLAT, _PARTS, _PADDINGS = "fp32_flat_groups", "single_partition_of_fp32_groups", "param_alignment_paddings"
_HEAD = "lm_head.weight"
_ADAM = 12  # bytes of an optimizer's file for each parameter: the weight and two moments
_COPY = "Copy the whole checkpoint again."
_UNREAD = "The checkpoint is read by torch, which runs what its files say: you allowed it."


@dataclass(frozen=True, slots=True)
class Span:
    """The numbers ``start <= i < stop`` of a tensor in a file."""

    stored: Stored
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Weight:
    """Parameter of a ZeRO checkpoint: its shape, and the consecutive spans that hold its values."""

    shape: tuple[int, ...]
    spans: tuple[Span, ...]


@dataclass(frozen=True, slots=True)
class _Ranks:
    """Contents of a ZeRO checkpoint's files: the stage, and by rank the flat groups and the model states."""

    stage: int
    groups: list[list[Stored]]
    states: list[dict[str, Any]]
    paddings: Any  # by group and parameter, in stages 1 and 2 of newer versions; or `None`


def recognises(path: Path) -> bool:
    """Return whether a path is a ZeRO checkpoint; with whole weights beside it, it is not: those are imported."""
    if not path.is_dir() or (path / SINGLE).is_file() or (path / INDEX).is_file():
        return False
    return any(path.glob(_OPTIM)) or ((path / "latest").is_file() and any(path.glob(f"*/{_OPTIM}")))


def inspect(path: Path, options: Options) -> SourceModel:
    """Look at a checkpoint, and read every weight once.

    Raises a `SourceRejected`; `PickledWeights` only for files that cannot be read without running them.
    """
    folder, checkpoint = locate(path)
    config = read_config(folder)
    hf_folder.check_code(folder, config)
    architecture = hf_folder.read_architecture(config)
    files = (*find_files(checkpoint, _MODEL), *find_files(checkpoint, _OPTIM), *hf_folder.text_files(folder))
    try:
        weights = drop_tied(read_weights(checkpoint), config)
    except PickledWeights:
        if not options.allow_pickle:
            raise
        return _unread(folder, files, architecture)
    found = hf_folder.describe_model(folder, config, architecture, {name: one.shape for name, one in weights.items()})
    check_finite(weights)
    found = dataclasses.replace(found, kind=Kind.ZERO, files=files, weight_bits=32)
    return hf_folder.with_head(found, unties=unties(weights, config))


def locate(path: Path) -> tuple[Path, Path]:
    """Return the folder of the configuration and the one of the checkpoint's files.

    Raises `NotAModel`, or `UnsafeSource` when ``latest`` names a path elsewhere.
    """
    if any(path.glob(_OPTIM)):
        return (path if exists(path / "config.json") else path.resolve().parent), path
    name = read_text(path / "latest", 1024).strip()
    if not re.fullmatch(r"\w[\w.-]*", name):
        raise UnsafeSource(f"'latest' names {name[:80]!r}, which is no folder beside it", hint="Correct the file.")
    if not any((path / name).glob(_OPTIM)):
        raise NotAModel(f"'latest' names {name}, which has no {_OPTIM}", hint=_COPY)
    return path, path / name


def find_files(checkpoint: Path, pattern: str) -> list[Path]:
    """Return the files of all ranks in order. Raises `UnsupportedArchitecture` for what is cut in other ways too."""
    found = sorted(checkpoint.glob(pattern), key=_natural)
    if any("mp_rank_00" not in path.name or "expert" in path.name for path in found):
        raise UnsupportedArchitecture(
            "the checkpoint was cut by tensor or expert parallelism too",
            hint="Put it together by DeepSpeed (ds_to_universal.py, zero_to_fp32.py), and import the folder.",
        )
    return [check_file(path, checkpoint) for path in found]


def read_weights(checkpoint: Path) -> dict[str, Weight]:
    """Return where the numbers of every parameter lie. Raises a `SourceRejected`."""
    ranks = _read_ranks(checkpoint)
    try:
        weights = _spans_of_stage_3(ranks) if ranks.stage == 3 else _spans_of_stage_2(ranks)
        weights |= _frozen(ranks) | _buffers(ranks)
        shared = ranks.states[0].get("shared_params") or {}
        weights |= {str(name): weights[one] for name, one in shared.items() if one in weights}
    except (KeyError, TypeError, AttributeError, ValueError, IndexError) as error:
        raise _damaged(f"{checkpoint.name}: its files do not fit together ({error!r})") from error
    if any(".lora_" in name for name in weights):
        raise UnsupportedArchitecture(
            "the checkpoint is of an adapter in training", hint="Save the adapter by PEFT, and import that folder."
        )
    return weights


def drop_tied(weights: dict[str, Weight], config: dict[str, Any]) -> dict[str, Weight]:
    """Leave out a head that is the embedding, where the configuration ties the two as well."""
    head = weights.get(_HEAD)
    embedding = next((one for name, one in weights.items() if name.endswith("embed_tokens.weight")), None)
    if head is None or embedding is None or not is_tied(config) or not _is_same(head, embedding):
        return weights
    return {name: one for name, one in weights.items() if name != _HEAD}


def unties(weights: Mapping[str, Weight], config: dict[str, Any]) -> bool:
    """Return whether a head that `drop_tied` left has its own weights although the configuration ties it."""
    return is_tied(config) and _HEAD in weights and any(name.endswith("embed_tokens.weight") for name in weights)


def _is_same(one: Weight, other: Weight) -> bool:
    if one == other:
        return True
    if one.shape != other.shape:
        return False
    first, second = (np.concatenate([*_numbers(weight), np.zeros(0, np.float32)]) for weight in (one, other))
    return bool(np.array_equal(first, second))


def _numbers(weight: Weight) -> Iterator[NDArray[np.float32]]:
    for span in weight.spans:
        yield from span.stored.numbers(span.start, span.stop)


def _read_ranks(checkpoint: Path) -> _Ranks:
    files = find_files(checkpoint, _OPTIM)
    optimizers = [_dictionary(path, _STATE) for path in files]
    models = [_dictionary(path, "param_shapes", whole=True) for path in find_files(checkpoint, _MODEL)]
    first = optimizers[0]
    stage, count = first.get(_STAGE), first.get(_RANKS)
    count = max(count) if isinstance(count, list) and count else count
    if type(stage) is not int or stage not in (1, 2, 3):
        raise _damaged(f"{files[0].name} is of stage {stage if isinstance(stage, int) else 'unknown'}")
    if count != len(files):
        raise _damaged(f"{checkpoint.name} was written by {count} processes; there are files of {len(files)}")
    if not models or (stage == 3 and len(models) != len(files)):
        raise _damaged(f"{checkpoint.name} has {len(models)} files of model states for {len(files)} processes")
    groups = [list(one.get(_FLAT if stage == 3 else _PARTS) or ()) for one in optimizers]
    if not all(groups) or not all(isinstance(tensor, Stored) for group in groups for tensor in group):
        raise _damaged(f"{checkpoint.name}: the optimizer's files hold no weights in float32")
    return _Ranks(stage, groups, models, first.get(_PADDINGS))


def _dictionary(path: Path, key: str, *, whole: bool = False) -> dict[str, Any]:
    """Return the dictionary in a file that is, or is below, ``key``."""
    content = torch_zip.read(path)
    inner = content.get(key) if isinstance(content, dict) else None
    found = content if whole and inner else inner
    if not isinstance(found, dict):
        raise _damaged(f"{path.name} has no readable {key}")
    return found


def _spans_of_stage_2(ranks: _Ranks) -> dict[str, Weight]:
    weights = {}
    for number, shapes in enumerate(_list(ranks.states[0]["param_shapes"])):
        parts = [groups[number] for groups in ranks.groups]
        paddings = [0] * len(shapes) if ranks.paddings is None else list(ranks.paddings[number])
        offset = 0
        for (name, shape), padding in zip(shapes.items(), paddings, strict=True):
            size = math.prod(shape)
            weights[str(name)] = Weight(tuple(shape), tuple(_cut(parts, offset, size)))
            offset += size + padding
        available, step = sum(part.size for part in parts), 2 * len(parts)
        if -(-offset // step) != -(-available // step):
            raise _damaged(f"group {number} needs {offset} numbers, and the files hold {available}")
    return weights


def _spans_of_stage_3(ranks: _Ranks) -> dict[str, Weight]:
    weights, offset = {}, 0
    shapes = {name: shape for group in _list(ranks.states[0]["param_shapes"]) for name, shape in group.items()}
    for name, shape in shapes.items():
        size = math.prod(shape)
        part = -(-size // len(ranks.groups))
        spans: list[Span] = []
        for groups in ranks.groups:
            own = min(part, size - sum(span.stop - span.start for span in spans))
            spans += _cut(groups, offset, max(own, 0))
        weights[str(name)] = Weight(tuple(shape), tuple(spans))
        offset += part
    available = {sum(group.size for group in groups) for groups in ranks.groups}
    if available != {offset}:
        raise _damaged(f"each rank should hold {offset} numbers; they hold {sorted(available)}")
    return weights


def _cut(parts: list[Stored], offset: int, size: int) -> Iterator[Span]:
    """Yield the numbers ``offset <= i < offset + size`` of tensors that follow each other."""
    begin, end = 0, offset + size
    for part in parts:
        start, stop = max(offset - begin, 0), min(end - begin, part.size)
        if start < stop:
            yield Span(part, start, stop)
        begin += part.size
    if begin < end:
        raise _damaged(f"a parameter ends at number {end}, and the files hold {begin}")


def _frozen(ranks: _Ranks) -> dict[str, Weight]:
    """Parameters that were not trained, from the model states: whole, or in stage 3 a part in each."""
    weights = {}
    for name, shape in (ranks.states[0].get("frozen_param_shapes") or {}).items():
        states = ranks.states if ranks.stage == 3 else ranks.states[:1]
        parts = [state["frozen_param_fragments"][name] for state in states]
        weights[str(name)] = Weight(tuple(shape), tuple(_cut(parts, 0, math.prod(shape))))
    return weights


def _buffers(ranks: _Ranks) -> dict[str, Weight]:
    state = ranks.states[0]
    module, names = state.get("module"), state.get("buffer_names")
    found = {name: module[name] for name in names or () if name in module} if isinstance(module, dict) else {}
    return {
        str(name): Weight(one.shape, (Span(one, 0, one.size),))
        for name, one in found.items()
        if isinstance(one, Stored)
    }


def _list(shapes: Any) -> list[dict[str, tuple[int, ...]]]:
    groups = shapes if isinstance(shapes, list) else [shapes]
    for group in groups:
        for name, shape in group.items():
            if not isinstance(shape, tuple | list) or not all(type(one) is int and one >= 0 for one in shape):
                raise _damaged(f"'param_shapes' says {json.dumps(str(shape))[:80]} of {str(name)[:80]}")
    return groups


def check_finite(weights: Mapping[str, Weight]) -> None:
    """Read every weight. Raises `DamagedWeights` naming the first parameter with a NaN or an infinity."""
    for name, weight in weights.items():
        for span in weight.spans:
            if not all(np.isfinite(piece).all() for piece in span.stored.numbers(span.start, span.stop)):
                raise not_finite(span.stored.storage.path, name)


def _unread(folder: Path, files: tuple[Path, ...], architecture: str) -> SourceModel:
    """Say what is known of files that only torch can read; the weights are checked when it has read them."""
    sizes = sum(path.stat().st_size for path in files if path.match(_OPTIM))
    found = hf_folder.describe_model(folder, read_config(folder), architecture, None)
    return dataclasses.replace(
        found, kind=Kind.ZERO, files=files, weight_bits=32, parameters=sizes // _ADAM, notes=(*found.notes, _UNREAD)
    )


def _natural(path: Path) -> list[Any]:
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", path.name)]


def _damaged(fact: str) -> DamagedWeights:
    return DamagedWeights(fact, hint=_COPY)
