"""A Hugging Face folder with safetensors weights, inspected without running or unpickling anything of it."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

from foundry_lite.conversion import architectures
from foundry_lite.conversion.formats.generation_config import read_generation
from foundry_lite.conversion.formats.hf_config import read_config, read_shape
from foundry_lite.conversion.formats.safe_files import check_file, exists
from foundry_lite.conversion.sources import remote_code
from foundry_lite.conversion.sources.chat_templates import check_templates, notes_on, template_paths
from foundry_lite.conversion.sources.source_model import Kind, Options, SourceModel
from foundry_lite.conversion.sources.vocabulary import check_vocabulary
from foundry_lite.conversion.sources.weight_checks import (
    OWN_HEAD_NOTE,
    Shapes,
    by_name,
    check_finite,
    check_shapes,
    find_weights,
    has_own_head,
    is_tied,
    shapes_of,
    weight_bits,
    weights_notes,
)
from foundry_lite.errors import UnsupportedArchitecture

TEXT_FILES = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
)
_LONGEST_FRONT = 1 << 16  # bytes of a README that are looked at


def recognises(path: Path) -> bool:
    """Return whether a path is a folder; `inspect` refuses one that holds no model, with a precise error."""
    return path.is_dir()


def inspect(folder: Path, _options: Options | None = None) -> SourceModel:
    """Return the description of a folder of weights in 16 or 32 bit.

    Raises a `SourceRejected`: `NotAModel`, `UnsupportedArchitecture`, `DamagedWeights`, `PickledWeights`, `RemoteCode`,
    `UnsafeSource`.
    """
    config = read_config(folder)
    check_code(folder, config)
    read_architecture(config)
    if config.get("quantization_config"):
        raise UnsupportedArchitecture(
            "the weights are quantized already (config.json has a 'quantization_config')",
            hint="Import the model in 16 or 32 bit; foundry-lite quantizes it.",
        )
    bits = weight_bits(find_weights(folder))
    return dataclasses.replace(describe(folder), weight_bits=bits)


def describe(folder: Path) -> SourceModel:
    """Return the description of a folder, however its weights are packed. Reads every float once, for NaN and infinity.

    Raises a `SourceRejected`.
    """
    config = read_config(folder)
    check_code(folder, config)
    architecture = read_architecture(config)
    weights = find_weights(folder)
    found = describe_model(folder, config, architecture, shapes_of(weights))
    check_finite(weights)
    found = dataclasses.replace(found, files=(*weights, *text_files(folder)))
    return with_head(found, unties=is_tied(config) and has_own_head(by_name(weights)))


def with_head(found: SourceModel, *, unties: bool) -> SourceModel:
    """Return what was found of a folder, with which of its weight files are read and whether its head is its own."""
    notes = (*found.notes, *weights_notes(found.folder), *[OWN_HEAD_NOTE] * unties)
    return dataclasses.replace(found, unties=unties, notes=notes)


def describe_model(folder: Path, config: dict[str, Any], architecture: str, tensors: Shapes | None) -> SourceModel:
    """Check the model of a folder against the shapes of its weights; ``files`` is left empty.

    The weights may lie elsewhere; ``tensors`` is ``None`` where nobody knows their shapes yet. Raises a
    `SourceRejected`: `NotAModel`, `DamagedWeights`, `UnsafeSource`.
    """
    shape = read_shape(config)
    if tensors is not None:
        check_shapes(config, architecture, shape, tensors)
    check_vocabulary(folder, shape.vocabulary)
    templates = check_templates(folder)
    family = architectures.find(architecture, config)
    context_length = family.context_length or shape.context_length
    defaults, generation = read_generation(folder, config, context_length)
    return SourceModel(
        kind=Kind.FOLDER,
        folder=folder,
        files=(),
        architecture=architecture,
        parameters=sum(math.prod(size) for size in (tensors or {}).values()),
        context_length=context_length,
        exporter=family.exporter,
        defaults=defaults,
        license=read_license(folder),
        needs_template=not templates,
        notes=(*family.notes, *check_code(folder, config), *generation, *notes_on(templates)),
    )


def text_files(folder: Path) -> tuple[Path, ...]:
    """Return the small files that a build may read. Raises `UnsafeSource` when one is none of this folder."""
    named = tuple(check_file(folder / name) for name in TEXT_FILES if exists(folder / name))
    return named + template_paths(folder)


def check_code(folder: Path, config: dict[str, Any]) -> tuple[str, ...]:
    """Return notes on code that a decoder's folder names; raise `RemoteCode` where it needs any."""
    return remote_code.check_code(folder, config, is_known=_architecture(config) in architectures.supported())


def read_architecture(config: dict[str, Any]) -> str:
    """Return the architecture of a model that can be converted.

    Raises `UnsupportedArchitecture`, or `NotAModel` and `UnsafeSource` for sizes that no model has.
    """
    name = _architecture(config)
    if name in architectures.supported():
        read_shape(config)  # before anything is computed of them
    architectures.find(name, config)
    return name


def _architecture(config: dict[str, Any]) -> str:
    names = config.get("architectures")
    return str(names[0]) if isinstance(names, list) and names else ""


def read_license(folder: Path) -> str:
    """Read the licence out of the front matter of the folder's README.md, as the Hub does."""
    path = folder / "README.md"
    if not exists(path):
        return "unknown"
    with check_file(path).open("rb") as stream:
        lines = stream.read(_LONGEST_FRONT).decode("utf-8", errors="replace").splitlines()
    if not lines or lines[0].strip() != "---":
        return "unknown"
    front = lines[1 : lines.index("---", 1) if "---" in lines[1:] else 1]
    found = (line.split(":", 1)[1].strip().strip("'\"") for line in front if line.startswith("license:"))
    return next(found, "") or "unknown"
