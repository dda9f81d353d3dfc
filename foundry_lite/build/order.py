"""What is to be built: one value, written into the job's record, from which the same build can be run again."""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct

from foundry_lite.build.gate import Gate
from foundry_lite.catalog.recipe import Algorithm, Precision, Recipe


class Walk(StrEnum):
    """Which of an order's recipes are installed."""

    ALL = "all"  # each of them
    FIRST = "first"  # the first that passes the gate; those after it are not built
    FASTEST = "fastest"  # the first that loses little more than the last one


class Order(Struct, frozen=True, omit_defaults=True):
    """One build. ``path`` is the source, ``base`` the model that an adapter is to be merged into.

    ``eval`` is a file of the user's own cases (`evaluation`). ``replaces`` an installed model of that name.
    """

    name: str
    path: str
    recipes: tuple[Recipe, ...]
    walk: Walk = Walk.ALL
    base: str | None = None
    eval: str | None = None
    gate: Gate = Gate()
    reproducible: bool = False
    replaces: bool = False
    allow_pickle: bool = False


# From the smallest and fastest upwards (docs/decisions/0013).
AUTO = (
    Recipe(Precision.INT4, 128),
    Recipe(Precision.INT4, 32),
    Recipe(Precision.INT4, 32, symmetric=False, algorithm=Algorithm.K_QUANT, mixed=True),
    Recipe(Precision.INT8, 128),
    Recipe(Precision.FP16),
)
