"""The local store: which artifacts there are, where they lie, and how one appears or goes.

    <home>/models/<name>/<variant>/     manifest.json, card.toml, model.onnx, tokenizer.json, …
    <home>/adapters/<name>/<adapter>/   LoRA adapters over them (`adapters`)
    <home>/choices/<name>.json          which variant `tune` chose (`choices`)
    <home>/processors/<name>/<variant>.json  how it computes on this processor (`processor_notes`)
    <home>/staging/<name>-<pid>-<n>/    being built; whatever lies here is not a model, and may be removed

    foundry_lite/embedded/<name>/<variant>/   the models that come with the package: read-only, same layout

A model appears by one rename out of ``staging`` and goes by one rename back into it, so a reader never sees half of
one. One process at a time changes what is installed (`exchange`). Nothing is cached: every question is asked of the
disk.
"""

from __future__ import annotations

import dataclasses
import difflib
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from datetime import UTC, datetime
from pathlib import Path

from foundry_lite.catalog.reference import ModelRef
from foundry_lite.errors import BadReference, DamagedArtifact, FoundryError, ModelNotFound, NameTaken, StorageFull
from foundry_lite.machine import process_exists
from foundry_lite.store.adapters import Adapter, AdapterShelf
from foundry_lite.store.artifact import Artifact as Artifact  # users of a store find it here
from foundry_lite.store.artifact import Damage, Leftover, Listing, Removal
from foundry_lite.store.choices import Choice, Choices
from foundry_lite.store.exchange import (
    GONE,
    REPLACED,
    REPLACED_ADAPTER,
    REPLACED_MODEL,
    Changes,
    link_folder,
    place,
    put_back,
)
from foundry_lite.store.manifest import Manifest, read_adapter_manifest, read_manifest
from foundry_lite.store.processor_notes import ProcessorNotes

EMBEDDED = Path(__file__).parent.parent / "embedded"


class Store:
    """Artifacts on disk, the user's own before the embedded ones."""

    def __init__(self, home: Path, embedded: Path = EMBEDDED) -> None:
        self._models = home / "models"
        self._staging = home / "staging"
        self._embedded = embedded
        self._changes = Changes(home)
        self.adapters = AdapterShelf(home / "adapters")
        self.choices = Choices(home / "choices")
        self.processor_notes = ProcessorNotes(home / "processors")

    @property
    def models_folder(self) -> Path:
        """The folder of the user's own models."""
        return self._models

    def scan(self) -> Listing:
        """Look at everything; a damaged model is reported, never raised."""
        self._mend()
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
        self._mend()
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
        return None if base is None else dataclasses.replace(base, adapter=adapter)

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
        """Return whether a model of that name is installed or embedded."""
        self._mend()
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
                raise StorageFull.at_home(self._staging, error) from error
            return folder
        raise StorageFull(f"{self._staging} is full of left-over folders", hint="Run 'foundry-lite rm --leftovers'.")

    def changing(self) -> AbstractContextManager[None]:
        """Keep other processes from changing what is installed, between a look at a name and taking it."""
        return self._changes.alone()

    def install(self, staging: Path, name: str, variants: Sequence[str], keeps: Callable[[Manifest], bool]) -> None:
        """Make staged variants visible, by one rename for all where the name is new or other variants go.

        Installed variants of that name that ``keeps`` rejects, such as those of another source, are removed.
        """
        with self.changing():
            model = self._models / name
            others = [one for one in model.glob("*") if one.is_dir() and one.name not in variants]
            kept = [one for one in others if any(keeps(found.manifest) for found in self._readable([one]))]
            if model.exists() and kept == others:
                for number, variant in enumerate(variants):
                    place(staging / variant, model / variant, staging / f"{number}{REPLACED}")
                return
            whole = staging / f"{name}.whole"
            whole.mkdir()
            for one in kept:
                link_folder(one, whole / one.name)
            for variant in variants:
                (staging / variant).rename(whole / variant)
            place(whole, model, staging / f"{name}{REPLACED_MODEL}")

    def install_adapter(self, staged: Path, base: Artifact, *, replace: bool) -> Artifact:
        """Make a staged adapter visible; return its base with it.

        Raises `NameTaken`, or `ModelNotFound` when the base was removed or replaced since the adapter was fitted to it.
        """
        with self.changing():
            self._mend()
            found = next((one for one in self.bases(ModelRef(base.ref.name)) if one.folder == base.folder), None)
            if found is None or found.manifest.weights_digest != base.manifest.weights_digest:
                raise ModelNotFound(
                    f"'{base.ref}' was removed or replaced while the adapter was being fitted to it",
                    hint="Nothing was installed. Import the adapter again.",
                )
            return dataclasses.replace(found, adapter=self.adapters.commit(staged, replace=replace))

    def choose(self, name: str, choice: Choice) -> None:
        """Write a choice of `tune` down. Raises `ModelNotFound` when what was chosen is not installed any more."""
        with self.changing():
            manifests = [one.manifest for one in self._readable(list(self._variant_folders(name)))]
            if not any(choice.fits(one) for one in manifests):
                raise ModelNotFound(
                    f"'{name}:{choice.variant}' was removed or replaced while it was measured",
                    hint="No choice was written. Run tune again.",
                )
            self.choices.write(name, choice)

    def plan_removal(self, ref: ModelRef) -> Removal:
        """Return what removing a model, a variant or an adapter of it would remove. Raises `ModelNotFound`.

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
        with self.changing():
            for number, folder in enumerate(removal.folders):
                with suppress(FileNotFoundError):  # somebody else removed it since it was planned
                    folder.rename(grave / f"removed-{number}")
                if folder.parent.parent == self._models.parent:
                    continue  # a whole model
                with suppress(OSError):  # not empty: other variants or adapters stay
                    folder.parent.rmdir()
            model = removal.name.partition(":")[0].partition("@")[0]
            self.processor_notes.keep_only(model, {folder.name for folder in self._variant_folders(model)})
            self.choices.keep_only(model, {folder.name for folder in self._variant_folders(model)})
        shutil.rmtree(grave, ignore_errors=True)

    def remove_leftovers(self) -> tuple[Leftover, ...]:
        """Remove staging folders whose process has ended, and return them.

        A variant that was being replaced when the process was killed is put back first.
        """
        self._mend()
        dead = tuple(leftover for leftover in self._leftovers() if not leftover.is_live)
        for leftover in dead:
            shutil.rmtree(leftover.folder, ignore_errors=True)
        return dead

    def _mend(self) -> None:
        """Put back what a process had set aside to replace it when it was killed."""
        asides = [one for one in self._staging.glob(f"*/*{REPLACED}*") if not one.name.endswith(GONE)]
        if all(_is_live(one.parent.name) for one in asides):
            return
        with suppress(StorageFull), self.changing():
            for aside in asides:
                if not _is_live(aside.parent.name):
                    with suppress(DamagedArtifact, OSError):
                        put_back(aside, self._place_of(aside))

    def _place_of(self, aside: Path) -> Path:
        """Return the original path of a folder that was set aside. Raises `DamagedArtifact`."""
        if aside.name.endswith(REPLACED_MODEL):
            return self._models / aside.name.removesuffix(REPLACED_MODEL)
        if aside.name.endswith(REPLACED_ADAPTER):
            adapter = read_adapter_manifest(aside)
            return self.adapters.folder(adapter.name, adapter.adapter)
        manifest = read_manifest(aside)
        return self._models / manifest.name / manifest.variant

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
