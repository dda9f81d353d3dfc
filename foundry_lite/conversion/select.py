"""Selection of recipes: builds a specification's candidates and chooses those to install."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from foundry_lite.catalog.recipe import Recipe
from foundry_lite.catalog.report import Quality, Verdict
from foundry_lite.conversion.build_spec import BuildSpec, Walk
from foundry_lite.conversion.candidate import Trial
from foundry_lite.conversion.evaluate import quality
from foundry_lite.errors import BuildFailed, GateFailed, StorageFull

Attempt = Callable[[Recipe], Awaitable[Trial]]


async def walk(order: BuildSpec, attempt: Attempt, trials: list[Trial]) -> list[Trial]:
    """Build recipes with ``attempt`` as ``order`` has it, add each to ``trials``; return those to install, best first.

    A candidate that cannot be built, or is broken, is a refused one as long as others may do. Raises `GateFailed`, or
    what the last candidate failed with.
    """
    for recipe in order.recipes:
        trial = await _attempt(order, attempt, recipe)
        trials.append(trial)
        if order.walk is Walk.FIRST and trial.verdict.passes:
            return [trial]
    if order.walk is Walk.FIRST:
        raise GateFailed(explain(order, trials, ()), hint="Loosen the gate, or name a --variant to build.")
    if order.walk is Walk.ALL:
        return trials
    last = trials[-1]
    built = (one for one in trials if one.built is not None)
    return [next((one for one in built if quality.is_tolerable(one.quality, last.quality)), last)]


async def _attempt(order: BuildSpec, attempt: Attempt, recipe: Recipe) -> Trial:
    try:
        return await attempt(recipe)
    except BuildFailed as error:
        is_needed = order.walk is Walk.ALL or (order.walk is Walk.FASTEST and recipe == order.recipes[-1])
        if is_needed or isinstance(error, StorageFull):
            raise
        return Trial(recipe, None, Quality(), Verdict((error.message,)))


def explain(order: BuildSpec, trials: Sequence[Trial], chosen: Sequence[Trial]) -> str:
    """Return the reason for the choice in one or two sentences or, when nothing was chosen, why not."""
    refused = [f"{one.variant} was refused: {'; '.join(one.verdict.misses)}" for one in trials if one not in chosen]
    if not chosen:
        return f"none of {len(trials)} candidates passes the gate. {'. '.join(refused)}"
    names = ", ".join(one.variant for one in chosen)
    if order.walk is Walk.FIRST:
        return ". ".join([f"{names} is the smallest and fastest that passes the gate", *refused]) + "."
    if order.walk is Walk.FASTEST and len(trials) > 1:
        if chosen[0] is trials[-1]:
            return f"{names}: the faster {trials[0].variant} loses too much more (docs/decisions/0009)."
        return f"{names} is faster than {trials[-1].variant} and loses little more."
    return f"{names}: as ordered."
