"""Recipes: the defaults of each precision, and how a variant is called."""

from __future__ import annotations

import pytest

from foundry_lite.catalog.recipe import Precision, Recipe, recipe_for
from foundry_lite.catalog.reference import ModelRef, parse_reference


@pytest.mark.parametrize(
    ("recipe", "variant"),
    [
        (recipe_for(Precision.INT4), "cpu-int4"),
        (recipe_for(Precision.INT4, 32), "cpu-int4"),
        (recipe_for(Precision.INT4, 128), "cpu-int4-b128"),
        (recipe_for(Precision.INT8), "cpu-int8"),
        (recipe_for(Precision.INT8, 64), "cpu-int8-b64"),
        (recipe_for(Precision.FP32), "cpu-fp32"),
        (Recipe(Precision.INT4, 32, provider="cuda"), "cuda-int4"),
    ],
)
def test_a_variant_is_named_for_provider_precision_and_unusual_block(recipe: Recipe, variant: str) -> None:
    assert recipe.variant == variant
    assert parse_reference(f"m:{variant}") == ModelRef("m", variant)


def test_quantized_recipes_are_symmetric_in_blocks_of_32() -> None:
    assert recipe_for(Precision.INT4) == Recipe(Precision.INT4, block_size=32, symmetric=True, provider="cpu")


def test_fp32_has_no_blocks_whatever_is_asked() -> None:
    assert recipe_for(Precision.FP32, 64).block_size is None
