"""A source as a Hugging Face folder of floats: what the exporters, and transformers as the reference, are given.

For most sources that is a folder of links to their own files. An adapter is merged into its base, a checkpoint is put
together, quantized weights become floats again; where they came with scales of their own, `grid` keeps those.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

from foundry_lite.build import consolidate, merge
from foundry_lite.build.dequantize import dequantize_gguf, unpack_folder
from foundry_lite.build.sources.found import Found, Kind
from foundry_lite.build.workbench import Workbench

PLAIN_TEMPLATE = (
    "{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}"
)

# Each writes into an existing, empty folder: config.json, the tokenizer's files, model*.safetensors in floats.
Prepare = Callable[[Found, Path, Workbench], Awaitable[None]]


async def prepare(found: Found, target: Path, bench: Workbench) -> None:
    """Write the float folder of a source into ``target``, which exists and is empty."""
    make = _PREPARE.get(found.kind, _link_files)
    await make(found, target, bench)
    if found.needs_template:
        (target / "chat_template.jinja").write_text(PLAIN_TEMPLATE, encoding="utf-8")


async def _link_files(found: Found, target: Path, _bench: Workbench) -> None:
    for path in found.files:
        link = target / path.relative_to(found.folder)
        link.parent.mkdir(parents=True, exist_ok=True)
        try:
            link.symlink_to(path.resolve())
        except OSError:  # Windows without the privilege
            link.write_bytes(path.read_bytes())


_PREPARE: dict[Kind, Prepare] = {
    Kind.ADAPTER: merge.prepare,
    Kind.ZERO: consolidate.prepare,
    Kind.GPTQ: unpack_folder,
    Kind.AWQ: unpack_folder,
    Kind.GGUF: dequantize_gguf,
}
