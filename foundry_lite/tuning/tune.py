"""`tune`: build what is missing, measure what there is, choose, and write the choice down. The table of contents."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec

from foundry_lite import machine
from foundry_lite.catalog.card import Task
from foundry_lite.catalog.recipe import Provider, Recipe, parse_variant
from foundry_lite.conversion.build_spec import AUTO
from foundry_lite.conversion.jobs.progress import Tell
from foundry_lite.conversion.ordering import order_for
from foundry_lite.conversion.pipeline import build, open_site
from foundry_lite.engine.runners import providers
from foundry_lite.errors import BuildFailed, FoundryError, InvalidRequest, NameTaken, StorageFull, ToolchainMissing
from foundry_lite.settings import Settings
from foundry_lite.store.choices import Choice, Constraints, Trial, new_choice
from foundry_lite.store.store import Artifact, Store
from foundry_lite.tuning.candidates import candidates, installed, thread_counts
from foundry_lite.tuning.choosing import Decision, decide
from foundry_lite.tuning.measuring import measure

# What is built when nothing is named: the walk of `build --auto`, and its first with a companion for prompts.
WANTED = (*AUTO, msgspec.structs.replace(AUTO[0], fast_prefill=True))


@dataclass(frozen=True, slots=True)
class Demand:
    """Tuning request. Empty ``variants``, ``threads`` or ``providers`` mean all that make sense here."""

    name: str
    constraints: Constraints
    variants: tuple[str, ...] = ()
    threads: tuple[int, ...] = ()
    providers: tuple[Provider, ...] = ()
    builds: bool = True
    command: str = ""


@dataclass(frozen=True, slots=True)
class Tuned:
    """The decision, and what was written down: nothing when no candidate meets every demand."""

    decision: Decision
    choice: Choice | None


async def tune(demand: Demand, settings: Settings, tell: Callable[[str], None], tell_step: Tell) -> Tuned:
    """Choose a variant, its threads and its provider by measurement.

    The choice is written last, whole or not at all. Raises `ModelNotFound`, `InvalidRequest` where there is nothing to
    measure, or `StorageFull`.
    """
    store = Store(settings.home)
    _require_decoder(installed(store, demand.name))
    with store.changing():
        pass  # what could not be written down in the end is not measured for
    unbuilt = await _build_missing(demand, settings, tell, tell_step) if demand.builds else []
    artifacts = installed(store, demand.name, demand.variants)
    if not artifacts:
        raise InvalidRequest(
            f"none of the variants {', '.join(demand.variants)} of '{demand.name}' is installed", "variants"
        )
    usable = await _usable(demand, tell)
    threads = demand.threads or thread_counts(settings.threads or machine.usable_cores())
    asked = candidates(artifacts, usable, threads)
    if demand.providers:
        asked = tuple(one for one in asked if one.trial.provider in demand.providers)
    trials = await measure(asked, demand.constraints, settings, tell)
    decision = decide([*trials, *unbuilt], demand.constraints)
    return Tuned(decision, _write(store, demand, decision, artifacts))


def _require_decoder(artifacts: Sequence[Artifact]) -> None:
    task = artifacts[0].card().task
    if task is not Task.GENERATE:
        raise InvalidRequest(f"tune measures models that generate text; this one is for: {task}", "model")


async def _usable(demand: Demand, tell: Callable[[str], None]) -> tuple[Provider, ...]:
    if demand.providers:
        return demand.providers
    if not providers.plugins():
        return (Provider.CPU,)  # what is built in runs what was built for it, and is tried with that
    tell("looking for execution providers")
    return providers.usable(await asyncio.to_thread(providers.scan))


async def _build_missing(
    demand: Demand, settings: Settings, tell: Callable[[str], None], tell_step: Tell
) -> list[Trial]:
    """Build the wanted variants that are not installed; return a line of the table for each that cannot be."""
    store, failed = Store(settings.home), []
    there = {one.manifest.variant for one in installed(store, demand.name)}
    wanted = [parse_variant(one) for one in demand.variants] or list(WANTED)
    missing = [one for one in wanted if one.variant not in there]
    if not missing:
        return []
    try:
        order = order_for(demand.name, None, None, store)
    except FoundryError as error:
        tell(f"nothing is built, only what is installed is measured: {error.message}")
        return []
    for recipe in missing:
        try:
            wants = msgspec.structs.replace(order, recipes=(recipe,), adds=True)
            await build(wants, open_site(settings), tell_step)
        except StorageFull:
            raise
        except (ToolchainMissing, NameTaken) as error:  # NameTaken: its source is another one by now
            tell(f"nothing is built, only what is installed is measured: {error.message}")
            break
        except BuildFailed as error:
            tell(f"{recipe.variant} is left out, it cannot be built: {error.message}")
            failed.append(_unbuilt(recipe, error))
    return failed


def _unbuilt(recipe: Recipe, error: BuildFailed) -> Trial:
    return Trial(recipe.variant, recipe.provider, 0, 0, failed=f"it cannot be built: {error.message}")


def _write(store: Store, demand: Demand, decision: Decision, artifacts: Sequence[Artifact]) -> Choice | None:
    taken = decision.taken
    if taken is None:
        return None
    weights = next(one.manifest.weights_digest for one in artifacts if one.manifest.variant == taken.variant)
    choice = new_choice(
        taken, decision.table, demand.constraints, weights=weights, reason=decision.reason, command=demand.command
    )
    store.choose(demand.name, choice)
    return choice
