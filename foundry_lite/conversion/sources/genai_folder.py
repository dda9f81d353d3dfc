"""A folder that is ready for onnxruntime-genai: taken as it stands, once everything in it has been looked at."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from foundry_lite.catalog.card import Defaults
from foundry_lite.catalog.recipe import Provider, Recipe
from foundry_lite.conversion.formats.generation_config import defaults_of
from foundry_lite.conversion.formats.onnx_weights import Weights, read_weights
from foundry_lite.conversion.formats.safe_files import check_file, exists, read_json
from foundry_lite.conversion.sources.chat_templates import check_templates, notes_on
from foundry_lite.conversion.sources.hf_folder import text_files
from foundry_lite.conversion.sources.source_model import Exporter, Kind, Options, SourceModel
from foundry_lite.conversion.sources.vocabulary import check_vocabulary
from foundry_lite.engine.runners import model_folder
from foundry_lite.errors import DamagedWeights, LoadFailed, NotAModel, RemoteCode, UnsafeSource, UnsupportedArchitecture

CONFIG = "genai_config.json"

_SENSES = ("encoder", "vision", "speech", "embedding", "audio")
_MOST_LAYERS, _LONGEST_CONTEXT = 2_000, 100_000_000
_LIBRARIES = ("custom_ops_library", "ep_library_path", "library_path", "backend_path")
_PROVIDERS = {
    "cpu": Provider.CPU, "cuda": Provider.CUDA, "dml": Provider.DML, "webgpu": Provider.WEBGPU,
    "nvtensorrtrtx": Provider.TRT_RTX, "openvino": Provider.OPENVINO, "qnn": Provider.QNN,
}  # fmt: skip
_OF_MEMORY = {"past_present_share_buffer", "chunk_size"}  # of a search; they change no token
_SAVE = "Make the folder again with onnxruntime-genai's builder, or give the model it was made from."


def recognises(path: Path) -> bool:
    """Return whether the folder has the configuration of onnxruntime-genai."""
    return path.is_dir() and exists(path / CONFIG)


def inspect(folder: Path, _options: Options | None = None) -> SourceModel:
    """Return the description of a folder for onnxruntime-genai. Raises a `SourceRejected`."""
    config = read_json(folder / CONFIG)
    model = _section(config, "model")
    decoder = _section(model, "decoder")
    _refuse_several_graphs(model, decoder)
    _refuse_libraries(config)
    context_length = _whole(model, "context_length", _LONGEST_CONTEXT)
    layers = _whole(decoder, "num_hidden_layers", _MOST_LAYERS)
    graph = _graph(folder, decoder)
    weights = read_weights(graph, folder)
    described = _describe(folder, layers)
    check_vocabulary(folder, described.vocabulary, grows=False)
    templates = check_templates(folder)
    kind = str(model.get("type", "unknown"))[:80]
    defaults, generation = _defaults(config, context_length)
    return SourceModel(
        kind=Kind.GENAI,
        folder=folder,
        files=(check_file(folder / CONFIG), graph, *weights.files, *text_files(folder)),
        architecture=_architecture(folder) or kind,
        parameters=weights.parameters,
        context_length=context_length,
        exporter=Exporter.NONE,
        defaults=defaults,
        weight_bits=weights.bits,
        recipe=_recipe(weights, decoder),
        needs_template=not templates,
        notes=(_note(weights), *generation, *notes_on(templates)),
    )


def _graph(folder: Path, decoder: dict[str, Any]) -> Path:
    name = decoder.get("filename")
    if not isinstance(name, str) or not name:
        raise NotAModel(f"{CONFIG} names no graph ('model.decoder.filename' is {name!r:.80})", hint=_SAVE)
    if "/" in name or "\\" in name or name in (".", ".."):
        raise UnsafeSource(f"{CONFIG} names the graph {name[:200]!r}, outside of its folder", hint=_SAVE)
    if not exists(folder / name):
        raise NotAModel(f"{CONFIG} names the graph {name[:200]!r}, which is missing", hint=_SAVE)
    return check_file(folder / name)


def _refuse_several_graphs(model: dict[str, Any], decoder: dict[str, Any]) -> None:
    senses = [name for name in _SENSES if name in model]
    if senses or "pipeline" in decoder:
        parts = ", ".join([*senses, *["decoder.pipeline"] * ("pipeline" in decoder)])
        raise UnsupportedArchitecture(
            f"the model consists of several graphs ({parts})",
            hint="Supported: one graph that takes tokens and gives logits.",
        )


def _refuse_libraries(value: Any) -> None:
    """Refuse a configuration that has native code loaded. Raises `RemoteCode`."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            named = next((name for name in one if str(name).lower() in _LIBRARIES), None)
            if named is not None:
                raise RemoteCode(
                    f"{CONFIG} has {named!r}: this model wants a native library to be loaded",
                    hint="Code that comes with a model is never run. Remove the entry, if the model works without.",
                )
        waiting += one.values() if isinstance(one, dict) else one if isinstance(one, list) else ()


def _describe(folder: Path, layers: int) -> model_folder.ModelFolder:
    try:
        described = model_folder.read(folder)
    except LoadFailed as error:
        raise NotAModel(f"the folder cannot be read as the engine would: {error.message}", hint=_SAVE) from error
    if "input_ids" not in described.graph.inputs or "logits" not in described.graph.outputs:
        raise UnsupportedArchitecture("the graph takes no 'input_ids', or gives no 'logits'", hint=_SAVE)
    missing = [name for one in described.caches for name in one.present if name not in described.graph.outputs]
    if missing or not described.caches:
        fact = f"the graph does not give {missing[0]}" if missing else "the graph keeps no keys and values"
        raise DamagedWeights(f"{fact}, though {CONFIG} speaks of {layers} layers", hint=_SAVE)
    return described


def _recipe(weights: Weights, decoder: dict[str, Any]) -> Recipe | None:
    """Return what the folder is, and for which provider; `variants` does not build it anew."""
    options = decoder.get("session_options")
    providers = options.get("provider_options") if isinstance(options, dict) else None
    names = [str(name).lower() for one in providers or () if isinstance(one, dict) for name in one]
    provider = next((_PROVIDERS[name] for name in names if name in _PROVIDERS), Provider.CPU)
    return None if weights.recipe is None else msgspec.structs.replace(weights.recipe, provider=provider)


def _defaults(config: dict[str, Any], context_length: int) -> tuple[Defaults, tuple[str, ...]]:
    search = config.get("search")
    said = search if isinstance(search, dict) else {}
    return defaults_of({name: one for name, one in said.items() if name not in _OF_MEMORY}, CONFIG, context_length)


def _architecture(folder: Path) -> str:
    names = read_json(folder / "config.json").get("architectures") if exists(folder / "config.json") else None
    return str(names[0])[:80] if isinstance(names, list) and names else ""


def _note(weights: Weights) -> str:
    return f"it is taken as it stands, weights of {weights.bits} bits; there is no source to compare it with"


def _section(config: dict[str, Any], name: str) -> dict[str, Any]:
    value = config.get(name)
    if not isinstance(value, dict):
        raise NotAModel(f"{CONFIG} has no section {name!r}", hint=_SAVE)
    return value


def _whole(section: dict[str, Any], name: str, most: int) -> int:
    value = section.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise NotAModel(f"{CONFIG}: '{name}' is {value!r:.40}, not a whole number above 0", hint=_SAVE)
    if value > most:
        raise UnsafeSource(f"{CONFIG}: '{name}' is {str(value)[:40]}; no model has more than {most}", hint=_SAVE)
    return value
