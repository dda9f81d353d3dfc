"""The end of a build: variants laid out in a staging folder with their papers, then made visible by renames."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from foundry_lite.catalog.card import read_card
from foundry_lite.catalog.reference import ModelRef
from foundry_lite.catalog.report import FINGERPRINT, Report
from foundry_lite.conversion import variants
from foundry_lite.conversion.build_spec import BuildSpec, command_of
from foundry_lite.conversion.candidate import Trial, size_of
from foundry_lite.conversion.jobs.step_cache import Result
from foundry_lite.conversion.jobs.step_context import link_tree
from foundry_lite.conversion.records import versions
from foundry_lite.conversion.records import write as cards
from foundry_lite.conversion.records.write import Facts
from foundry_lite.conversion.sources.source_model import Exporter, SourceModel
from foundry_lite.errors import DamagedArtifact, ModelNotFound, NameTaken
from foundry_lite.store.manifest import CARD, Manifest, Source, read_manifest
from foundry_lite.store.store import Artifact, Store, name_taken

_MOST_NAMED = 5  # files in a sentence


@dataclass(frozen=True, slots=True)
class Installed:
    """Installed artifacts of a build. ``notes`` are sentences that the user should read."""

    artifacts: tuple[Artifact, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Staged:
    """Variants that are ready to be installed; ``folder`` holds them, and goes in any case."""

    folder: Path
    order: BuildSpec
    variants: tuple[str, ...]
    store: Store

    def commit(self) -> Installed:
        """Make them visible, if the name is still what it was when the build began. What is of another source goes.

        An import under a name that was taken meanwhile installs nothing. It ends well where the same is there already.
        Raises `NameTaken`.
        """
        name = self.order.name
        try:
            with self.store.changing():
                staged = [read_manifest(self.folder / variant) for variant in self.variants]
                source = staged[0].source
                require_same_source(self.order, source, self.store)
                is_taken = not self.order.replaces and not self.order.adds and self.store.holds(name)
                if is_taken and not self._is_there(staged):
                    raise _taken_meanwhile(name, "")
                if not is_taken:
                    self.store.install(self.folder, name, self.variants, lambda old: not old.source.differences(source))
                found = tuple(self.store.resolve(ModelRef(name, variant)) for variant in self.variants)
        finally:
            self.discard()
        return Installed(found, (f"The same '{name}' had been installed already while this was built.",) * is_taken)

    def _is_there(self, staged: Sequence[Manifest]) -> bool:
        """Return whether variants with the same files and defaults are installed already."""
        with suppress(ModelNotFound, DamagedArtifact):
            there = [self.store.resolve(ModelRef(self.order.name, one.variant)) for one in staged]
            cards = [read_card(self.folder / variant / CARD) for variant in self.variants]
            return all(
                (old.manifest.build_digest, old.card().defaults) == (new.build_digest, card.defaults)
                for old, new, card in zip(there, staged, cards, strict=True)
            )
        return False

    def discard(self) -> None:
        """Remove the staging folder."""
        shutil.rmtree(self.folder, ignore_errors=True)


def require_free_name(order: BuildSpec, store: Store, begun: str | None = None) -> None:
    """Raise `NameTaken` when the name exists, and the order neither replaces it nor adds to it.

    What was installed after ``begun`` may be what the same job installed before it was killed: `Staged.commit` looks.
    """
    if order.replaces or order.adds or not store.holds(order.name):
        return
    if begun is None or not any(
        one.ref.name == order.name and one.manifest.created >= begun for one in store.scan().artifacts
    ):
        raise name_taken(order.name)


def stage(
    order: BuildSpec,
    found: SourceModel,
    source: Source,
    exported: Result,
    chosen: Sequence[Trial],
    report: Report,
    store: Store,
) -> Staged:
    """Lay out the chosen candidates with card, report, model card, inputs and manifest. Nothing is visible yet."""
    staging = store.begin_staging(order.name)
    try:
        for trial in chosen:
            assert trial.built is not None
            folder = staging / trial.variant
            folder.mkdir()
            link_tree(trial.built.folder, folder)
            if trial.fingerprint is not None:
                shutil.copyfile(trial.fingerprint, folder / FINGERPRINT)
            facts = Facts(
                order=order,
                found=found,
                source=source,
                candidate=trial.candidate(),
                report=report,
                versions=versions.found(),
                command=command_of(order, trial.recipe),
                fp32_bytes=None if found.exporter is Exporter.NONE else size_of(exported.folder),
                was_run=variants.is_run_here(trial.recipe),
                notes=found.notes,
            )
            cards.describe(folder, facts)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    return Staged(staging, order, tuple(one.variant for one in chosen), store)


def require_same_source(order: BuildSpec, source: Source, store: Store) -> None:
    """Refuse to add a variant to a model that was made of another source: other weights, template or configuration."""
    if order.replaces or not store.holds(order.name):
        return
    installed: Manifest = store.resolve(ModelRef(order.name)).manifest
    files = ", ".join(installed.source.differences(source)[:_MOST_NAMED])
    if files and order.adds:
        raise NameTaken(
            f"a model is called '{order.name}' already, and was made of another source: {files} differs",
            hint="Choose another --name, or replace it and all of its variants with --force.",
        )
    if files:
        raise _taken_meanwhile(order.name, f", of another source: {files} differs")


def _taken_meanwhile(name: str, how: str) -> NameTaken:
    return NameTaken(
        f"a model called '{name}' was installed while this one was being built{how}",
        hint="Finished steps are kept: the same command with another --name, or with --force to replace it, takes "
        "seconds.",
    )
