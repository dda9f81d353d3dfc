"""Which candidates are built, and which are taken."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from foundry_lite.catalog.recipe import Precision, Recipe, recipe_for
from foundry_lite.catalog.report import Quality, TaskScore, TextLoss, Verdict
from foundry_lite.conversion.build_spec import BuildSpec, Walk
from foundry_lite.conversion.candidate import Trial, summary
from foundry_lite.conversion.jobs.step_cache import Result
from foundry_lite.conversion.select import explain, walk
from foundry_lite.errors import BuildFailed, CheckFailed, GateFailed, StorageFull

SMALL, MIDDLE, LARGE = recipe_for(Precision.INT4, 128), recipe_for(Precision.INT4), recipe_for(Precision.INT8)
GOOD, BAD = Verdict(), Verdict(("it loses too much",))


def trial(recipe: Recipe, kl: float, verdict: Verdict = GOOD) -> Trial:
    quality = Quality(neutral=TextLoss(100, 10.0, 9.9, kl, kl * 8, 0.9))
    return Trial(recipe, Result(Path("x"), "key", 1.0, is_kept=False), quality, verdict)


def run(how: Walk, *outcomes: Trial | BuildFailed) -> tuple[list[Trial], list[Trial]]:
    """Walk over the three recipes, whose attempts end so; return what is taken and all that was tried."""
    recipes = (SMALL, MIDDLE, LARGE)[: len(outcomes)]
    by_recipe = dict(zip(recipes, outcomes, strict=True))
    trials: list[Trial] = []

    async def attempt(recipe: Recipe) -> Trial:
        outcome = by_recipe[recipe]
        if isinstance(outcome, BuildFailed):
            raise outcome
        return outcome

    return asyncio.run(walk(BuildSpec("n", "p", recipes, how), attempt, trials)), trials


def test_the_first_that_passes_is_taken_and_nothing_after_it_is_built() -> None:
    chosen, trials = run(Walk.FIRST, trial(SMALL, 0.5, BAD), trial(MIDDLE, 0.05), trial(LARGE, 0.01))
    assert [one.recipe for one in chosen] == [MIDDLE]
    assert [one.recipe for one in trials] == [SMALL, MIDDLE]
    order = BuildSpec("n", "p", (), Walk.FIRST)
    assert explain(order, trials, chosen) == (
        "cpu-int4 is the smallest and fastest that passes the gate. cpu-int4-b128 was refused: it loses too much."
    )


def test_a_candidate_that_is_broken_is_a_refused_one_while_others_may_do() -> None:
    chosen, trials = run(Walk.FIRST, CheckFailed("it is broken"), trial(MIDDLE, 0.05))
    assert [one.recipe for one in chosen] == [MIDDLE]
    assert (trials[0].built, trials[0].verdict.misses) == (None, ("it is broken",))
    assert trials[0].candidate().size_bytes == 0


def test_when_none_passes_the_error_tells_of_each() -> None:
    with pytest.raises(GateFailed) as caught:
        run(Walk.FIRST, trial(SMALL, 0.5, BAD), CheckFailed("it is broken"))
    assert "cpu-int4-b128 was refused: it loses too much" in caught.value.message
    assert "cpu-int4 was refused: it is broken" in caught.value.message
    assert caught.value.hint


def test_the_fastest_is_taken_when_it_loses_little_more_than_the_last() -> None:
    chosen, trials = run(Walk.FASTEST, trial(SMALL, 0.014), trial(MIDDLE, 0.010))
    assert [one.recipe for one in chosen] == [SMALL]
    assert len(trials) == 2
    chosen, trials = run(Walk.FASTEST, trial(SMALL, 0.10), trial(MIDDLE, 0.010))
    assert [one.recipe for one in chosen] == [MIDDLE]
    assert "loses too much more" in explain(BuildSpec("n", "p", (), Walk.FASTEST), trials, chosen)


def test_the_last_must_succeed_and_the_faster_ones_need_not() -> None:
    chosen, _ = run(Walk.FASTEST, CheckFailed("broken"), trial(MIDDLE, 0.01))
    assert [one.recipe for one in chosen] == [MIDDLE]
    with pytest.raises(CheckFailed, match="broken"):
        run(Walk.FASTEST, trial(SMALL, 0.01), CheckFailed("broken"))


def test_all_that_was_ordered_is_taken_whatever_the_gate_says_and_a_failure_is_one() -> None:
    chosen, _ = run(Walk.ALL, trial(SMALL, 0.5, BAD), trial(MIDDLE, 0.1))
    assert [one.recipe for one in chosen] == [SMALL, MIDDLE]
    with pytest.raises(CheckFailed):
        run(Walk.ALL, CheckFailed("broken"), trial(MIDDLE, 0.1))


@pytest.mark.parametrize("how", list(Walk))
def test_a_full_disk_ends_every_walk(how: Walk) -> None:
    with pytest.raises(StorageFull):
        run(how, StorageFull("full"), trial(MIDDLE, 0.1))


def test_a_summary_has_the_figures_that_there_are() -> None:
    loss = TextLoss(100, 12.5)
    assert summary(Quality(neutral=loss)) == "neutral: perplexity 12.50 of 100"
    assert summary(Quality(similarity=0.99)) == "similarity 0.9900"
    both = Quality(neutral=TextLoss(9, 1.0, 1.0, 0.5, 1.0, 0.75), own=loss, task=TaskScore(3, 4, 5))
    assert summary(both) == (
        "neutral: top-1 75.0%, KL 0.5000 of 9; own: perplexity 12.50 of 100; task: 3 of 5, the source 4"
    )
