"""Which candidate an import takes, on tiny models that stand for candidates."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from foundry_lite.build import pipeline
from foundry_lite.build.pipeline import Order, StepReport, Trial
from foundry_lite.build.quality import Reference
from foundry_lite.catalog.recipe import Precision, Recipe, recipe_for
from foundry_lite.errors import CheckFailed
from tests import tiny_model

FAST, SURE = recipe_for(Precision.INT4, 128), recipe_for(Precision.INT4, 32)
LETTERS = "abcdefghij"
TOKENS = [ord(one) - ord("!") for one in LETTERS]


def references(*, sure: float) -> tuple[Reference, ...]:
    """What a source says that follows the alphabet with the probability ``sure``."""
    following = np.array(TOKENS[1:] + [TOKENS[-1] + 1])
    return (Reference(LETTERS, TOKENS, following[:, None], np.full((10, 1), np.log(sure), np.float32)),)


def choose(tmp_path: Path, answers: dict[Recipe, str], **given: Any) -> tuple[Trial, list[StepReport]]:
    """Let candidates compete; the greedy text of each is its ``answer``."""
    trials = [Trial(tiny_model.install(tmp_path / one.variant, "m", text), one) for one, text in answers.items()]
    told: list[StepReport] = []
    step = pipeline.begin_steps(told.append)
    return asyncio.run(pipeline.choose(trials, references(**given), step)), told


def test_the_fastest_is_taken_when_it_loses_no_more(tmp_path: Path) -> None:
    chosen, told = choose(tmp_path, {FAST: tiny_model.ALPHABET, SURE: tiny_model.ALPHABET}, sure=0.99)
    assert chosen.recipe is FAST
    assert [one.name for one in chosen.checks] == ["top1_agreement", "kl_mean"]
    assert chosen.others.keys() == {"cpu-int4"}
    done = [one.detail for one in told if one.seconds is not None]
    assert [one.partition(":")[0] for one in done] == ["cpu-int4-b128", "cpu-int4"]


def test_the_slower_one_is_taken_when_the_fastest_loses_more(tmp_path: Path) -> None:
    chosen, _ = choose(tmp_path, {FAST: "abcdefg", SURE: tiny_model.ALPHABET}, sure=0.99)
    assert chosen.recipe is SURE
    assert chosen.others["cpu-int4-b128"].top1 < chosen.checks[0].value == 1.0


def test_when_none_is_the_source_nothing_is_taken(tmp_path: Path) -> None:
    with pytest.raises(CheckFailed, match="0.0%"):
        choose(tmp_path, {FAST: "xyz", SURE: "xyz"}, sure=0.99)


@pytest.mark.parametrize(
    ("order", "words"),
    [
        (Order(Path("x"), "n", SURE, (FAST,)), "--name n --precision int4"),
        (Order(Path("x"), "n", SURE, reproducible=True), "--name n --precision int4 --block-size 32 --reproducible"),
        (Order(Path("x"), "n", Recipe(Precision.FP32, fast_prefill=True)), "--name n --precision fp32 --fast-prefill"),
        (Order(Path("x"), "n", Recipe(Precision.INT8, 64, adapters=True)), "--block-size 64 --adapters"),
    ],
)
def test_a_card_tells_the_command_that_does_the_same_again(order: Order, words: str) -> None:
    assert pipeline.command_of("x", order).startswith("foundry-lite import x --name n --precision ")
    assert pipeline.command_of("x", order).endswith(words)
