"""An artifact's manifest: which files it has, from what they were built, by which recipe and tools."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol, TypeVar

import msgspec
from msgspec import Struct

from foundry_lite import __version__
from foundry_lite.catalog.recipe import Recipe
from foundry_lite.catalog.report import FINGERPRINT
from foundry_lite.errors import DamagedArtifact

MANIFEST = "manifest.json"
CARD = "card.toml"
REPORT = "report.json"
MODEL_CARD = "model_card.md"
SBOM = "sbom.cdx.json"
# Files with times and places of measurements. All other files follow from the inputs alone, byte for byte.
RECORDS = frozenset((MANIFEST, CARD, REPORT, MODEL_CARD, SBOM, FINGERPRINT))
_SCHEMA = 1
_CHUNK = 1 << 20
_AGAIN = "Import the model again with --force."
_WEIGHTS = (".safetensors", ".gguf")
_ABOUT = ("README.md", "LICENSE")  # of a source: they describe a model, and are no part of it


class FileEntry(Struct, frozen=True):
    """A file of an artifact or a source; ``path`` is relative, with forward slashes."""

    path: str
    size_bytes: int
    sha256: str


class Source(Struct, frozen=True, omit_defaults=True):
    """The source that an artifact was built from. ``location`` is the path or name the user gave.

    ``revision`` is a commit of the Hub, where known. ``base`` is the model that an adapter was merged into.
    """

    kind: str
    location: str
    architecture: str
    parameters: int
    files: tuple[FileEntry, ...]
    license: str = "unknown"
    revision: str = ""
    base: Source | None = None

    @property
    def weights_digest(self) -> str:
        """A sha256 that all copies of the same weights share, a base's included."""
        hashes = [one.sha256 for one in self.files if one.path.endswith(_WEIGHTS)] or [one.sha256 for one in self.files]
        own = hashlib.sha256("\n".join(sorted(hashes)).encode()).hexdigest()
        if self.base is None:
            return own
        return hashlib.sha256(f"{self.base.weights_digest}\n{own}".encode()).hexdigest()

    def differences(self, other: Source) -> tuple[str, ...]:
        """Return the names of the files by which two sources differ, a base's included: weights, template, config."""
        ours, theirs = ({one.path: one.sha256 for one in source.files} for source in (self, other))
        names = {path.rpartition("/")[2] for path in ours.keys() | theirs if ours.get(path) != theirs.get(path)}
        found = sorted(names - set(_ABOUT))
        if self.base is not None and other.base is not None:
            found += [f"{name} of the base" for name in self.base.differences(other.base)]
        elif self.base is not other.base:
            found += ["the base"]
        return tuple(found)


class Check(Struct, frozen=True):
    """A check that an artifact passed before it was committed; ``value`` is its figure."""

    name: str
    value: float
    threshold: float
    samples: int


class Manifest(Struct, frozen=True):
    """The record beside the files; with it, an artifact can be verified and built again.

    ``build_digest`` is `digest_build` of the files; empty in manifests of versions before 0.2.
    """

    schema: int
    name: str
    variant: str
    created: str
    source: Source
    recipe: Recipe
    versions: dict[str, str]
    checks: tuple[Check, ...]
    files: tuple[FileEntry, ...]
    build_digest: str = ""

    @property
    def size_bytes(self) -> int:
        return sum(entry.size_bytes for entry in self.files)

    @property
    def label(self) -> str:
        return f"{self.name}:{self.variant}"

    @property
    def weights_digest(self) -> str:
        """The same for all variants that were made of the same weights."""
        return self.source.weights_digest

    @property
    def built_files(self) -> tuple[FileEntry, ...]:
        """The files that follow from the inputs alone."""
        return tuple(entry for entry in self.files if entry.path not in RECORDS)


class AdapterManifest(Struct, frozen=True):
    """The record beside an adapter. ``base`` is the `Manifest.weights_digest` of the model that it was fitted to."""

    schema: int
    name: str
    adapter: str
    created: str
    base: str
    source: Source
    rank: int
    modules: tuple[str, ...]
    versions: dict[str, str]
    files: tuple[FileEntry, ...]

    @property
    def size_bytes(self) -> int:
        return sum(entry.size_bytes for entry in self.files)

    @property
    def label(self) -> str:
        return f"{self.name}@{self.adapter}"


