"""Build pipeline from a source to installed variants. `build` is the table of contents.

The result of every costly step is cached by the hash of its inputs (`step_cache`), so a build that was interrupted, or
is repeated with another recipe, does only what is new. Each variant is installed by one rename.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from foundry_lite.catalog.card import Task
from foundry_lite.catalog.recipe import Precision, Recipe
from foundry_lite.catalog.report import FINGERPRINT, Measured, Quality, Report
from foundry_lite.conversion import step_keys, variants
from foundry_lite.conversion.build_spec import BuildSpec, fitting
from foundry_lite.conversion.candidate import Trial, summary
from foundry_lite.conversion.checkpoint import normalize
from foundry_lite.conversion.evaluate.cases import Case, read_cases
from foundry_lite.conversion.evaluate.gate import judge
from foundry_lite.conversion.evaluate.speed import measure
from foundry_lite.conversion.install import Installed, require_free_name, require_same_source, stage
from foundry_lite.conversion.jobs.job_store import Job, JobStore, State
from foundry_lite.conversion.jobs.progress import JobProgress, RunningStep, Tell
from foundry_lite.conversion.jobs.step_cache import Make, Result, StepCache
from foundry_lite.conversion.jobs.step_context import StepContext
from foundry_lite.conversion.preflight import fingerprint, require_memory, require_room
from foundry_lite.conversion.records.write import record_source
from foundry_lite.conversion.select import explain, walk
from foundry_lite.conversion.sources import detect
from foundry_lite.conversion.sources.source_model import Exporter, Kind, Options, SourceModel
from foundry_lite.conversion.step_keys import Key
from foundry_lite.conversion.tasks import Line, line_for
from foundry_lite.conversion.toolchains.toolchains import Toolchains
from foundry_lite.errors import FoundryError, StorageFull
from foundry_lite.settings import Settings
from foundry_lite.store.manifest import Source
from foundry_lite.store.store import Artifact, Store

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_QUALITY, _MEASURED = "quality.json", "measured.json"


@dataclass(frozen=True, slots=True)
class Site:
    """Build context: the store to install into, the job store, the step cache, the settings."""

    store: Store
    jobs: JobStore
    steps: StepCache
    settings: Settings


def open_site(settings: Settings, talk: Callable[[str], None] | None = None) -> Site:
    """Return the build context of a home folder; ``talk`` gets the progress of toolchain installations."""
    home = settings.home
    toolchains = Toolchains(home / "toolchains", wheels=settings.wheels, tell=talk)
    return Site(Store(home), JobStore(home), StepCache(home / "build", toolchains), settings)


@dataclass(frozen=True, slots=True)
class Outcome:
    """Result of a build: the installed artifacts, the chosen one first, and the report of all candidates."""

    job: Job
    artifacts: tuple[Artifact, ...]
    report: Report
    notes: tuple[str, ...]


async def build(order: BuildSpec, site: Site, tell: Tell, job: Job | None = None) -> Outcome:
    """Run a build to its end. ``job`` is its record, if it has one already.

    Raises `NameTaken`, a `SourceRejected`, a `BuildFailed`; then nothing of it is installed, and the steps that were
    done are kept for the next try. What is refused at first sight leaves no record either.
    """
    sight = None if job is not None else await asyncio.to_thread(look, order, site)
    journal = JobProgress(site.jobs, job or site.jobs.begin(order), tell)
    try:
        async with site.jobs.turn(journal.job):
            journal.begin()
            outcome = await _Build(order, site, journal).run(sight)
            await asyncio.to_thread(site.steps.trim, site.settings.build_cache)
    except FoundryError as error:
        journal.end(State.FAILED, error.message, error.hint)
        raise
    except OSError as error:
        journal.end(State.FAILED, str(error))
        if error.errno in _NO_ROOM:
            raise StorageFull(f"the disk is full: {error.strerror}", hint="Free some space and try again.") from error
        raise
    except (asyncio.CancelledError, KeyboardInterrupt):
        journal.end(State.CANCELLED)
        raise
    return outcome


@dataclass(frozen=True, slots=True)
class Sight:
    """Preflight inspection of a build: its specification, the source model, the evaluation cases."""

    order: BuildSpec
    found: SourceModel
    cases: tuple[Case, ...]


def look(order: BuildSpec, site: Site, begun: str | None = None) -> Sight:
    """Look at everything that can be refused at once: the name, the source, the user's cases, memory and disk.

    ``begun`` is when its job was begun, where it has one.
    """
    require_free_name(order, site.store, begun)
    cases = read_cases(Path(order.eval)) if order.eval else ()
    base = None if order.base is None else Path(order.base)
    found = detect.inspect(Path(order.path), Options(base, order.allow_pickle))
    order = fitting(order, found)
    line_for(found).require(order.recipes)
    require_memory(found)
    require_room(found, order.recipes, site.settings.home)
    return Sight(order, found, cases)


class _Build:
    """Build run: the state of one build and its steps."""

    def __init__(self, order: BuildSpec, site: Site, journal: JobProgress) -> None:
        self._order = order
        self._site = site
        self._journal = journal
        self._cases: tuple[Case, ...] = ()
        self._trials: list[Trial] = []

    async def run(self, sight: Sight | None) -> Outcome:
        """Do every step."""
        found = await self._look(sight)
        source = await self._hash(found)
        line = line_for(found)
        prepared = await self._normalize(found, fingerprint(source))
        exported = await self._export(line, found, prepared)
        asked = await self._ask(line, found, prepared)
        chosen = await self._choose(line, found, prepared, exported, asked)
        float32 = await self._measure(found, exported, chosen)
        candidates = tuple(one.candidate() for one in self._trials)
        report = Report(chosen[0].variant, candidates, explain(self._order, self._trials, chosen), float32)
        installed = await self._install(found, source, exported, chosen, report)
        self._journal.done(tuple(str(one.ref) for one in installed.artifacts))
        return Outcome(self._journal.job, installed.artifacts, report, (*found.notes, *installed.notes))

    async def _look(self, sight: Sight | None) -> SourceModel:
        with self._journal.step("look", self._order.path) as now:
            begun = self._journal.job.created
            seen = await asyncio.to_thread(look, self._order, self._site, begun) if sight is None else sight
            self._order, found, self._cases = seen.order, seen.found, seen.cases
            self._journal.know(found.parameters)
            now.detail = f"{found.kind}: {found.architecture}, {found.parameters / 1e6:.1f} M parameters"
        return found

    async def _hash(self, found: SourceModel) -> Source:
        with self._journal.step("hash", f"sha256 of {len(found.files)} files", then=_AFTER["hash"]) as now:
            source = await asyncio.to_thread(record_source, found, self._order.path)
            require_same_source(self._order, source, self._site.store)
            now.detail = f"{len(source.files)} files, {sum(one.size_bytes for one in source.files) / 1e6:.1f} MB"
        return source

    async def _normalize(self, found: SourceModel, source: str) -> Result:
        what = "links to its files" if found.kind is Kind.FOLDER else f"{found.kind} to a folder of floats"
        with self._journal.step("normalize", what, then=_AFTER["normalize"]) as now:
            key = step_keys.merge(found, source, allow_pickle=self._order.allow_pickle)
            return await self._run(now, "merge", key, lambda out, step: normalize.prepare(found, out, step))

    async def _export(self, line: Line, found: SourceModel, prepared: Result) -> Result:
        with self._journal.step("export", f"float32 graph: {found.exporter}", then=_AFTER["export"]) as now:
            key = step_keys.export(found, prepared.key)
            return await self._run(now, "export", key, lambda out, step: line.export(found, prepared.folder, out, step))

    async def _ask(self, line: Line, found: SourceModel, prepared: Result) -> Result:
        with self._journal.step("reference", "the source's own answers, in float32", then=_AFTER["reference"]) as now:
            enquiry = await asyncio.to_thread(line.enquire, found, self._cases)
            key = step_keys.ask(found, prepared.key, enquiry)
            asked = await self._run(now, "source", key, lambda out, step: line.ask(enquiry, prepared.folder, out, step))
            await asyncio.to_thread(line.judge, prepared.folder, asked.folder, self._cases)
        return asked

    async def _choose(
        self, line: Line, source: SourceModel, prepared: Result, exported: Result, asked: Result
    ) -> list[Trial]:
        async def attempt(recipe: Recipe) -> Trial:
            return await self._try(recipe, line, source, prepared, exported, asked)

        return await walk(self._order, attempt, self._trials)

    async def _try(
        self, recipe: Recipe, line: Line, source: SourceModel, prepared: Result, exported: Result, asked: Result
    ) -> Trial:
        built = await self._derive(recipe, line, source, prepared, exported)
        if not variants.is_run_here(recipe):
            return Trial(recipe, built, Quality())
        with self._journal.step("check", recipe.variant, then=_AFTER["check"]) as now:
            found, fingerprint = await self._assess(now, recipe, line, source, built, asked)
            checks = line.check(found, recipe)
            now.detail = f"{recipe.variant}: {summary(found)}"
        return Trial(recipe, built, found, judge(found, self._order.gate), checks, fingerprint=fingerprint)

    async def _derive(
        self, recipe: Recipe, line: Line, source: SourceModel, prepared: Result, exported: Result
    ) -> Result:
        with self._journal.step("quantize", recipe.variant, then=_AFTER["quantize"]) as now:
            key = step_keys.quantize(source, exported.key, recipe, is_finished=line.is_finished)

            async def make(out: Path, step: StepContext) -> None:
                await line.derive(exported.folder, prepared.folder, out, recipe, step)

            return await self._run(now, "quantize", key, make)

    async def _assess(
        self, now: RunningStep, recipe: Recipe, line: Line, source: SourceModel, built: Result, asked: Result
    ) -> tuple[Quality, Path | None]:
        async def make(out: Path, step: StepContext) -> None:
            found = await line.assess(built.folder, recipe, asked.folder, self._cases, out, step)
            (out / _QUALITY).write_bytes(msgspec.json.encode(found))

        key = step_keys.check(source, built.key, asked.key, has_source=line.has_source)
        done = await self._run(now, "check", key, make)
        fingerprint = done.folder / FINGERPRINT
        found = msgspec.json.decode((done.folder / _QUALITY).read_bytes(), type=Quality)
        return found, fingerprint if fingerprint.is_file() else None

    async def _measure(self, found: SourceModel, exported: Result, chosen: list[Trial]) -> Measured | None:
        """Measure what was chosen, and return what the float32 graph costs, where it is not among that."""
        if found.task is not Task.GENERATE:
            return None
        for trial in chosen:
            if trial.built is not None and variants.is_run_here(trial.recipe):
                measured = await self._measure_one(found, trial.built, trial.variant)
                trial.measured = () if measured is None else (measured,)
        floats = next((one for one in chosen if one.recipe == Recipe(Precision.FP32)), None)
        if floats is not None or found.exporter is Exporter.NONE:
            return floats.measured[0] if floats is not None and floats.measured else None
        return await self._measure_one(found, exported, "float32 graph")

    async def _measure_one(self, found: SourceModel, built: Result, what: str) -> Measured | None:
        settings, name = self._site.settings, f"{self._order.name}:{what}"

        async def make(out: Path, _step: StepContext) -> None:
            measured = await measure(built.folder, name, found.context_length, settings)
            (out / _MEASURED).write_bytes(msgspec.json.encode(measured))

        with self._journal.step("measure", what, then=_AFTER["measure"]) as now:
            done = await self._run(now, "measure", step_keys.measure(found, built.key, name, settings), make)
            measured = msgspec.json.decode((done.folder / _MEASURED).read_bytes(), type=Measured | None)
            if measured is not None:
                now.detail = f"{what}: {measured.decode_tokens_per_s:.0f} tokens/s a stream"
                if measured.pressure is not None and measured.is_disturbed:
                    now.detail += f", disturbed: others took {measured.pressure.taken:.0%} of the processor"
                    self._site.steps.forget(done)  # the next build measures again
        return measured

    async def _install(
        self, found: SourceModel, source: Source, exported: Result, chosen: list[Trial], report: Report
    ) -> Installed:
        with self._journal.step("install", ", ".join(one.variant for one in chosen)):
            staged = await asyncio.to_thread(
                stage, self._order, found, source, exported, chosen, report, self._site.store
            )
            return staged.commit()

    async def _run(self, now: RunningStep, name: str, key: Key, make: Make) -> Result:
        inputs, makers = key
        result = await self._site.steps.run(name, inputs, now.log, make, makers)
        now.is_kept = result.is_kept
        return result


_NAMES = ("hash", "normalize", "export", "reference", "quantize", "check", "measure")
_AFTER = {name: _NAMES[_NAMES.index(name) + 1 :] for name in _NAMES}
