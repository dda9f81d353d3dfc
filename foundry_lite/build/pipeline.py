"""How a source becomes an artifact. `build` is the table of contents.

Everything happens in one staging folder of the store; the last step is one rename. Whatever goes wrong before it, a
full disk or a Ctrl-C included, the staging folder is removed and the store is as it was. After a kill -9 the folder
remains, is listed as a left-over, and can be removed.
"""

from __future__ import annotations

import errno
import importlib.metadata
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from foundry_lite import __version__
from foundry_lite.build import export, quality, sources
from foundry_lite.build.sources import HfFolder
from foundry_lite.catalog.card import Card, Evidence, format_card
from foundry_lite.catalog.recipe import Precision, Recipe
from foundry_lite.catalog.reference import ModelRef
from foundry_lite.errors import StorageFull
from foundry_lite.store.manifest import Check, Source, new_manifest, read_manifest, write_manifest
from foundry_lite.store.store import Artifact, Store, name_taken

STEPS = ("inspect", "export", "check", "describe", "commit")

_PACKAGES = ("onnxruntime", "onnxruntime-genai", "onnx", "torch", "transformers", "tokenizers")
_BITS = {Precision.INT4: 4, Precision.INT8: 8, Precision.FP32: 32}
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be built. ``replaces`` an installed model of that name, if there is one."""

    path: Path
    name: str
    recipe: Recipe
    replaces: bool = False
    keeps_staging: bool = False


@dataclass(frozen=True, slots=True)
class StepReport:
    """One step, as it begins (``seconds`` is ``None``) or when it is done."""

    number: int
    name: str
    detail: str
    seconds: float | None = None


Report = Callable[[StepReport], None]


async def build(order: Order, store: Store, report: Report) -> Artifact:
    """Build a model and install it under ``order.name``.

    Raises `NameTaken`, a `SourceRejected`, or a `BuildFailed`; then nothing of it is installed.
    """
    if store.holds(order.name) and not order.replaces:
        raise name_taken(order.name)
    step = partial(_Step, report)
    with step("inspect", str(order.path)) as now:
        source = sources.inspect(order.path)
        export.require_toolchain()
        now.detail = f"{source.architecture}, {source.parameters / 1e6:.1f} M parameters"
    staging = store.begin_staging(order.name)
    try:
        await _build_in(staging, order, source, step)
        with step("commit", order.name):
            store.commit(staging / order.name, order.name, replace=order.replaces)
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise StorageFull(f"{staging.parent}: {error.strerror}", hint="Free some space and try again.") from error
        raise
    finally:
        if not order.keeps_staging:
            shutil.rmtree(staging, ignore_errors=True)
    return store.resolve(ModelRef(order.name, order.recipe.variant))


async def _build_in(staging: Path, order: Order, source: HfFolder, step: Callable[[str, str], _Step]) -> None:
    _require_room(staging, source, order.recipe)
    target = staging / order.name / order.recipe.variant
    target.mkdir(parents=True)
    linked = sources.link_files(source, staging / "source")
    with step("export", f"{order.recipe.precision}, onnxruntime-genai's builder"):
        await export.export(linked, target, order.recipe, staging)
    with step("check", "against transformers in float32") as now:
        checks = await quality.check_fidelity(linked, target, order.recipe.precision, staging)
        now.detail = ", ".join(f"{one.name} {one.value:.1%} of {one.samples}" for one in checks)
    with step("describe", "card, manifest, sha256 of each file") as now:
        record = sources.describe(source, str(order.path))
        _describe(target, order, source, record, checks)
        now.detail = f"{read_manifest(target).size_bytes / 1e6:.1f} MB"


def _describe(target: Path, order: Order, source: HfFolder, record: Source, checks: tuple[Check, ...]) -> None:
    versions = _versions()
    command = f"foundry-lite import {source.folder.name} --precision {order.recipe.precision}"
    card = Card(
        name=order.name,
        architecture=source.architecture,
        parameters=source.parameters,
        context_length=source.context_length,
        source=source.folder.resolve().name,
        recipe=order.recipe,
        license=source.license,
        defaults=source.defaults,
        evidence=tuple(_evidence(check, command, versions) for check in checks),
    )
    (target / "card.toml").write_text(format_card(card), encoding="utf-8")
    write_manifest(target, new_manifest(target, order.name, record, order.recipe, versions=versions, checks=checks))


def _evidence(check: Check, command: str, versions: dict[str, str]) -> Evidence:
    date = datetime.now(UTC).date().isoformat()
    return Evidence(check.name, check.value, "share", date, command, check.samples, versions=versions)


def _require_room(staging: Path, source: HfFolder, recipe: Recipe) -> None:
    # The result, half as much again for scales and a float32 embedding, and the builder's own temporary copy.
    needed = int(source.parameters * _BITS[recipe.precision] / 8 * 1.5) + source.weight_bytes
    free = shutil.disk_usage(staging).free
    if free < needed:
        raise StorageFull(
            f"the build needs about {needed / 1e6:.0f} MB in {staging.parent}, {free / 1e6:.0f} MB are free",
            hint="Free some space, or set FOUNDRY_LITE_HOME to another disk.",
        )


def _versions() -> dict[str, str]:
    found = {"foundry-lite": __version__}
    for name in _PACKAGES:
        found[name] = importlib.metadata.version(name)
    return found


class _Step:
    """Reports when a step begins and, unless it raised, when it is done."""

    def __init__(self, report: Report, name: str, detail: str) -> None:
        self._report = report
        self._name = name
        self.detail = detail
        self._began = time.monotonic()

    def __enter__(self) -> _Step:
        self._report(StepReport(STEPS.index(self._name) + 1, self._name, self.detail))
        return self

    def __exit__(self, kind: type[BaseException] | None, *_rest: object) -> None:
        if kind is None:
            seconds = time.monotonic() - self._began
            self._report(StepReport(STEPS.index(self._name) + 1, self._name, self.detail, seconds))
