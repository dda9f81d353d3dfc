"""``import PATH --name MODEL@ADAPTER``: a LoRA adapter is installed over a model that is there already."""

from __future__ import annotations

from pathlib import Path

import typer

from foundry_lite.catalog.reference import ModelRef
from foundry_lite.cli.output import Output, megabytes
from foundry_lite.errors import BadReference
from foundry_lite.settings import read_settings
from foundry_lite.store.store import Store

_OBEYED = {"path", "name", "force", "as_json"}  # the options of `import` that mean something for an adapter


def import_adapter(path: Path, ref: ModelRef, context: typer.Context, output: Output, *, force: bool) -> None:
    """Install the adapter in ``path``, and print the result."""
    # They load a native library, which no other command should wait for.
    from foundry_lite.conversion.lora.import_adapter import install, notes_on
    from foundry_lite.conversion.sources.chat_templates import read_templates

    _refuse_other_options(context)
    if ref.variant is not None:
        raise BadReference(
            f"'{ref}' names a variant; an adapter belongs to all variants of its model",
            hint=f"Call it {ref.name}@{ref.adapter}.",
        )
    templates = read_templates(path)
    found = install(path, ref, Store(read_settings().home), replace=force)
    assert found.adapter is not None
    manifest, notes = found.adapter.manifest, notes_on(templates, found)
    if output.as_json:
        output.json(
            {
                "model": str(found.adapter.ref),
                "base": str(found.base.ref),
                "rank": manifest.rank,
                "modules": manifest.modules,
                "size_bytes": manifest.size_bytes,
                "notes": notes,
            }
        )
        return
    for note in notes:
        output.talk(f"note: {note}")
    output.line(f"installed {ref} over {found.base.ref}, rank {manifest.rank}, {megabytes(manifest.size_bytes)} MB")
    output.talk(f"hint: foundry-lite run {ref}")


def _refuse_other_options(context: typer.Context) -> None:
    for parameter in context.command.params:
        name = str(parameter.name)
        source = context.get_parameter_source(name)
        if name not in _OBEYED and source is not None and source.name == "COMMANDLINE":
            raise typer.BadParameter("an adapter takes its base as it is", param_hint=parameter.opts[0])
