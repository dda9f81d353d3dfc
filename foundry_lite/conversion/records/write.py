"""Records written beside a variant: its card, the report of all candidates, a model card to publish, its inputs.

The manifest comes last: once it is there, the folder is complete.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from foundry_lite import machine as devices
from foundry_lite.catalog.card import Ancestor, Basis, Card, Evidence, Origin, Sizes, format_card, read_card
from foundry_lite.catalog.recipe import Precision
from foundry_lite.catalog.report import Candidate, Measured, Report
from foundry_lite.conversion.build_spec import BuildSpec
from foundry_lite.conversion.records.evidence import checks_of, costs, is_cost, losses, name_machine
from foundry_lite.conversion.records.model_card import format_model_card
from foundry_lite.conversion.records.sbom import format_sbom
from foundry_lite.conversion.sources.source_model import Kind, SourceModel
from foundry_lite.errors import DamagedArtifact
from foundry_lite.store.manifest import (
    CARD,
    MODEL_CARD,
    REPORT,
    SBOM,
    FileEntry,
    Manifest,
    Source,
    digest_files,
    new_manifest,
    read_manifest,
    sha256_of,
    write_manifest,
)

_SNAPSHOT = re.compile(r"[0-9a-f]{40}")
_FP32_BYTES, _FP16_BYTES = 4, 2


@dataclass(frozen=True, slots=True)
class Facts:
    """All that is known of a variant when it is written down. ``command`` does the same build again.

    ``fp32_bytes`` and ``fp16_bytes`` are the sizes of the same model's files in those precisions, where they were
    built; ``None`` where not: the size is the report's, or else computed and marked so. ``assessed`` is
    the date (ISO 8601) and ``machine`` where the quality was measured; empty: today and here. ``was_run`` is false
    for a provider that this machine could not run.
    """

    order: BuildSpec
    found: SourceModel
    source: Source
    candidate: Candidate
    report: Report
    versions: dict[str, str]
    command: str
    fp32_bytes: int | None = None
    fp16_bytes: int | None = None
    was_run: bool = True
    assessed: str = ""
    machine: str = ""
    notes: tuple[str, ...] = ()


def describe(folder: Path, facts: Facts) -> None:
    """Write card.toml, report.json, model_card.md, sbom.cdx.json and, last, manifest.json into a variant's folder."""
    manifest = new_manifest(
        folder,
        facts.order.name,
        facts.source,
        facts.candidate.recipe,
        versions=facts.versions,
        checks=checks_of(facts.candidate.quality, facts.order.gate),
    )
    card = _card(facts, sum(entry.size_bytes for entry in manifest.built_files))
    (folder / SBOM).write_text(format_sbom(card, manifest), encoding="utf-8")
    _write(folder, card, facts.report, manifest)


def add_measured(folder: Path, measured: tuple[Measured, ...]) -> None:
    """Write down what a variant costs on this machine, replacing earlier figures: card, report and model card.

    ``folder`` is an artifact of the user's own. Its built files and its `build_digest` stay what they are.
    """
    manifest, card, report = read_manifest(folder), read_card(folder / CARD), read_report(folder)
    if report is None:
        raise _without_report(folder)
    candidates = tuple(
        msgspec.structs.replace(one, measured=measured) if one.recipe == card.recipe else one
        for one in report.candidates
    )
    kept = tuple(one for one in card.evidence if not is_cost(one))
    card = msgspec.structs.replace(card, evidence=kept + costs(measured, report.float32))
    _write(folder, card, msgspec.structs.replace(report, candidates=candidates), manifest)


def redescribe(folder: Path, *, description: str, limits: str, license: str, dialect: str | None = None) -> None:
    """Put the author's own fields into an artifact's card, and write its records again.

    ``dialect`` is its tool-call format (docs/tools.md); ``None`` leaves the card's.
    Raises `DamagedArtifact` for an artifact without a report, as those of version 0.1.
    """
    manifest, report = read_manifest(folder), read_report(folder)
    if report is None:
        raise _without_report(folder)
    said = {"description": description, "limits": limits, "license": license}
    before = read_card(folder / CARD)
    card = msgspec.structs.replace(before, **said, dialect=before.dialect if dialect is None else dialect)
    (folder / SBOM).write_text(format_sbom(card, manifest), encoding="utf-8")
    _write(folder, card, report, manifest)


def read_report(folder: Path) -> Report | None:
    """Read an artifact's report; ``None`` where it has none, as the models of version 0.1. Raises `DamagedArtifact`."""
    path = folder / REPORT
    if not path.is_file():
        return None
    try:
        return msgspec.json.decode(path.read_bytes(), type=Report)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DamagedArtifact(
            f"{folder.name}/{REPORT}: {error}", hint="Import the model again with --force."
        ) from error


def _without_report(folder: Path) -> DamagedArtifact:
    return DamagedArtifact(f"{folder.name}/{REPORT} is missing", hint="Import the model again with --force.")


