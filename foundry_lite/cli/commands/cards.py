"""``card``: a model's card, to read or to publish."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from foundry_lite.catalog.reference import parse_reference
from foundry_lite.cli.options import JsonOption, ModelArgument
from foundry_lite.cli.output import Output
from foundry_lite.conversion.records.model_card import format_model_card, sign
from foundry_lite.conversion.records.write import read_report
from foundry_lite.settings import read_settings
from foundry_lite.store.manifest import digest_build, verify_digests
from foundry_lite.store.store import Store


def card(
    model: ModelArgument,
    sign_off: Annotated[
        str | None,
        typer.Option("--sign-off", metavar='"NAME <MAIL>"', help="Vouch for it, once every file is verified."),
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="FILE", dir_okay=False, writable=True, help="Write it there instead."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Print a model's card as Markdown, to publish with it."""
    output = Output(as_json=as_json)
    if file is not None and not file.absolute().parent.is_dir():
        raise typer.BadParameter(f"there is no folder {file.parent}", param_hint="--output")
    artifact = Store(read_settings().home).resolve(parse_reference(model)).base
    signature = None if sign_off is None else sign(sign_off, datetime.now(UTC).date().isoformat())
    manifest = artifact.manifest
    if signature is not None:
        verify_digests(artifact.folder, manifest)
    if not manifest.build_digest:  # built before there were digests: it follows from the files all the same
        manifest = msgspec.structs.replace(manifest, build_digest=digest_build(manifest.files))
    own, report = artifact.card(), read_report(artifact.folder)
    text = format_model_card(own, manifest, report, signature)
    if file is not None:
        file.write_text(text, encoding="utf-8")
        output.talk(f"wrote {file}")
    if as_json:
        signed = None if signature is None else signature._asdict()
        output.json(
            {
                "model": str(artifact.ref),
                "build_digest": manifest.build_digest,
                "signed_off": signed,
                "card": own,
                "report": report,
                "markdown": text,
            }
        )
    elif file is None:
        output.write(text)
