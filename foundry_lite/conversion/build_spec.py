"""Build specification: one value, written into the job's record, from which the same build can be run again."""

from __future__ import annotations

import shlex
from enum import StrEnum

import msgspec
from msgspec import Struct

from foundry_lite.catalog.card import Task
from foundry_lite.catalog.recipe import FAST_BLOCK_SIZE, Algorithm, Precision, Recipe, recipe_for
from foundry_lite.conversion.evaluate.gate import Gate
from foundry_lite.conversion.sources.source_model import SourceModel


class Walk(StrEnum):
    """Selection of the recipes of a build that are installed."""

    ALL = "all"  # each of them
    FIRST = "first"  # the first that passes the gate; those after it are not built
    FASTEST = "fastest"  # the first that loses little more than the last one


class BuildSpec(Struct, frozen=True, omit_defaults=True):
    """Build specification. ``path`` is the source, ``base`` the model that an adapter is to be merged into.

    Empty ``recipes`` mean those that suit the source. ``eval`` is a file of the user's own cases (`cases`).
    ``replaces`` an installed model of that name; ``adds`` to it, or replaces one variant of it.
    """

    name: str
    path: str
    recipes: tuple[Recipe, ...] = ()
    walk: Walk = Walk.ALL
    base: str | None = None
    eval: str | None = None
    gate: Gate = Gate()
    reproducible: bool = False
    replaces: bool = False
    adds: bool = False
    allow_pickle: bool = False


# From the smallest and fastest upwards, each with clearly less loss than the one before (docs/decisions/0017). GPTQ
# would stand behind the first, but takes many times as long as the others: it is built on request only.
AUTO = (
    Recipe(Precision.INT4, 128),
    Recipe(Precision.INT4, 128, mixed=True),
    Recipe(Precision.INT4, 32, symmetric=False, algorithm=Algorithm.K_QUANT, mixed=True),
    Recipe(Precision.INT8, 128),
    Recipe(Precision.FP16),
)


# Encoders are small, and lose more by few bits; in 8 bits their arithmetic is faster, too.
_ENCODERS = (Recipe(Precision.INT8, 32, fast_prefill=True), Recipe(Precision.INT8, 32), Recipe(Precision.FP16))


def fitting(order: BuildSpec, found: SourceModel) -> BuildSpec:
    """Return the order with the recipes that suit its source, if it names none.

    A source that comes quantized keeps its own integers, whatever ``walk`` is.
    """
    if order.recipes:
        return order
    if found.recipe is not None:
        return msgspec.structs.replace(order, recipes=(found.recipe,), walk=Walk.ALL)
    is_encoder = found.task is not Task.GENERATE
    if order.walk is Walk.FIRST:
        return msgspec.structs.replace(order, recipes=_ENCODERS if is_encoder else AUTO)
    if is_encoder:
        return msgspec.structs.replace(order, recipes=_ENCODERS[:1], walk=Walk.ALL)
    recipes = (recipe_for(Precision.INT4, FAST_BLOCK_SIZE), recipe_for(Precision.INT4))
    return msgspec.structs.replace(order, recipes=recipes, walk=Walk.FASTEST)


def command_of(order: BuildSpec, recipe: Recipe) -> str:
    """Return the command that builds the same variant again."""
    words = ["foundry-lite", "build", order.path, "--name", order.name, "--variant", recipe.variant]
    words += ["--base", order.base] if order.base else []
    words += ["--eval", order.eval] if order.eval else []
    words += ["--allow-pickle"] * order.allow_pickle + ["--reproducible"] * order.reproducible
    return shlex.join(words)
