"""A plain ONNX decoder with past key values, as optimum and others export it: ``model.onnx`` beside a config.json."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from foundry_lite.conversion.formats.generation_config import read_generation
from foundry_lite.conversion.formats.hf_config import Shape, read_config, read_shape
from foundry_lite.conversion.formats.onnx_weights import read_weights
from foundry_lite.conversion.formats.safe_files import check_file, exists
from foundry_lite.conversion.sources.chat_templates import check_templates, notes_on
from foundry_lite.conversion.sources.hf_folder import check_code, text_files
from foundry_lite.conversion.sources.source_model import Exporter, Kind, Options, SourceModel
from foundry_lite.conversion.sources.vocabulary import check_vocabulary
from foundry_lite.engine.runners import onnx_header
from foundry_lite.engine.runners.onnx_header import GraphFile, Value
from foundry_lite.errors import LoadFailed, NotAModel, UnsupportedArchitecture

PAST, PRESENT = "past_key_values.%d.{}", "present.%d.{}"
BRANCH = "use_cache_branch"  # of merged exports: whether there are keys and values already
KEPT_LOGITS = "num_logits_to_keep"  # of transformers.js's exports: how many positions get logits

_NAMES = ("model.onnx", "decoder_model_merged.onnx", "onnx/model.onnx", "onnx/decoder_model_merged.onnx")
_OTHERS = ("genai_config.json", "modules.json", "model.safetensors", "model.safetensors.index.json")
_PAST = re.compile(r"past_key_values\.(\d+)\.key")
_FLOATS = (1, 10)  # TensorProto.DataType: float32 and float16
_EXPORT = (
    "Export it with past key values: optimum-cli export onnx --task text-generation-with-past, "
    "or give the model's Hugging Face folder."
)


@dataclass(frozen=True, slots=True)
class Decoder:
    """Shape of an ONNX decoder that the engine needs. ``heads`` and ``head_size`` are those of its keys and values."""

    layers: int
    heads: int
    head_size: int
    vocabulary: int
    takes_positions: bool


def recognises(path: Path) -> bool:
    """Return whether a path is an ONNX decoder, or a folder with one and without the files of another kind."""
    if path.is_file():
        return path.suffix == ".onnx"
    return path.is_dir() and not any(exists(path / one) for one in _OTHERS) and _in_folder(path) is not None


def inspect(path: Path, _options: Options | None = None) -> SourceModel:
    """Return the description of an ONNX decoder or its folder. Raises a `SourceRejected`."""
    graph = path if path.is_file() else _in_folder(path)
    if graph is None:
        raise NotAModel(f"{path} has no ONNX graph", hint=_EXPORT)
    folder = _folder_of(graph)
    check_file(graph, folder)
    config = read_config(folder)
    code = check_code(folder, config)
    shape = read_shape(config)
    decoder = read_decoder(graph, shape)
    weights = read_weights(graph, folder)
    check_vocabulary(folder, decoder.vocabulary, grows=False)
    templates = check_templates(folder)
    names = config.get("architectures")
    note = "it is a graph already: its keys and values are copied at every step; there is no source to compare it with"
    defaults, generation = read_generation(folder, config, shape.context_length)
    return SourceModel(
        kind=Kind.ONNX,
        folder=folder,
        files=(graph, *weights.files, *text_files(folder)),
        architecture=str(names[0])[:80] if isinstance(names, list) and names else "unknown",
        parameters=weights.parameters,
        context_length=shape.context_length,
        exporter=Exporter.NONE,
        defaults=defaults,
        weight_bits=weights.bits,
        recipe=weights.recipe,
        needs_template=not templates,
        notes=(note, *code, *generation, *notes_on(templates)),
    )


def read_decoder(path: Path, shape: Shape) -> Decoder:
    """Read what goes in and out of a graph. Raises `UnsupportedArchitecture` naming what is not a plain decoder's."""
    try:
        graph = onnx_header.read(path)
    except LoadFailed as error:
        raise NotAModel(error.message, hint=_EXPORT) from error
    layers = _layers(graph)
    caches = [PAST.format(kind) % i for i in range(layers) for kind in ("key", "value")]
    known = {"input_ids", "attention_mask", "position_ids", BRANCH, KEPT_LOGITS, *caches}
    if odd := sorted((graph.required - known) | ({"input_ids", "attention_mask"} - set(graph.inputs))):
        raise UnsupportedArchitecture(
            f"its inputs are others than a plain decoder's: {', '.join(odd[:4])}", hint=_EXPORT
        )
    presents = [PRESENT.format(kind) % i for i in range(layers) for kind in ("key", "value")]
    if lacking := [name for name in ("logits", *presents) if name not in graph.outputs]:
        raise UnsupportedArchitecture(f"the graph does not give {lacking[0]}", hint=_EXPORT)
    first = graph.inputs[caches[0]]
    if len(first.shape) != 4 or any(graph.inputs[one].kind not in _FLOATS for one in caches):
        raise UnsupportedArchitecture(
            f"{caches[0]} has the shape {list(first.shape)}; supported: (batch, heads, length, size) in 16 or 32 bit",
            hint=_EXPORT,
        )
    return Decoder(
        layers=layers,
        heads=_size(first, 1, shape.kv_heads),
        head_size=_size(first, 3, shape.head_size),
        vocabulary=_size(graph.outputs["logits"], 2, shape.vocabulary),
        takes_positions="position_ids" in graph.required,
    )


def _in_folder(folder: Path) -> Path | None:
    return next((folder / name for name in _NAMES if exists(folder / name)), None)


def _folder_of(graph: Path) -> Path:
    """Return the folder of config.json: that of the graph, or the one above ``onnx/``."""
    above = graph.parent.parent
    return above if graph.parent.name == "onnx" and not exists(graph.parent / "config.json") else graph.parent


def _layers(graph: GraphFile) -> int:
    numbers = {int(match[1]) for name in graph.inputs if (match := _PAST.fullmatch(name)) and len(match[1]) < 5}
    if not numbers:
        raise UnsupportedArchitecture(
            "the graph keeps no past key values, so each token would cost all others", hint=_EXPORT
        )
    if numbers != set(range(len(numbers))):
        raise UnsupportedArchitecture(
            f"the graph keeps keys and values of {len(numbers)} of {max(numbers) + 1} layers only", hint=_EXPORT
        )
    return len(numbers)


def _size(value: Value, axis: int, otherwise: int) -> int:
    size = value.shape[axis] if len(value.shape) > axis else ""
    return size if isinstance(size, int) and size > 0 else otherwise
