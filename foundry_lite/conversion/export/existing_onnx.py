"""Sources that are graphs already: copied to where the exporters leave theirs, with the engine's configuration.

Files are copied, not linked: a link would let whoever changes the source change an installed model.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from foundry_lite.conversion.formats.hf_config import read_config, read_shape
from foundry_lite.conversion.formats.safe_files import exists, read_json
from foundry_lite.conversion.jobs.step_context import StepContext
from foundry_lite.conversion.sources.genai_folder import CONFIG
from foundry_lite.conversion.sources.hf_folder import TEXT_FILES
from foundry_lite.conversion.sources.onnx_decoder import PAST, PRESENT, Decoder, read_decoder
from foundry_lite.conversion.sources.source_model import Kind, SourceModel
from foundry_lite.conversion.toolchains.toolchains import GENAI
from foundry_lite.engine.chat_template import template_file

GRAPH = "model.onnx"


async def adopt(found: SourceModel, prepared: Path, target: Path, step: StepContext) -> None:
    """Copy a ready graph into ``target`` as ``model.onnx``, its data beside it, and write what is missing.

    Raises `BuildFailed`.
    """
    texts = [prepared / name for name in TEXT_FILES if exists(prepared / name)]
    for path in (*texts, *template_file.template_files(prepared).values()):
        copy = target / path.relative_to(prepared)
        copy.parent.mkdir(exist_ok=True)
        shutil.copyfile(path, copy)
    if found.kind is Kind.GENAI:
        _copy_folder(found, target)
        return
    graph = next(path for path in found.files if path.suffix == ".onnx")
    await step.run("foundry_lite.conversion.export.adapt_onnx", graph, target, toolchain=GENAI)
    config = read_config(found.folder)
    _write_json(target / CONFIG, describe(read_decoder(graph, read_shape(config)), found, config))


def describe(decoder: Decoder, found: SourceModel, config: dict[str, Any]) -> dict[str, Any]:
    """Return the ``genai_config.json`` of a plain decoder: past and present are different memory."""
    inputs = {"input_ids": "input_ids", "attention_mask": "attention_mask"}
    inputs |= {"position_ids": "position_ids"} if decoder.takes_positions else {}
    caches = {f"past_{kind}_names": PAST.format(kind) for kind in ("key", "value")}
    presents = {f"present_{kind}_names": PRESENT.format(kind) for kind in ("key", "value")}
    shape = read_shape(config)
    return {
        "model": {
            "type": "decoder",
            **_tokens(found.folder, config),
            "context_length": found.context_length,
            "vocab_size": decoder.vocabulary,
            "decoder": {
                "session_options": {"log_id": "onnxruntime-genai", "provider_options": []},
                "filename": GRAPH,
                "head_size": decoder.head_size,
                "hidden_size": shape.hidden,
                "num_attention_heads": shape.heads,
                "num_hidden_layers": decoder.layers,
                "num_key_value_heads": decoder.heads,
                "inputs": inputs | caches,
                "outputs": {"logits": "logits", **presents},
            },
        },
        "search": {"max_length": found.context_length, "past_present_share_buffer": False},
    }


def _copy_folder(found: SourceModel, target: Path) -> None:
    """Copy a folder of onnxruntime-genai; its graph is called ``model.onnx`` afterwards."""
    config = read_json(found.folder / CONFIG)
    name = config["model"]["decoder"]["filename"]
    for path in found.files:
        if path.name not in TEXT_FILES and path.name != CONFIG:
            copy = target / (GRAPH if path.name == name else path.relative_to(found.folder))
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
    config["model"]["decoder"]["filename"] = GRAPH
    _write_json(target / CONFIG, config)


def _tokens(folder: Path, config: dict[str, Any]) -> dict[str, Any]:
    own = read_json(folder / "generation_config.json") if exists(folder / "generation_config.json") else {}
    ids: dict[str, Any] = {}
    for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
        value = own.get(name, config.get(name))
        if isinstance(value, int) or (isinstance(value, list) and name.startswith("eos")):
            ids[name] = value
    if "pad_token_id" not in ids and "eos_token_id" in ids:  # onnxruntime-genai needs one
        end = ids["eos_token_id"]
        ids["pad_token_id"] = end[0] if isinstance(end, list) else end
    return ids


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
