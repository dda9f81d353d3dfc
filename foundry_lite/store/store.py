"""The local store: which artifacts there are, where they lie, and how one appears or goes.

    <home>/models/<name>/<variant>/     manifest.json, card.toml, model.onnx, tokenizer.json, …
    <home>/adapters/<name>/<adapter>/   LoRA adapters over them (`adapters`)
    <home>/choices/<name>.json          which variant `tune` chose (`choices`)
    <home>/processors/<name>--….json    how it computes on this processor (`processor_notes`)
    <home>/staging/<name>-<pid>-<n>/    being built; whatever lies here is not a model, and may be removed

    foundry_lite/embedded/<name>/<variant>/   the models that come with the package: read-only, same layout

A model appears by one rename out of ``staging`` and goes by one rename back into it, so a reader never sees half of
one. Nothing is cached: every question is asked of the disk.
"""

from __future__ import annotations

import difflib
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from foundry_lite.catalog.reference import ModelRef
from foundry_lite.devices import process_exists
from foundry_lite.errors import BadReference, DamagedArtifact, FoundryError, ModelNotFound, NameTaken, StorageFull
from foundry_lite.store.adapters import Adapter, AdapterShelf
from foundry_lite.store.artifact import Artifact as Artifact  # users of a store find it here
from foundry_lite.store.artifact import Damage, Leftover, Listing, Removal
from foundry_lite.store.choices import Choices
from foundry_lite.store.manifest import Manifest, read_manifest
from foundry_lite.store.processor_notes import ProcessorNotes

_REPLACED = ".replaced"  # what an old variant is called for the moment between two renames
_GONE = ".gone"  # and one that nothing takes the place of
EMBEDDED = Path(__file__).parent.parent / "embedded"


