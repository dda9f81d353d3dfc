"""A source as a Hugging Face folder of floats: what the exporters, and transformers as the reference, are given.

For most sources that is a folder of links to their own files. An adapter is merged into its base, a checkpoint is put
together, quantized weights become floats again; where they came with scales of their own, `source_grid` keeps those.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from foundry_lite.conversion.checkpoint import consolidate_zero, merge_lora
from foundry_lite.conversion.checkpoint.dequantize import dequantize_gguf, unpack_folder
from foundry_lite.conversion.jobs.step_context import StepContext
from foundry_lite.conversion.sources import remote_code
from foundry_lite.conversion.sources.chat_templates import JSON, read_templates, write_templates
from foundry_lite.conversion.sources.source_model import Kind, SourceModel
from foundry_lite.conversion.sources.weight_checks import INDEX, SINGLE, index_of, untied
from foundry_lite.engine.chat_template import template_file
from foundry_lite.engine.chat_template.template_file import DEFAULT

PLAIN_TEMPLATE = (
    "{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}"
)

# Each writes into an existing, empty folder: config.json, the tokenizer's files, model*.safetensors in floats.
Prepare = Callable[[SourceModel, Path, StepContext], Awaitable[None]]


async def prepare(found: SourceModel, target: Path, step: StepContext) -> None:
    """Write the float folder of a source into ``target``, which exists and is empty."""
    make = _PREPARE.get(found.kind, _link_files)
    await make(found, target, step)
    if found.unties:
        _change(target / "config.json", untied)
    for name in remote_code.FILES:
        _change(target / name, _without_code)
    if found.needs_template:
        write_templates(target, {DEFAULT: PLAIN_TEMPLATE})
    elif any(path.name == JSON for path in found.files) and not template_file.read_templates(target):
        write_templates(target, read_templates(found.folder))  # tokenizers of transformers do not look there


async def _link_files(found: SourceModel, target: Path, _step: StepContext) -> None:
    for path in found.files:
        link = found.place(path, target)
        try:
            link.symlink_to(path.resolve())
        except OSError:  # Windows without the privilege
            link.write_bytes(path.read_bytes())
    shards = [path for path in found.files if path.suffix == ".safetensors"]
    if shards and SINGLE not in {path.name for path in shards}:  # the source's own index may list others
        (target / INDEX).write_text(json.dumps(index_of(shards)), encoding="utf-8")


def _change(path: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Replace a configuration, which may be a link to the source's own file, by a changed one."""
    if not path.is_file():
        return
    before = json.loads(path.read_bytes())
    after = change(before)
    if after != before:
        path.unlink()
        path.write_text(json.dumps(after, indent=2) + "\n", encoding="utf-8")


def _without_code(config: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in config.items() if name != remote_code.FIELD}


_PREPARE: dict[Kind, Prepare] = {
    Kind.ADAPTER: merge_lora.prepare,
    Kind.ZERO: consolidate_zero.prepare,
    Kind.GPTQ: unpack_folder,
    Kind.AWQ: unpack_folder,
    Kind.GGUF: dequantize_gguf,
}
