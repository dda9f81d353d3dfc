"""The arithmetic of a benchmark, and its prompts."""

from __future__ import annotations

import itertools
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundry_lite.bench.figures import percentile, token_gaps
from foundry_lite.bench.prompts import Prompts


def test_tokens_that_arrive_together_share_the_time_since_those_before_them() -> None:
    assert token_gaps([(1.0, 1), (1.5, 1), (2.5, 4), (2.75, 1)]) == (0.5, 0.25, 0.25, 0.25, 0.25, 0.25)


def test_the_tokens_of_the_first_arrival_are_no_gaps() -> None:
    assert token_gaps([(1.0, 3)]) == ()
    assert token_gaps([(1.0, 3), (2.0, 2)]) == (0.5, 0.5)


@given(st.lists(st.tuples(st.floats(0.001, 10), st.integers(1, 9)), min_size=2, max_size=20))
def test_gaps_add_up_to_the_time_from_the_first_arrival_to_the_last(steps: list[tuple[float, int]]) -> None:
    times = [sum(step for step, _ in steps[: index + 1]) for index in range(len(steps))]
    gaps = token_gaps([(time, tokens) for time, (_, tokens) in zip(times, steps, strict=True)])
    assert len(gaps) == sum(tokens for _, tokens in steps[1:])
    assert sum(gaps) == pytest.approx(times[-1] - times[0])


@pytest.mark.parametrize(
    ("share", "value"), [(0.0, 1.0), (0.5, 3.0), (0.95, 4.8), (1.0, 5.0), (0.25, 2.0), (0.125, 1.5)]
)
def test_a_percentile_lies_between_the_two_nearest_values(share: float, value: float) -> None:
    assert percentile([5.0, 3.0, 1.0, 2.0, 4.0], share) == pytest.approx(value)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1))
def test_the_middle_percentile_is_the_median(values: list[float]) -> None:
    assert percentile(values, 0.5) == pytest.approx(statistics.median(values))
    assert min(values) - 1e-6 <= percentile(values, 0.95) <= max(values) + 1e-6


@given(st.integers(2, 40_000), st.integers(1, 300), st.integers(0, 5))
def test_no_two_prompts_of_a_run_begin_alike(vocabulary: int, count: int, seed: int) -> None:
    prompts = Prompts(seed, vocabulary, count)
    drawn = [prompts.draw(16) for _ in range(count)]
    assert all(len(one) == 16 and min(one) >= 0 and max(one) < vocabulary for one in drawn)
    alike = next(length for length in range(16) if vocabulary ** (length + 1) >= count)  # what cannot be avoided
    assert len({one[: alike + 1] for one in drawn}) == count
    again = Prompts(seed, vocabulary, count)
    assert [again.draw(16) for _ in range(count)] == drawn


def test_prompts_leave_control_tokens_out_where_there_are_enough_others() -> None:
    prompts = Prompts(0, 1000, 100)
    assert min(itertools.chain.from_iterable(prompts.draw(50) for _ in range(100))) >= 256
    short = Prompts(0, 3, 5)
    assert [len(short.draw(1)) for _ in range(6)] == [1] * 6
    assert Prompts(0, 1, 5).draw(3) == (0, 0, 0)
