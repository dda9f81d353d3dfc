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
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TypeAlias

import msgspec

from foundry_lite import __version__
from foundry_lite.build import export, quality, sources
from foundry_lite.build.quality import Loss, Reference
from foundry_lite.build.sources import HfFolder
from foundry_lite.catalog.card import Card, Evidence, format_card
from foundry_lite.catalog.recipe import Precision, Recipe
from foundry_lite.catalog.reference import ModelRef
from foundry_lite.errors import StorageFull
from foundry_lite.store.manifest import Check, Source, new_manifest, read_manifest, write_manifest
from foundry_lite.store.store import Artifact, Store, name_taken

STEPS = ("inspect", "export", "quantize", "check", "describe", "commit")

_PACKAGES = ("onnxruntime", "onnxruntime-genai", "onnx", "torch", "transformers", "tokenizers")
_BITS = {Precision.INT4: 4, Precision.INT8: 8, Precision.FP32: 32}
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be built. ``replaces`` an installed model of that name, if there is one.

    ``faster`` are recipes that are tried before ``recipe``, the fastest first: one is taken when it loses little more
    (`quality.is_tolerable`). ``reproducible`` is written into the card's defaults.
    """

    path: Path
    name: str
    recipe: Recipe
    faster: tuple[Recipe, ...] = ()
    reproducible: bool = False
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
Begin: TypeAlias = "Callable[[str, str], _Step]"


async def build(order: Order, store: Store, report: Report) -> Artifact:
    """Build a model and install it under ``order.name``.

    Raises `NameTaken`, a `SourceRejected`, or a `BuildFailed`; then nothing of it is installed.
    """
    if store.holds(order.name) and not order.replaces:
        raise name_taken(order.name)
    step = begin_steps(report)
    with step("inspect", str(order.path)) as now:
        source = sources.inspect(order.path)
        export.require_toolchain()
        now.detail = f"{source.architecture}, {source.parameters / 1e6:.1f} M parameters"
    staging = store.begin_staging(order.name)
    try:
        recipe = await _build_in(staging, order, source, step)
        with step("commit", order.name):
            store.commit(staging / order.name, order.name, replace=order.replaces)
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise StorageFull(f"{staging.parent}: {error.strerror}", hint="Free some space and try again.") from error
        raise
    finally:
        if not order.keeps_staging:
            shutil.rmtree(staging, ignore_errors=True)
    return store.resolve(ModelRef(order.name, recipe.variant))


@dataclass(slots=True)
class Trial:
    """A candidate as it was built, and what was measured. ``others`` are the losses of those not taken, by variant."""

    folder: Path
    recipe: Recipe
    checks: tuple[Check, ...] = ()
    others: dict[str, Loss] = field(default_factory=dict)


async def _build_in(staging: Path, order: Order, source: HfFolder, step: Begin) -> Recipe:
    """Leave one variant in ``staging/<name>/<variant>``; return its recipe."""
    recipes = (*order.faster, order.recipe)
    _require_room(staging, source, recipes)
    linked, exported = sources.link_files(source, staging / "source"), staging / "float32"
    with step("export", "fp32, onnxruntime-genai's builder"):
        await export.export(linked, exported, order.recipe.provider, staging)
    candidates = {staging / "candidates" / one.variant: one for one in recipes}
    with step("quantize", ", ".join(one.variant for one in recipes)):
        await export.derive(exported, candidates, staging)
        for folder, recipe in candidates.items():
            if recipe.adapters:
                await export.make_adaptable(folder, staging)
    with step("check", "what the source says, by transformers in float32"):
        references = await quality.ask_source(linked, staging)
    trial = await choose([Trial(folder, one) for folder, one in candidates.items()], references, step)
    if trial.recipe.fast_prefill:
        await _add_companion(trial, exported, references, staging, step)
    target = staging / order.name / trial.recipe.variant
    target.parent.mkdir()
    trial.folder.rename(target)
    with step("describe", "card, manifest, sha256 of each file") as now:
        record = sources.describe(source, str(order.path))
        _describe(target, order, source, record, trial)
        now.detail = f"{read_manifest(target).size_bytes / 1e6:.1f} MB"
    return trial.recipe


def begin_steps(report: Report) -> Begin:
    """Return what begins a step, by its name and detail, and tells ``report`` of it."""
    return partial(_Step, report)


async def choose(trials: list[Trial], references: tuple[Reference, ...], step: Begin) -> Trial:
    """Take the first candidate that loses little more than the last."""
    losses = {}
    for trial in trials:
        with step("check", f"{trial.recipe.variant} against transformers in float32") as now:
            losses[trial.recipe.variant] = loss = (await quality.score(trial.folder, references)).loss()
            now.detail = f"{trial.recipe.variant}: {loss}"
    precision = trials[-1].recipe.precision
    surest = losses[trials[-1].recipe.variant]
    good = (one for one in trials[:-1] if quality.is_tolerable(losses[one.recipe.variant], surest))
    chosen = next((one for one in good if quality.is_sound(losses[one.recipe.variant], precision)), trials[-1])
    loss = losses.pop(chosen.recipe.variant)
    chosen.checks = quality.check_fidelity(loss, chosen.recipe.precision)
    chosen.others = losses
    return chosen


async def _add_companion(
    trial: Trial,
    exported: Path,
    references: tuple[Reference, ...],
    scratch: Path,
    step: Begin,
) -> None:
    """Add the graph that computes prompts, and compare: the prompts with it and without, the rest decoded."""
    with step("check", f"{trial.recipe.variant}, prompts in W8A8") as now:
        without = await quality.score(trial.folder, references, prefills=True)
        await export.add_companion(exported, trial.folder, scratch)
        with_it = (await quality.score(trial.folder, references, prefills=True)).loss(after_prompt=True)
        trial.checks += quality.check_companion(with_it, without.loss(after_prompt=True))
        now.detail = f"{trial.recipe.variant}, prompts in W8A8: {with_it}"


def _describe(target: Path, order: Order, source: HfFolder, record: Source, trial: Trial) -> None:
    versions = _versions()
    card = Card(
        name=order.name,
        architecture=source.architecture,
        parameters=source.parameters,
        context_length=source.context_length,
        source=source.folder.resolve().name,
        recipe=trial.recipe,
        license=source.license,
        defaults=msgspec.structs.replace(source.defaults, reproducible=order.reproducible),
        evidence=_evidence(trial, command_of(source.folder.name, order), versions),
    )
    (target / "card.toml").write_text(format_card(card), encoding="utf-8")
    manifest = new_manifest(target, order.name, record, trial.recipe, versions=versions, checks=trial.checks)
    write_manifest(target, manifest)


def command_of(folder: str, order: Order) -> str:
    """Return the command that does the same import again."""
    recipe = order.recipe
    words = [f"foundry-lite import {folder} --name {order.name} --precision {recipe.precision}"]
    words += [f"--block-size {recipe.block_size}"] * (recipe.block_size is not None and not order.faster)
    words += ["--fast-prefill"] * recipe.fast_prefill + ["--adapters"] * recipe.adapters
    return " ".join(words + ["--reproducible"] * order.reproducible)


def _evidence(trial: Trial, command: str, versions: dict[str, str]) -> tuple[Evidence, ...]:
    date = datetime.now(UTC).date().isoformat()
    figures = [(check.name, check.value, check.samples) for check in trial.checks]
    for variant, loss in trial.others.items():
        figures.append((f"{quality.TOP1}.{variant}", round(loss.top1, 4), loss.positions))
        figures.append((f"{quality.KL}.{variant}", round(loss.kl, 6), loss.positions))
    return tuple(
        Evidence(name, value, "nats" if name.startswith(quality.KL) else "share", date, command, n, versions=versions)
        for name, value, n in figures
    )


def _require_room(staging: Path, source: HfFolder, recipes: tuple[Recipe, ...]) -> None:
    # The export in float32, each candidate with an eighth more for its scales, and the companion's 8 bits.
    bits = 32 + sum(_BITS[one.precision] * 9 / 8 for one in recipes) + 8 * recipes[-1].fast_prefill
    needed = int(source.parameters * bits / 8)
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
