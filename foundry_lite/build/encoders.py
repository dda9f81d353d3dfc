"""Encoders: placeholder until its helper writes it."""

from __future__ import annotations

from pathlib import Path

from foundry_lite.build.sources.found import Found
from foundry_lite.build.workbench import Workbench
from foundry_lite.catalog.recipe import Recipe
from foundry_lite.catalog.report import Quality
from foundry_lite.store.manifest import Check


async def export(found: Found, prepared: Path, target: Path, bench: Workbench) -> None:
    raise NotImplementedError


async def derive(exported: Path, target: Path, recipe: Recipe, bench: Workbench) -> None:
    raise NotImplementedError


async def check(prepared: Path, built: Path, recipe: Recipe, bench: Workbench) -> Quality:
    raise NotImplementedError


def check_similarity(quality: Quality, recipe: Recipe) -> tuple[Check, ...]:
    raise NotImplementedError
