"""Candidates of tuning: a model's variants, each with the execution providers and thread counts usable here."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import msgspec

from foundry_lite.catalog.recipe import Provider
from foundry_lite.catalog.reference import ModelRef
from foundry_lite.catalog.report import Quality, Report
from foundry_lite.errors import FoundryError
from foundry_lite.store.choices import Trial
from foundry_lite.store.manifest import REPORT
from foundry_lite.store.store import Artifact, Store

_RUNS_CPU_FOLDERS = (Provider.OPENVINO,)  # takes the graph that was made for the CPU


@dataclass(frozen=True, slots=True)
class Candidate:
    """Candidate of tuning: an artifact, and ``trial``, its row of the table, still without figures."""

    artifact: Artifact
    trial: Trial


def installed(store: Store, name: str, variants: Sequence[str] = ()) -> tuple[Artifact, ...]:
    """Return the installed variants of a model, or those of them that are named, all of the same weights.

    Where somebody put variants of other weights under one name, those of the newest are meant. Raises
    `ModelNotFound`, or `DamagedArtifact` when none can be read.
    """
    store.resolve(ModelRef(name))  # raises where there is none
    found = [one for one in store.scan().artifacts if one.manifest.name == name]
    weights = max(found, key=lambda one: one.manifest.created).manifest.weights_digest
    same = (one for one in found if one.manifest.weights_digest == weights)
    return tuple(one for one in same if not variants or one.manifest.variant in variants)


def thread_counts(cores: int) -> tuple[int, ...]:
    """Return the numbers of threads to try: all cores, and half of them, as two may be one core's hyper-threads."""
    return tuple(sorted({cores, max(1, cores // 2)}, reverse=True))


def candidates(
    artifacts: Sequence[Artifact], usable: Sequence[Provider], threads: Sequence[int]
) -> tuple[Candidate, ...]:
    """Return every combination that may run, in the order of the variants."""
    return tuple(
        Candidate(artifact, _trial(artifact, provider, count))
        for artifact in artifacts
        for provider in _providers(artifact.manifest.recipe.provider, usable)
        for count in (threads if provider in (Provider.CPU, *_RUNS_CPU_FOLDERS) else threads[:1])
    )


def _providers(own: Provider, usable: Sequence[Provider]) -> tuple[Provider, ...]:
    return (own, *(one for one in _RUNS_CPU_FOLDERS if own is Provider.CPU and one in usable))


def _trial(artifact: Artifact, provider: Provider, threads: int) -> Trial:
    manifest = artifact.manifest
    return Trial(manifest.variant, provider, threads, manifest.size_bytes, read_quality(artifact))


def read_quality(artifact: Artifact) -> Quality | None:
    """Return what the build measured of a variant, without its sample answers; ``None`` where it measured nothing."""
    quality = None
    with suppress(OSError, msgspec.DecodeError, UnicodeDecodeError, FoundryError):
        report = msgspec.json.decode((artifact.folder / REPORT).read_bytes(), type=Report)
        found = report.find(artifact.manifest.variant)
        quality = None if found is None else msgspec.structs.replace(found.quality, goldens=())
    return None if quality == Quality() else quality