_Kind = TypeVar("_Kind", Manifest, AdapterManifest)


class HasFiles(Protocol):
    """A manifest, for those who check its files."""

    @property
    def label(self) -> str: ...

    @property
    def files(self) -> tuple[FileEntry, ...]: ...


def write_manifest(folder: Path, manifest: Manifest | AdapterManifest) -> None:
    """Write the manifest into the artifact's folder."""
    (folder / MANIFEST).write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n")


def read_manifest(folder: Path) -> Manifest:
    """Read an artifact's manifest. Raises `DamagedArtifact`."""
    return _read(folder, Manifest)


def read_adapter_manifest(folder: Path) -> AdapterManifest:
    """Read an adapter's manifest. Raises `DamagedArtifact`."""
    return _read(folder, AdapterManifest)


def _read(folder: Path, kind: type[_Kind]) -> _Kind:
    try:
        manifest = msgspec.json.decode((folder / MANIFEST).read_bytes(), type=kind)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DamagedArtifact(f"{folder.name}/{MANIFEST}: {error}", hint=_AGAIN) from error
    if manifest.schema != _SCHEMA:
        raise DamagedArtifact(f"{folder.name}/{MANIFEST}: schema {manifest.schema}, this version reads {_SCHEMA}")
    return manifest


def new_manifest(
    folder: Path, name: str, source: Source, recipe: Recipe, *, versions: dict[str, str], checks: tuple[Check, ...]
) -> Manifest:
    """Describe the files that lie in ``folder`` now."""
    files = digest_files(folder)
    return Manifest(
        schema=_SCHEMA,
        name=name,
        variant=recipe.variant,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        source=source,
        recipe=recipe,
        versions=versions,
        checks=checks,
        files=files,
        build_digest=digest_build(files),
    )


def new_adapter_manifest(
    folder: Path, base: Manifest, adapter: str, source: Source, *, rank: int, modules: tuple[str, ...]
) -> AdapterManifest:
    """Describe an adapter over ``base`` whose files lie in ``folder`` now."""
    return AdapterManifest(
        schema=_SCHEMA,
        name=base.name,
        adapter=adapter,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        base=base.weights_digest,
        source=source,
        rank=rank,
        modules=modules,
        versions={"foundry-lite": __version__},
        files=digest_files(folder),
    )


def digest_files(folder: Path) -> tuple[FileEntry, ...]:
    """Hash every file below ``folder``, the manifest itself left out, in the order of their paths."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != MANIFEST)
    return tuple(FileEntry(path.relative_to(folder).as_posix(), path.stat().st_size, sha256_of(path)) for path in files)


def digest_build(files: Iterable[FileEntry]) -> str:
    """Return a sha256 over the paths and hashes of the files that follow from the inputs alone.

    Two builds of the same source, recipe and tools have the same digest, whenever and wherever they were made.
    """
    built = sorted((entry.path, entry.sha256) for entry in files if entry.path not in RECORDS)
    return hashlib.sha256("".join(f"{path}\0{sha256}\n" for path, sha256 in built).encode()).hexdigest()


def verify_sizes(folder: Path, manifest: HasFiles) -> None:
    """Compare the sizes of the files with the manifest: what can be done at each load. Raises `DamagedArtifact`."""
    for entry in manifest.files:
        path = folder / entry.path
        size = path.stat().st_size if path.is_file() else None
        if size != entry.size_bytes:
            found = "is missing" if size is None else f"has {size} bytes, not {entry.size_bytes}"
            raise DamagedArtifact(f"{manifest.label}: {entry.path} {found}", hint=_AGAIN)


def verify_digests(folder: Path, manifest: HasFiles) -> None:
    """Compare every file's sha256 with the manifest. Raises `DamagedArtifact` for the first that differs."""
    verify_sizes(folder, manifest)
    for entry in manifest.files:
        if sha256_of(folder / entry.path) != entry.sha256:
            raise DamagedArtifact(
                f"{manifest.label}: the content of {entry.path} has changed since the import",
                hint=_AGAIN,
            )


def sha256_of(path: Path) -> str:
    """Return the file's sha256 in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
