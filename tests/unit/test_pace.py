"""When prompts may be computed while streams run: what that does to the gaps between tokens."""

from __future__ import annotations

import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundry_lite.engine.scheduling.prefill_policy import PrefillPolicy


def gaps_of(step: float, chunk: float, steps: int = 400) -> list[float]:
    """The gaps of an established stream beside which there is always another prompt to compute; seconds."""
    pace, gaps = PrefillPolicy(), []
    for _ in range(steps):
        gap = step
        while pace.allows_chunk(all_new=False):
            pace.note_chunk(chunk)
            gap += chunk
        pace.note_step(step)
        gaps.append(gap)
    return gaps


SPEEDS = [(0.0003, 0.005), (0.012, 0.18), (0.04, 0.18), (0.2, 3.0), (0.04, 0.001)]


@pytest.mark.parametrize(("step", "chunk"), SPEEDS)
def test_the_95th_percentile_of_the_gaps_stays_below_three_medians(step: float, chunk: float) -> None:
    gaps = gaps_of(step, chunk)
    assert statistics.quantiles(gaps, n=20)[-1] <= 3 * statistics.median(gaps)


@pytest.mark.parametrize(("step", "chunk"), SPEEDS)
def test_prompts_get_between_a_third_and_three_quarters_of_the_time(step: float, chunk: float) -> None:
    gaps = gaps_of(step, chunk)
    share = 1 - step * len(gaps) / sum(gaps)
    assert 0.3 < share < 0.85


@given(st.floats(0.0001, 0.5), st.floats(0.0001, 1.0))
def test_no_stall_is_longer_than_a_second_and_a_chunk_unless_steps_are_slow(step: float, chunk: float) -> None:
    assert max(gaps_of(step, chunk, 60)[1:]) <= max(1.0, 12 * step) + chunk + 2 * step


def test_streams_that_begin_together_are_not_kept_apart() -> None:
    pace = PrefillPolicy()
    for _ in range(15):
        assert pace.allows_chunk(all_new=True)
        pace.note_chunk(0.18)
    pace.note_step(0.04)
    assert not pace.allows_chunk(all_new=False)


def test_a_prompt_that_arrives_long_after_the_last_is_computed_at_once() -> None:
    pace = PrefillPolicy()
    for _ in range(30):
        pace.note_step(0.01)
    assert pace.allows_chunk(all_new=False)


def test_where_nobody_runs_nobody_waits() -> None:
    pace = PrefillPolicy()
    pace.note_step(0.01)
    pace.note_chunk(9.0)
    pace.rest()
    assert pace.allows_chunk(all_new=False)
