"""Values of the store: artifacts, damaged folders, staging leftovers, planned removals."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import msgspec
from msgspec import Struct

from foundry_lite.catalog.card import Card, read_card
from foundry_lite.catalog.reference import ModelRef
from foundry_lite.catalog.report import FINGERPRINT
from foundry_lite.store.adapters import Adapter
from foundry_lite.store.choices import Chosen
from foundry_lite.store.manifest import Manifest


class _Kernels(Struct):
    """The one field of a fingerprint that can be read without the engine."""

    kernels: str


@dataclass(frozen=True, slots=True)
class Artifact:
    """An installed variant of a model: a folder that the engine can load, and an adapter to run over it, if any."""

    folder: Path
    manifest: Manifest
    is_embedded: bool
    adapter: Adapter | None = None
    chosen: Chosen | None = None  # what `tune` chose, where it chose this variant

    @property
    def ref(self) -> ModelRef:
        adapter = None if self.adapter is None else self.adapter.manifest.adapter
        return ModelRef(self.manifest.name, self.manifest.variant, adapter)

    @property
    def base(self) -> Artifact:
        """The same without its adapter: what is loaded, once for all adapters."""
        return replace(self, adapter=None)

    @property
    def identity(self) -> str:
        """Changes whenever the model under this name is another one."""
        return f"{self.ref} {self.manifest.created} {self.folder}"

    def card(self) -> Card:
        return read_card(self.folder / "card.toml")

    def kernels(self) -> str:
        """Return the kernels (`machine.find_kernels`) that the quality was measured with; empty if unknown."""
        try:
            return msgspec.json.decode((self.folder / FINGERPRINT).read_bytes(), type=_Kernels).kernels
        except (OSError, msgspec.DecodeError, UnicodeDecodeError):
            return ""


@dataclass(frozen=True, slots=True)
class Damage:
    """A folder in the store that should be a model and is not."""

    folder: Path
    reason: str


@dataclass(frozen=True, slots=True)
class Leftover:
    """A staging folder. ``is_live`` when the process that made it still runs."""

    folder: Path
    size_bytes: int
    is_live: bool
    modified: datetime


@dataclass(frozen=True, slots=True)
class Removal:
    """A planned removal, for `Store.remove`. ``folders`` are all that is removed."""

    name: str
    artifacts: tuple[Artifact, ...]
    folders: tuple[Path, ...]
    adapters: tuple[Adapter, ...] = ()

    @property
    def size_bytes(self) -> int:
        own = sum(one.manifest.size_bytes for one in self.artifacts)
        return own + sum(one.manifest.size_bytes for one in self.adapters)


@dataclass(frozen=True, slots=True)
class Listing:
    """All that the store holds, good and bad."""

    artifacts: tuple[Artifact, ...]
    damages: tuple[Damage, ...]
    leftovers: tuple[Leftover, ...]
    adapters: tuple[Adapter, ...] = ()
