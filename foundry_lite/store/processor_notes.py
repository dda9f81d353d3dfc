"""Notes of how a model computes on this processor, where its figures come from another kind: one file a variant.

    <home>/processors/<name>/<variant>.json

The daemon writes one when it loads such a model, and `show` reads it. A note belongs to one installation of a variant
and to one kind of kernels; others are ignored.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from msgspec import Struct

from foundry_lite.machine import find_kernels
from foundry_lite.store.artifact import Artifact

log = logging.getLogger(__name__)


class ProcessorNote(Struct, frozen=True):
    """A processor note: a comparison. ``created`` is the loaded `Manifest.created`, ``kernels`` are this machine's."""

    created: str
    kernels: str
    note: str
    date: str


class ProcessorNotes:
    """The notes below one folder. Nothing is cached."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def find(self, artifact: Artifact) -> ProcessorNote | None:
        """Return the note of the last load of this variant by a daemon here; ``None`` if there is none."""
        try:
            found = msgspec.json.decode(self._path(artifact).read_bytes(), type=ProcessorNote)
        except (OSError, msgspec.DecodeError, UnicodeDecodeError):
            return None
        return found if (found.created, found.kernels) == (artifact.manifest.created, find_kernels()) else None

    def write(self, artifact: Artifact, note: str) -> None:
        """Write a note in place of the one before it; an empty one removes it. A home that refuses it is logged."""
        path = self._path(artifact)
        try:
            if not note:
                path.unlink(missing_ok=True)
                return
            path.parent.mkdir(parents=True, exist_ok=True)
            date = datetime.now(UTC).isoformat(timespec="seconds")
            path.write_bytes(msgspec.json.encode(ProcessorNote(artifact.manifest.created, find_kernels(), note, date)))
        except OSError as error:
            log.debug("cannot write %s: %s", path, error)

    def keep_only(self, model: str, variants: Collection[str]) -> None:
        """Remove the notes of a model's variants that are not among ``variants``."""
        for path in (self._root / model).glob("*.json"):
            if path.stem not in variants:
                path.unlink(missing_ok=True)

    def _path(self, artifact: Artifact) -> Path:
        return self._root / artifact.manifest.name / f"{artifact.manifest.variant}.json"