def record_source(found: SourceModel, location: str) -> Source:
    """Return the record of a source: every file that the build may read, with its hash, and those of its base.

    The locations are paths as they were given, from which the same can be built again.
    """
    files = tuple(FileEntry(_name_in(found.folder, path), path.stat().st_size, sha256_of(path)) for path in found.files)
    base = None if found.base is None else record_source(found.base, str(found.base.folder))
    return Source(
        found.kind,
        location,
        found.architecture,
        found.parameters,
        files,
        license=found.license,
        revision=_revision(found.folder),
        base=base,
    )


def _write(folder: Path, card: Card, report: Report, manifest: Manifest) -> None:
    (folder / CARD).write_text(format_card(card), encoding="utf-8")
    (folder / REPORT).write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=1) + b"\n")
    (folder / MODEL_CARD).write_text(format_model_card(card, manifest, report), encoding="utf-8")
    write_manifest(folder, msgspec.structs.replace(manifest, files=digest_files(folder)))


def _card(facts: Facts, size_bytes: int) -> Card:
    found, order = facts.found, facts.order
    lineage = _lineage(found, facts.source)
    return Card(
        name=order.name,
        architecture=found.architecture,
        parameters=_parameters(found),
        context_length=found.context_length,
        source=_source_name(found),
        recipe=facts.candidate.recipe,
        task=found.task,
        license=_license(lineage),
        defaults=msgspec.structs.replace(found.defaults, reproducible=order.reproducible),
        revision=facts.source.revision or _revision(found.folder),
        command=facts.command,
        untested_here=not facts.was_run,
        notes=tuple(dict.fromkeys((*found.notes, *facts.notes, *_license_note(lineage)))),
        lineage=lineage,
        tools=facts.versions,
        sizes=_sizes(facts, size_bytes),
        goldens=facts.candidate.quality.goldens,
        evidence=_losses(facts) + costs(facts.candidate.measured, facts.report.float32),
    )


def _losses(facts: Facts) -> tuple[Evidence, ...]:
    pattern = Evidence(
        metric="",
        value=0,
        unit="",
        date=facts.assessed[:10] or datetime.now(UTC).date().isoformat(),
        command=facts.command,
        machine=facts.machine or name_machine(devices.probe_machine().as_dict()),
        versions=facts.versions,
    )
    return losses(facts.candidate.quality, pattern)


def _lineage(found: SourceModel, source: Source) -> tuple[Ancestor, ...]:
    below = () if found.base is None else _lineage(found.base, source.base or record_source(found.base, ""))
    below = tuple(
        msgspec.structs.replace(one, origin=Origin.BASE) if one.origin is Origin.SOURCE else one for one in below
    )
    is_adapter = found.kind is Kind.ADAPTER
    own = Ancestor(
        origin=Origin.ADAPTER if is_adapter else Origin.SOURCE,
        name=_source_name(found),
        kind=found.kind,
        digest=msgspec.structs.replace(source, base=None).weights_digest,
        revision=source.revision or _revision(found.folder),
        license=found.license,
        parameters=None if is_adapter else found.parameters,
    )
    return (*below, own)


def _license(lineage: tuple[Ancestor, ...]) -> str:
    # An adapter's publisher may state its licence; without one, the base's licence is unchanged.
    return next((one.license for one in reversed(lineage) if one.license != "unknown"), "unknown")


def _license_note(lineage: tuple[Ancestor, ...]) -> tuple[str, ...]:
    licenses = list(dict.fromkeys(one.license for one in lineage if one.license != "unknown"))
    if len(licenses) < 2:
        return ()
    return (f"The weights come from several works under different licences, and all hold: {', '.join(licenses)}.",)


def _parameters(found: SourceModel) -> int:
    return found.parameters if found.base is None else max(found.parameters, found.base.parameters)


def _sizes(facts: Facts, size_bytes: int) -> Sizes:
    parameters = _parameters(facts.found)
    fp32 = facts.fp32_bytes or _size_in(facts.report, Precision.FP32)
    fp16 = facts.fp16_bytes or _size_in(facts.report, Precision.FP16)
    return Sizes(
        variant=size_bytes,
        fp32=fp32 or parameters * _FP32_BYTES,
        fp16=fp16 or parameters * _FP16_BYTES,
        fp32_is=Basis.MEASURED if fp32 else Basis.COMPUTED,
        fp16_is=Basis.MEASURED if fp16 else Basis.COMPUTED,
    )


def _size_in(report: Report, precision: Precision) -> int | None:
    return next((one.size_bytes for one in report.candidates if one.recipe.precision is precision), None)


def _source_name(found: SourceModel) -> str:
    """Return what a source is called: on the Hub where it lies in the Hub's cache, else its folder or file."""
    folder = found.folder.absolute()
    repository = folder.parent.parent.name
    if _SNAPSHOT.fullmatch(folder.name) and repository.startswith("models--"):
        return repository.removeprefix("models--").replace("--", "/")
    return found.files[0].name if found.kind is Kind.GGUF and found.files else folder.resolve().name


def _revision(folder: Path) -> str:
    is_snapshot = _SNAPSHOT.fullmatch(folder.name) and folder.parent.name == "snapshots"
    return folder.name if is_snapshot else ""


def _name_in(folder: Path, path: Path) -> str:
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else path.name
