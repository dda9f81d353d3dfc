"""The arithmetic of a benchmark."""

from __future__ import annotations

import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundry_lite.bench.benchmark import percentile, token_gaps


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
