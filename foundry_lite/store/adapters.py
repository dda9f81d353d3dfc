"""LoRA adapters on disk, beside the models they belong to.

    <home>/adapters/<model>/<adapter>/     manifest.json, adapter.onnx_adapter

An adapter belongs to a name, not to a variant: it runs over whichever variant was made of the same weights and
takes adapters. It appears and goes by one rename, as models do.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from foundry_lite.catalog.reference import ModelRef
from foundry_lite.errors import DamagedArtifact, NameTaken
from foundry_lite.store.exchange import REPLACED_ADAPTER, exchange
from foundry_lite.store.manifest import AdapterManifest, read_adapter_manifest

FILE = "adapter.onnx_adapter"


@dataclass(frozen=True, slots=True)
class Adapter:
    """An installed LoRA adapter."""

    folder: Path
    manifest: AdapterManifest

    @property
    def ref(self) -> ModelRef:
        return ModelRef(self.manifest.name, adapter=self.manifest.adapter)

    @property
    def path(self) -> Path:
        return self.folder / FILE

    @property
    def identity(self) -> str:
        """Names the content: another one under the same name is another adapter."""
        digest = next((one.sha256 for one in self.manifest.files if one.path == FILE), "")
        return f"{self.manifest.adapter}-{digest}"


class AdapterShelf:
    """The adapters of a store; like the store, it asks the disk each time."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def folder(self, name: str, adapter: str) -> Path:
        """Return where an adapter lies, or would lie."""
        return self._root / name / adapter

    def model_folder(self, name: str) -> Path:
        """Return where all adapters of a model lie."""
        return self._root / name

    def all(self, name: str = "*") -> Iterator[Adapter | tuple[Path, DamagedArtifact]]:
        """Yield the adapters of a model, or of all; one that cannot be read as its folder and what is wrong."""
        for folder in sorted(path for path in self._root.glob(f"{name}/*") if path.is_dir()):
            try:
                yield Adapter(folder, read_adapter_manifest(folder))
            except DamagedArtifact as error:
                yield folder, error

    def readable(self, name: str = "*") -> tuple[Adapter, ...]:
        """Return the adapters that can be read."""
        return tuple(one for one in self.all(name) if isinstance(one, Adapter))

    def find(self, name: str, adapter: str) -> Adapter | None:
        """Return an adapter, or ``None`` when there is none of that name. Raises `DamagedArtifact`."""
        folder = self.folder(name, adapter)
        return Adapter(folder, read_adapter_manifest(folder)) if folder.is_dir() else None

    def commit(self, staged: Path, *, replace: bool) -> Adapter:
        """Make the staged adapter visible by one rename; with ``replace`` the old one is first renamed away.

        For `Store.install_adapter`, which holds the lock. Raises `NameTaken`, unless the one that is there is the same.
        """
        manifest = read_adapter_manifest(staged)
        target = self.folder(manifest.name, manifest.adapter)
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            staged.rename(target)
        elif not replace:
            there = self.find(manifest.name, manifest.adapter)
            if there is None or (there.manifest.base, there.manifest.files) != (manifest.base, manifest.files):
                raise adapter_taken(manifest.name, manifest.adapter)
            return there
        else:
            exchange(staged, target, staged.with_name(staged.name + REPLACED_ADAPTER))
        return Adapter(target, manifest)


def adapter_taken(name: str, adapter: str) -> NameTaken:
    """Return the error for an import under a name that exists."""
    return NameTaken(
        f"'{name}' has an adapter called '{adapter}' already",
        hint="Choose another name after the @, or replace it with --force.",
    )
