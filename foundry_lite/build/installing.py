"""The end of a build: variants laid out in a staging folder with their papers, then made visible by renames."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from foundry_lite.build import cards, variants, versions
from foundry_lite.build.cards import Facts
from foundry_lite.build.order import Order, command_of
from foundry_lite.build.sources.found import Exporter, Found
from foundry_lite.build.steps import Result
from foundry_lite.build.trial import Trial, size_of
from foundry_lite.build.workbench import link_tree
from foundry_lite.catalog.reference import ModelRef
from foundry_lite.catalog.report import FINGERPRINT, Report
from foundry_lite.store.manifest import Manifest, Source, read_manifest
from foundry_lite.store.store import Artifact, Store, name_taken


@dataclass(frozen=True, slots=True)
class Staged:
    """Variants that are ready to be installed; ``folder`` holds them, and goes in any case."""

    folder: Path
    order: Order
    variants: tuple[str, ...]
    store: Store

    def commit(self) -> tuple[Artifact, ...]:
        """Make them visible. A model of that name that was made of other weights goes first."""
        name = self.order.name
        try:
            weights = read_manifest(self.folder / self.variants[0]).weights_digest
            self.store.install(self.folder, name, self.variants, keeps=lambda old: old.weights_digest == weights)
        finally:
            self.discard()
        return tuple(self.store.resolve(ModelRef(name, variant)) for variant in self.variants)

    def discard(self) -> None:
        """Remove the staging folder."""
        shutil.rmtree(self.folder, ignore_errors=True)


def require_free_name(order: Order, store: Store) -> None:
    """Raise `NameTaken` when the name exists, and the order neither replaces it nor adds to it."""
    if not order.replaces and not order.adds and store.holds(order.name):
        raise name_taken(order.name)


def stage(
    order: Order, found: Found, source: Source, exported: Result, chosen: Sequence[Trial], report: Report, store: Store
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


def require_same_weights(order: Order, source: Source, store: Store) -> None:
    """Refuse to add a variant to a model that was made of other weights."""
    if order.replaces or not store.holds(order.name):
        return
    installed: Manifest = store.resolve(ModelRef(order.name)).manifest
    if installed.weights_digest != source.weights_digest:
        raise name_taken(order.name)