class Store:
    """Artifacts on disk, the user's own before the embedded ones."""

    def __init__(self, home: Path, embedded: Path = EMBEDDED) -> None:
        self._models = home / "models"
        self._staging = home / "staging"
        self._embedded = embedded
        self.adapters = AdapterShelf(home / "adapters")
        self.choices = Choices(home / "choices")
        self.processor_notes = ProcessorNotes(home / "processors")

    @property
    def models_folder(self) -> Path:
        """Where the user's own models lie."""
        return self._models

    def scan(self) -> Listing:
        """Look at everything; a damaged model is reported, never raised."""
        artifacts: list[Artifact] = []
        damages: list[Damage] = []
        for folder in self._variant_folders():
            try:
                artifacts.append(self._read(folder))
            except FoundryError as error:
                damages.append(Damage(folder, error.message))
        adapters = list(self.adapters.all())
        damages += [Damage(one[0], one[1].message) for one in adapters if not isinstance(one, Adapter)]
        good = tuple(one for one in adapters if isinstance(one, Adapter))
        return Listing(tuple(artifacts), tuple(damages), tuple(self._leftovers()), good)

    def resolve(self, ref: ModelRef) -> Artifact:
        """Find the artifact for a reference; without a variant, the one that was chosen, else the newest.

        Raises `ModelNotFound`, or `DamagedArtifact` when it is there and cannot be read.
        """
        if ref.adapter is not None:
            return self._resolve_adapter(ref, ref.adapter)
        folders = [folder for folder in self._variant_folders(ref.name) if ref.variant in (None, folder.name)]
        if not folders:
            raise self.not_found(str(ref))
        artifacts = list(self._readable(folders)) or [self._read(folders[0])]  # the last raises what is wrong with it
        return max(artifacts, key=lambda one: (one.chosen is not None, one.manifest.created))

    def bases(self, ref: ModelRef) -> tuple[Artifact, ...]:
        """Return the variants that a reference may mean and that take adapters, the newest first."""
        folders = [folder for folder in self._variant_folders(ref.name) if ref.variant in (None, folder.name)]
        found = [one for one in self._readable(folders) if one.manifest.recipe.adapters]
        return tuple(sorted(found, key=lambda one: one.manifest.created, reverse=True))

    def with_base(self, adapter: Adapter, variant: str | None = None) -> Artifact | None:
        """Return what an adapter runs over, with it; ``None`` when its base is gone or another one."""
        bases = self.bases(ModelRef(adapter.manifest.name, variant))
        fitting = (one for one in bases if one.manifest.weights_digest == adapter.manifest.base)
        base = next(fitting, None)
        return None if base is None else replace(base, adapter=adapter)

    def _resolve_adapter(self, ref: ModelRef, name: str) -> Artifact:
        adapter = self.adapters.find(ref.name, name)
        if adapter is None:
            raise self.not_found(str(ref))
        found = self.with_base(adapter, ref.variant)
        if found is None:
            model = ModelRef(ref.name, ref.variant)
            fact = f"was made for other weights than '{model}' has now"
            raise ModelNotFound(
                f"the adapter '{name}' {fact if self.bases(model) else f'has no base: {model} takes no adapters'}",
                hint="Import the base with --adapters, and then the adapter again with --force.",
            )
        return found

    def holds(self, name: str) -> bool:
        """Say whether a model of that name is installed or embedded."""
        return (self._models / name).exists() or (self._embedded / name).exists()

    def begin_staging(self, name: str) -> Path:
        """Make a new, empty staging folder that carries this process's number. Raises `StorageFull`."""
        for attempt in range(1000):
            folder = self._staging / f"{name}-{os.getpid()}-{attempt}"
            try:
                folder.mkdir(parents=True)
            except FileExistsError:
                continue
            except OSError as error:
                raise StorageFull(f"cannot write to {self._staging}: {error.strerror}") from error
            return folder
        raise StorageFull(f"{self._staging} is full of left-over folders", hint="Run 'foundry-lite rm --leftovers'.")

    def install(self, staging: Path, name: str, variants: Sequence[str], keeps: Callable[[Manifest], bool]) -> None:
        """Make staged variants visible, each by one rename; a variant of the same name is renamed away first.

        Installed variants of that name that ``keeps`` says no to, such as those of other weights, go.
        """
        model = self._models / name
        model.mkdir(parents=True, exist_ok=True)
        for number, variant in enumerate(variants):
            old, target = staging / f"{number}{_REPLACED}", model / variant
            if target.exists():
                target.rename(old)
            try:
                (staging / variant).rename(target)
            except OSError:
                if old.exists():
                    old.rename(target)
                raise
        for other in [one for one in model.iterdir() if one.is_dir() and one.name not in variants]:
            if not any(keeps(one.manifest) for one in self._readable([other])):
                other.rename(staging / f"{other.name}{_GONE}")

    def plan_removal(self, ref: ModelRef) -> Removal:
        """Say what removing a model, a variant or an adapter of it would remove. Raises `ModelNotFound`.

        A model takes its adapters with it, and so does its last variant.
        """
        if ref.adapter is not None:
            return self._plan_adapter_removal(ref, ref.adapter)
        model = self._models / ref.name
        folder = model if ref.variant is None else model / ref.variant
        if not folder.is_dir():
            if (self._embedded / ref.name).is_dir():
                raise ModelNotFound(
                    f"{ref} comes with foundry-lite and cannot be removed", hint="Only imported models can be removed."
                )
            raise self.not_found(str(ref))
        inside = [one for one in self._variant_folders(ref.name) if one.is_relative_to(folder)]
        artifacts = tuple(self._readable(inside))
        if any(other != folder for other in model.iterdir()) and folder != model:
            return Removal(str(ref), artifacts, (folder,))
        shelf = self.adapters.model_folder(ref.name)
        return Removal(str(ref), artifacts, (model, *[shelf] * shelf.is_dir()), self.adapters.readable(ref.name))

    def _plan_adapter_removal(self, ref: ModelRef, name: str) -> Removal:
        folder = self.adapters.folder(ref.name, name)
        if not folder.is_dir():
            raise self.not_found(str(ref))
        if ref.variant is not None:
            raise BadReference(
                f"'{ref}' names a variant; an adapter belongs to all variants of its model",
                hint=f"Remove {ref.name}@{name}.",
            )
        adapters = tuple(one for one in self.adapters.readable(ref.name) if one.folder == folder)
        return Removal(str(ref), (), (folder,), adapters)

    def remove(self, removal: Removal) -> None:
        """Remove what was planned: one rename into staging for each folder, and only then the files."""
        self._staging.mkdir(parents=True, exist_ok=True)
        grave = self.begin_staging(removal.name.replace(":", "--").replace("@", "--"))
        for number, folder in enumerate(removal.folders):
            folder.rename(grave / f"removed-{number}")
            if folder.parent.parent == self._models.parent:
                continue  # a whole model
            with suppress(OSError):  # not empty: other variants or adapters stay
                folder.parent.rmdir()
        shutil.rmtree(grave, ignore_errors=True)
        model = removal.name.partition(":")[0].partition("@")[0]
        self.processor_notes.remove(model)
        self.choices.keep_only(model, {folder.name for folder in self._variant_folders(model)})

    def remove_leftovers(self) -> tuple[Leftover, ...]:
        """Remove staging folders whose process has ended, and return them.

        A variant that was being replaced when the process was killed is put back first.
        """
        dead = tuple(leftover for leftover in self._leftovers() if not leftover.is_live)
        for leftover in dead:
            self._restore_variants(leftover.folder)
            self.adapters.restore(leftover.folder)
            shutil.rmtree(leftover.folder, ignore_errors=True)
        return dead

    def _restore_variants(self, leftover: Path) -> None:
        for old in leftover.glob(f"*{_REPLACED}"):
            with suppress(DamagedArtifact, OSError):
                manifest = read_manifest(old)
                target = self._models / manifest.name / manifest.variant
                if not target.exists():
                    target.parent.mkdir(parents=True, exist_ok=True)
                    old.rename(target)

    def _variant_folders(self, name: str = "*") -> Iterator[Path]:
        own = {path.name for path in self._models.glob(name) if path.is_dir()}
        for root in (self._models, self._embedded):
            for model in sorted(root.glob(name)):
                if model.is_dir() and (root == self._models or model.name not in own):
                    yield from sorted(path for path in model.iterdir() if path.is_dir())

    def _read(self, folder: Path) -> Artifact:
        manifest = read_manifest(folder)
        chosen = self.choices.find(manifest.name)
        fits = chosen is not None and chosen.fits(manifest)
        is_embedded = folder.is_relative_to(self._embedded)
        return Artifact(folder, manifest, is_embedded, chosen=chosen if fits else None)

    def _readable(self, folders: list[Path]) -> Iterator[Artifact]:
        for folder in folders:
            with suppress(FoundryError):
                yield self._read(folder)

    def _leftovers(self) -> Iterator[Leftover]:
        if not self._staging.is_dir():
            return
        for folder in sorted(self._staging.iterdir()):
            size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
            modified = datetime.fromtimestamp(folder.stat().st_mtime, UTC)
            yield Leftover(folder, size, _is_live(folder.name), modified)

    def not_found(self, name: str) -> ModelNotFound:
        """Return the error for a name that nothing installed has, with the one that was perhaps meant."""
        variants = ((folder.parent.name, folder.name) for folder in self._variant_folders())
        names = [text for model, variant in variants for text in (model, f"{model}:{variant}")]
        names += [str(one.ref) for one in self.adapters.readable()]
        close = difflib.get_close_matches(name, names, n=1)
        guess = f"Did you mean {close[0]}? " if close else ""
        return ModelNotFound(f"no model is called '{name}'", hint=f"{guess}'foundry-lite list' shows all.")


def name_taken(name: str) -> NameTaken:
    """Return the error for an import under a name that exists."""
    return NameTaken(f"a model is called '{name}' already", hint="Choose another --name, or replace it with --force.")


def _is_live(name: str) -> bool:
    parts = name.rsplit("-", 2)
    return len(parts) == 3 and parts[1].isdigit() and process_exists(int(parts[1]))
