"""What is written beside a variant: its card, the report of all candidates, a model card to publish, the list of inputs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from foundry_lite.build.order import Order
from foundry_lite.build.sources.found import Found
from foundry_lite.catalog.report import Candidate, Report
from foundry_lite.store.manifest import Source


@dataclass(frozen=True, slots=True)
class Facts:
    """All that is known of a variant when it is written down. ``command`` does the same build again."""

    order: Order
    found: Found
    source: Source
    candidate: Candidate
    report: Report
    versions: dict[str, str]
    command: str


def describe(folder: Path, facts: Facts) -> None:
    """Write card.toml, report.json, model_card.md, sbom.cdx.json and, last, manifest.json into a variant's folder."""
    raise NotImplementedError
