"""A candidate: one recipe as it was built, and what was found of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from foundry_lite.catalog.recipe import Recipe
from foundry_lite.catalog.report import Candidate, Measured, Quality, Verdict
from foundry_lite.conversion.jobs.step_cache import Result
from foundry_lite.store.manifest import Check


@dataclass(slots=True)
class Trial:
    """Candidate of a running build. ``built`` is ``None`` if it could not be built or is broken; `verdict` has why."""

    recipe: Recipe
    built: Result | None
    quality: Quality
    verdict: Verdict = Verdict()
    checks: tuple[Check, ...] = ()
    measured: tuple[Measured, ...] = ()
    fingerprint: Path | None = None  # a file, once it was run here

    @property
    def variant(self) -> str:
        return self.recipe.variant

    def candidate(self) -> Candidate:
        """Return its record for the build report."""
        size = 0 if self.built is None else size_of(self.built.folder)
        return Candidate(self.recipe, size, self.quality, self.verdict, self.measured)


def size_of(folder: Path) -> int:
    """Return the bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def summary(quality: Quality) -> str:
    """Return a quality's figures in one line."""
    words = []
    for name, loss in (("neutral", quality.neutral), ("own", quality.own)):
        if loss is not None and loss.top1 is not None and loss.kl_mean is not None:
            words.append(f"{name}: top-1 {loss.top1:.1%}, KL {loss.kl_mean:.4f} of {loss.positions}")
        elif loss is not None:
            words.append(f"{name}: perplexity {loss.perplexity:.2f} of {loss.positions}")
    if quality.task is not None:
        task = quality.task
        words.append(f"task: {task.passed} of {task.total}, the source {task.source_passed}")
    if quality.similarity is not None:
        words.append(f"similarity {quality.similarity:.4f}")
    return "; ".join(words)
