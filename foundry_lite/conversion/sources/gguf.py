"""A GGUF file: made floats again, its integers kept where the kernels have the same blocks (Q4_0, Q8_0)."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

from foundry_lite.catalog.recipe import Algorithm, Precision, Recipe
from foundry_lite.conversion.formats.generation_config import defaults_of
from foundry_lite.conversion.formats.gguf import MAGIC, TYPES, GgufHeader, read_gguf
from foundry_lite.conversion.formats.gguf_mapping import config_of, family_of, name_of, sampling_of, templates_of
from foundry_lite.conversion.formats.hf_config import read_shape
from foundry_lite.conversion.formats.safe_files import check_file
from foundry_lite.conversion.sources.chat_templates import notes_on, try_templates
from foundry_lite.conversion.sources.source_model import Kind, Options, SourceModel
from foundry_lite.conversion.sources.weight_checks import check_shapes
from foundry_lite.errors import DamagedWeights, NotAModel, UnsupportedArchitecture

SUFFIX = ".gguf"

# How text is cut before it is encoded, by 'tokenizer.ggml.pre': transformers knows these …
SPLITS = {
    "llama3", "llama-v3", "llama-bpe", "falcon3", "smaug-bpe", "dbrx", "tekken", "qwen2", "deepseek-r1-qwen", "megrez",
    "qwen35", "gpt-4o", "llama4",
}  # fmt: skip
# … these are GPT-2's, the last ones with every digit by itself.
PLAIN_SPLITS = {"gpt-2", "default"}
DIGIT_SPLITS = {"refact", "smollm", "starcoder", "codeshell", "command-r", "exaone"}

# What has other types in such a file, mostly the head, gets 8 bits (``mixed``).
_KEPT = {"Q4_0": Recipe(Precision.INT4, 32, algorithm=Algorithm.KEPT, mixed=True),
         "Q8_0": Recipe(Precision.INT8, 32, algorithm=Algorithm.KEPT)}  # fmt: skip
_FLOATS = {"F32": 32, "F16": 16, "BF16": 16}
_SPLIT_NAME = re.compile(r".+-\d{5}-of-\d{5}\.gguf")
_INSTEAD = "Give the model's Hugging Face folder."


def recognises(path: Path) -> bool:
    """Return whether a path is a GGUF file, or a folder with such files and no config.json of its own."""
    if path.is_file():
        with path.open("rb") as stream:
            return stream.read(len(MAGIC)) == MAGIC or path.suffix == SUFFIX
    return path.is_dir() and not (path / "config.json").exists() and any(path.glob(f"*{SUFFIX}"))


def inspect(path: Path, _options: Options | None = None) -> SourceModel:
    """Return the description of a GGUF file, or of the only one of a folder. Raises a `SourceRejected`."""
    file = check_file(_file(path))
    header = read_gguf(file)
    _refuse_split(header)
    architecture = family_of(header).architecture
    config = config_of(header)
    shape = read_shape(config)
    shapes = {name: one.shape for one in header.tensors.values() if (name := name_of(header, one.name)) is not None}
    check_shapes(config, architecture, shape, shapes)
    notes = [_weights_note(header), *_check_tokenizer(header, shape.vocabulary)]
    templates = _check_templates(header)
    licence = header.values.get("general.license")
    main = main_type(header)
    defaults, generation = defaults_of(sampling_of(header), path.name, shape.context_length)
    return SourceModel(
        kind=Kind.GGUF,
        folder=file.parent,
        files=(file,),
        architecture=architecture,
        parameters=sum(one.count for one in header.tensors.values() if name_of(header, one.name) is not None),
        context_length=shape.context_length,
        defaults=defaults,
        license=licence if isinstance(licence, str) and licence else "unknown",
        weight_bits=_bits(main),
        recipe=_KEPT.get(main),
        needs_template=not templates,
        notes=(*notes, *generation, *notes_on(templates)),
    )


def main_type(header: GgufHeader) -> str:
    """Return the type that most weights of the layers have."""
    counts: Counter[str] = Counter()
    for one in header.tensors.values():
        if one.name.startswith("blk.") and len(one.shape) > 1:
            counts[one.kind] += one.count
    return counts.most_common(1)[0][0] if counts else "F32"


def _file(path: Path) -> Path:
    if path.is_file():
        return path
    files = sorted(path.glob(f"*{SUFFIX}"))
    if len(files) > 1 and not all(_SPLIT_NAME.fullmatch(one.name) for one in files):
        raise NotAModel(
            f"{path} has {len(files)} GGUF files: {', '.join(one.name for one in files[:3])}",
            hint="Name the one that is to be imported.",
        )
    return files[0]


def _refuse_split(header: GgufHeader) -> None:
    count = header.values.get("split.count", 0)
    if (isinstance(count, int) and count > 1) or _SPLIT_NAME.fullmatch(header.path.name):
        raise UnsupportedArchitecture(
            f"{header.path.name} is one part of a model that was split into several files",
            hint=f"Put them together first: llama-gguf-split --merge {header.path.name} model.gguf.",
        )


def _check_tokenizer(header: GgufHeader, rows: int) -> list[str]:
    """Check that the file brings a tokenizer that can be rebuilt; return what the user should know of it."""
    tokens, kind = header.values.get("tokenizer.ggml.tokens"), header.values.get("tokenizer.ggml.model")
    if not isinstance(tokens, list) or not tokens:
        raise NotAModel(f"{header.path.name} brings no tokenizer", hint=_INSTEAD)
    if len(tokens) > rows:
        raise DamagedWeights(
            f"the tokenizer has {len(tokens)} tokens, the embedding {rows} rows", hint="Download the file again."
        )
    if kind == "llama":
        return []
    split = header.values.get("tokenizer.ggml.pre", "default")
    if kind != "gpt2" or split not in SPLITS | PLAIN_SPLITS | DIGIT_SPLITS:
        raise UnsupportedArchitecture(
            f"its tokenizer ({kind!r:.40}, text cut by {split!r:.40}) cannot be rebuilt exactly", hint=_INSTEAD
        )
    if split == "default":
        return ["The file does not say how its tokenizer cuts text: it is cut as GPT-2 does."]
    return []


def _check_templates(header: GgufHeader) -> dict[str, str]:
    templates = templates_of(header)
    tokens = header.values["tokenizer.ggml.tokens"]
    special: dict[str, Any] = {}
    for name, key in (("bos_token", "bos"), ("eos_token", "eos"), ("pad_token", "padding"), ("unk_token", "unknown")):
        number = header.values.get(f"tokenizer.ggml.{key}_token_id")
        if isinstance(number, int) and 0 <= number < len(tokens):
            special[name] = tokens[number]
    try_templates(templates, special)
    return templates


def _weights_note(header: GgufHeader) -> str:
    counts = Counter(one.kind for one in header.tensors.values())
    packed = {kind: count for kind, count in sorted(counts.items()) if kind not in _FLOATS}
    if not packed:
        return f"its weights are {' and '.join(sorted(counts))}"
    found = ", ".join(f"{count} of type {kind}" for kind, count in packed.items())
    kept = [kind for kind in packed if kind in _KEPT]
    again = "the others are quantized again" if len(kept) < len(packed) else "none is rounded again"
    return f"its quantized tensors ({found}) are made floats; " + (
        f"the integers of {' and '.join(kept)} are kept, {again}" if kept else "quantizing them again costs a little"
    )


def _bits(kind: str) -> int:
    _, block, size = next(one for one in TYPES.values() if one[0] == kind)
    return size * 8 // block
