"""Recipes: the defaults of each precision, and how a variant is called."""

from __future__ import annotations

import itertools

import pytest

from foundry_lite.catalog.recipe import (
    BLOCK_SIZES,
    Algorithm,
    KvPrecision,
    Precision,
    Provider,
    Recipe,
    contradiction,
    parse_variant,
    recipe_for,
)
from foundry_lite.catalog.reference import ModelRef, parse_reference
from foundry_lite.conversion.build_spec import AUTO
from foundry_lite.errors import BadReference


@pytest.mark.parametrize(
    ("recipe", "variant"),
    [
        (recipe_for(Precision.INT4), "cpu-int4"),
        (recipe_for(Precision.INT4, 32), "cpu-int4"),
        (recipe_for(Precision.INT4, 128), "cpu-int4-b128"),
        (recipe_for(Precision.INT8, 64), "cpu-int8-b64"),
        (recipe_for(Precision.FP32), "cpu-fp32"),
        (recipe_for(Precision.BF16), "cpu-bf16"),
        (Recipe(Precision.INT4, 32, provider=Provider.CUDA), "cuda-int4"),
        (
            Recipe(Precision.INT4, 32, symmetric=False, algorithm=Algorithm.K_QUANT, mixed=True),
            "cpu-int4-asym-kq-mixed",
        ),
        (
            Recipe(Precision.INT8, 128, kv=KvPrecision.INT8, fast_prefill=True, adapters=True),
            "cpu-int8-b128-kv8-fp-lora",
        ),
    ],
)
def test_a_variant_is_named_for_all_that_is_unusual_of_its_recipe(recipe: Recipe, variant: str) -> None:
    assert recipe.variant == variant
    assert parse_variant(variant) == recipe
    assert parse_reference(f"m:{variant}") == ModelRef("m", variant)


def test_every_recipe_that_makes_sense_can_be_named_and_read_back() -> None:
    names = set()
    for precision, algorithm, kv, provider in itertools.product(Precision, Algorithm, KvPrecision, Provider):
        for block, flags in itertools.product((None, *BLOCK_SIZES), itertools.product((True, False), repeat=4)):
            symmetric, mixed, prefill, adapters = flags
            recipe = Recipe(precision, block, symmetric, algorithm, mixed, provider, kv, prefill, adapters)
            if (block is None) == precision.is_quantized or contradiction(recipe):
                continue
            assert parse_variant(recipe.variant) == recipe
            names.add(recipe.variant)
    assert len(names) > 1000


@pytest.mark.parametrize(
    "text",
    [
        "",
        "int4",
        "cpu",
        "cpu-int5",
        "gpu-int4",
        "cpu-int4-b32",
        "cpu-int4-b100",
        "cpu-int4-lora-fp",
        "cpu-int4-x",
        "CPU-int4",
        "cpu-int4-",
        "cpu-fp32-b64",
        "cpu-fp16-kq",
        "cpu-int8-mixed",
        "cuda-int4-lora",
        "cpu-fp32-asym",
    ],
)
def test_what_is_no_variant_is_refused_with_what_is_possible(text: str) -> None:
    with pytest.raises(BadReference) as caught:
        parse_variant(text)
    assert repr(text) in caught.value.message
    assert caught.value.hint


def test_quantized_recipes_are_symmetric_in_blocks_of_32() -> None:
    assert recipe_for(Precision.INT4) == Recipe(Precision.INT4, block_size=32, symmetric=True, provider=Provider.CPU)


def test_floats_have_no_blocks_whatever_is_asked() -> None:
    assert recipe_for(Precision.FP32, 64).block_size is None
    assert recipe_for(Precision.BF16, 64).block_size is None


def test_the_walk_goes_from_small_to_large() -> None:
    assert all(parse_variant(one.variant) == one for one in AUTO)
    assert [one.precision.bits for one in AUTO] == sorted(one.precision.bits for one in AUTO)
