"""The two production lines, decoders and encoders: how their graphs are made, and how their loss is measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from foundry_lite.catalog.card import Task
from foundry_lite.catalog.recipe import Recipe
from foundry_lite.catalog.report import Quality
from foundry_lite.conversion import variants
from foundry_lite.conversion.evaluate import quality
from foundry_lite.conversion.evaluate.cases import Case
from foundry_lite.conversion.evaluate.reference import Enquiry
from foundry_lite.conversion.export import decoder, encoder
from foundry_lite.conversion.jobs.step_context import StepContext, link_tree
from foundry_lite.conversion.sources.source_model import Exporter, Kind, SourceModel
from foundry_lite.errors import BuildFailed
from foundry_lite.store.manifest import Check

_HALF = 16  # bits; a graph with fewer is quantized already


class Line(Protocol):
    """Interface of a model task to the build pipeline, step by step. Folders named ``target`` exist and are empty."""

    has_source: bool
    is_finished: bool

    def require(self, recipes: Sequence[Recipe]) -> None:
        """Raise `BuildFailed` for a recipe that this line cannot build."""

    async def export(self, found: SourceModel, prepared: Path, target: Path, step: StepContext) -> None: ...

    def enquire(self, found: SourceModel, cases: tuple[Case, ...]) -> Any:
        """Return the input of the reference run, a JSON value; ``None`` where there is no source."""

    async def ask(self, enquiry: Any, prepared: Path, target: Path, step: StepContext) -> None:
        """Record the reference: the source's own results."""

    def judge(self, prepared: Path, asked: Path, cases: tuple[Case, ...]) -> None:
        """Raise `CheckFailed` when the reference is of no use."""

    async def derive(self, exported: Path, prepared: Path, target: Path, recipe: Recipe, step: StepContext) -> None: ...

    async def assess(
        self, built: Path, recipe: Recipe, asked: Path, cases: tuple[Case, ...], target: Path, step: StepContext
    ) -> Quality:
        """Measure what a variant loses, and write its fingerprint into ``target``."""

    def check(self, found: Quality, recipe: Recipe) -> tuple[Check, ...]:
        """Return what is recorded of a sound variant. Raises `CheckFailed`."""


class DecoderTask:
    """Models that generate text. ``has_source`` is false for ready graphs, which nothing can be compared with."""

    def __init__(self, *, has_source: bool, is_finished: bool) -> None:
        self.has_source = has_source
        self.is_finished = is_finished  # a ready folder is taken as it stands

    def require(self, recipes: Sequence[Recipe]) -> None:
        _refuse(recipes, variants.why_not_built)

    async def export(self, found: SourceModel, prepared: Path, target: Path, step: StepContext) -> None:
        await decoder.export(found, prepared, target, step)

    def enquire(self, found: SourceModel, cases: tuple[Case, ...]) -> Enquiry | None:
        return quality.enquire(found, cases) if self.has_source else None

    async def ask(self, enquiry: Enquiry | None, prepared: Path, target: Path, step: StepContext) -> None:
        if enquiry is not None:
            await quality.ask_source(enquiry, prepared, target, step)

    def judge(self, prepared: Path, asked: Path, cases: tuple[Case, ...]) -> None:
        if self.has_source:
            quality.judge_source(prepared, asked, cases)

    async def derive(self, exported: Path, prepared: Path, target: Path, recipe: Recipe, step: StepContext) -> None:
        if self.is_finished:
            link_tree(exported, target)
        else:
            await variants.derive(exported, prepared, target, recipe, step)

    async def assess(
        self, built: Path, recipe: Recipe, asked: Path, cases: tuple[Case, ...], target: Path, step: StepContext
    ) -> Quality:
        return await quality.assess(built, recipe, asked if self.has_source else None, cases, target, step)

    def check(self, found: Quality, recipe: Recipe) -> tuple[Check, ...]:
        return quality.check_fidelity(found, recipe)


class EncoderTask:
    """Models that convert text to vectors or scores."""

    has_source = True
    is_finished = False

    def require(self, recipes: Sequence[Recipe]) -> None:
        _refuse(recipes, encoder.contradiction)

    async def export(self, found: SourceModel, prepared: Path, target: Path, step: StepContext) -> None:
        await encoder.export(found, prepared, target, step)

    def enquire(self, found: SourceModel, _cases: tuple[Case, ...]) -> dict[str, Any]:
        return encoder.enquire(found)

    async def ask(self, enquiry: dict[str, Any], prepared: Path, target: Path, step: StepContext) -> None:
        await encoder.ask(enquiry, prepared, target, step)

    def judge(self, prepared: Path, asked: Path, cases: tuple[Case, ...]) -> None:
        """Nothing to judge: encoders answer no cases."""

    async def derive(self, exported: Path, _prepared: Path, target: Path, recipe: Recipe, step: StepContext) -> None:
        await encoder.derive(exported, target, recipe, step)

    async def assess(
        self, built: Path, _recipe: Recipe, asked: Path, _cases: tuple[Case, ...], target: Path, step: StepContext
    ) -> Quality:
        return await encoder.check(built, asked, target, step)

    def check(self, found: Quality, recipe: Recipe) -> tuple[Check, ...]:
        return encoder.check_similarity(found, recipe)


def _refuse(recipes: Sequence[Recipe], why_not: Callable[[Recipe], str]) -> None:
    for recipe in recipes:
        if problem := why_not(recipe):
            raise BuildFailed(f"{recipe.variant} cannot be built: {problem}", hint="Take another --variant.")


def line_for(found: SourceModel) -> Line:
    """Return the line that a source belongs to."""
    if found.task is not Task.GENERATE:
        return EncoderTask()
    is_graph = found.exporter is Exporter.NONE
    is_finished = found.kind is Kind.GENAI or (is_graph and found.weight_bits < _HALF)
    return DecoderTask(has_source=not is_graph, is_finished=is_finished)
