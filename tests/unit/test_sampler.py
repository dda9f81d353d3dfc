"""Choosing tokens: greedy, seeded, and from the distribution that the filters leave."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from foundry_lite.engine.sampler import Chooser, choose

LOGITS = st.lists(st.floats(-30, 30, width=32), min_size=1, max_size=20)
SEEDS = st.integers(-(2**63), 2**63 - 1)


def array(*values: float) -> NDArray[np.float32]:
    return np.array(values, np.float32)


def draws(chooser: Chooser, logits: NDArray[np.float32], count: int) -> list[int]:
    return [chooser.draw(logits) for _ in range(count)]


def surprise(observed: list[int], expected: list[float]) -> float:
    """Chi-square of drawn tokens against probabilities."""
    count = len(observed)
    return sum((observed.count(token) - count * p) ** 2 / (count * p) for token, p in enumerate(expected))


def test_greedy_takes_the_highest() -> None:
    assert choose(np.stack([array(1, 3, 2), array(5, -1, 0)]), [Chooser(0.0, 1.0, 0), Chooser(0.0, 0.5, 7)]) == [1, 0]


def test_greedy_takes_the_lowest_id_among_equals() -> None:
    assert choose(array(0, 2, 2, 2)[None], [Chooser(0.0, 1.0, 0)]) == [1]


def test_rows_are_chosen_each_by_its_own_chooser() -> None:
    row = array(0, 1, 2, 3)
    mixed = choose(np.stack([row, row, row]), [Chooser(0.0, 1.0, 0), Chooser(1.0, 1.0, 1, 5), Chooser(1.0, 1.0, 0, 3)])
    assert mixed == [3, 3, Chooser(1.0, 1.0, 0, 3).draw(row)]


@given(LOGITS, SEEDS)
def test_the_same_seed_gives_the_same_draws(values: list[float], seed: int) -> None:
    logits = array(*values)
    assert draws(Chooser(1.0, 0.9, 10, seed), logits, 8) == draws(Chooser(1.0, 0.9, 10, seed), logits, 8)


def test_another_seed_and_no_seed_give_other_draws() -> None:
    logits = np.zeros(1000, np.float32)
    first = draws(Chooser(1.0, 1.0, 0, 1), logits, 10)
    assert draws(Chooser(1.0, 1.0, 0, 2), logits, 10) != first
    assert draws(Chooser(1.0, 1.0, 0), logits, 10) != draws(Chooser(1.0, 1.0, 0), logits, 10)


def test_draws_do_not_depend_on_who_else_is_served() -> None:
    row, other = array(0, 1, 2, 3), array(3, 2, 1, 0)
    alone, among = Chooser(1.0, 1.0, 0, 9), Chooser(1.0, 1.0, 0, 9)
    neighbour = Chooser(1.0, 1.0, 0, 4)
    assert [choose(row[None], [alone])[0] for _ in range(20)] == [
        choose(np.stack([other, row]), [neighbour, among])[1] for _ in range(20)
    ]


@given(LOGITS, st.floats(0.1, 2), SEEDS)
def test_top_k_of_one_is_greedy(values: list[float], temperature: float, seed: int) -> None:
    assert Chooser(temperature, 1.0, 1, seed).draw(array(*values)) == int(np.argmax(array(*values)))


@given(LOGITS, st.floats(0.1, 2), SEEDS)
def test_a_tiny_top_p_is_greedy(values: list[float], temperature: float, seed: int) -> None:
    assert Chooser(temperature, 1e-9, 0, seed).draw(array(*values)) == int(np.argmax(array(*values)))


@given(LOGITS, st.integers(1, 25), SEEDS)
def test_top_k_never_draws_outside_the_best_k(values: list[float], top_k: int, seed: int) -> None:
    logits = array(*values)
    best = set(np.argsort(-logits, kind="stable")[:top_k].tolist())
    assert set(draws(Chooser(2.0, 1.0, top_k, seed), logits, 10)) <= best


# Shares of 1/2, 1/4, 1/8, 1/8, not in the order of the ids.
QUARTERS = array(math.log(0.125), math.log(0.5), math.log(0.125), math.log(0.25))


@pytest.mark.parametrize(
    ("top_p", "top_k", "drawn"),
    [
        (1.0, 0, {0, 1, 2, 3}),
        (0.49, 0, {1}),
        (0.51, 0, {1, 3}),
        (0.74, 0, {1, 3}),
        (0.76, 0, {0, 1, 3}),
        (0.9, 0, {0, 1, 2, 3}),
        (1.0, 3, {0, 1, 3}),
        (1.0, 4, {0, 1, 2, 3}),
        (1.0, 100, {0, 1, 2, 3}),
        (0.65, 2, {1}),  # of the two that are left, the first has 2/3
        (0.68, 2, {1, 3}),
    ],
)
def test_exactly_the_tokens_that_the_filters_leave_are_drawn(top_p: float, top_k: int, drawn: set[int]) -> None:
    assert set(draws(Chooser(1.0, top_p, top_k, 1), QUARTERS, 300)) == drawn


def test_draws_are_as_frequent_as_softmax_says() -> None:
    # e^0 + e^1 + e^2 + e^3 = 31.1929
    expected = [1 / 31.1929, math.e / 31.1929, math.e**2 / 31.1929, math.e**3 / 31.1929]
    assert surprise(draws(Chooser(1.0, 1.0, 0, 42), array(0, 1, 2, 3), 4000), expected) < 16.3  # 1 in 1000, 3 d.o.f.


def test_temperature_divides_the_logits() -> None:
    # e^0 + e^1 = 3.71828 at temperature 2; e^0 + e^4 = 55.5982 at temperature 0.5
    warm, cold = Chooser(2.0, 1.0, 0, 42), Chooser(0.5, 1.0, 0, 42)
    assert surprise(draws(warm, array(0, 2), 4000), [1 / 3.71828, math.e / 3.71828]) < 10.8  # 1 in 1000, 1 d.o.f.
    assert surprise(draws(cold, array(0, 2), 4000), [1 / 55.5982, math.e**4 / 55.5982]) < 10.8


def test_what_is_left_of_top_p_keeps_its_proportions() -> None:
    drawn = draws(Chooser(1.0, 0.7, 0, 42), QUARTERS, 4000)
    assert surprise([token == 3 for token in drawn], [2 / 3, 1 / 3]) < 10.8


def test_a_very_low_temperature_is_greedy_without_a_warning() -> None:
    assert Chooser(1e-4, 1.0, 0, 1).draw(array(0, 1, 0.999)) == 1


def test_forbidden_tokens_are_never_drawn() -> None:
    logits = array(-np.inf, 0, -np.inf, 0)
    assert set(draws(Chooser(2.0, 1.0, 0, 1), logits, 100)) == {1, 3}
    assert set(draws(Chooser(1.0, 0.99, 3, 1), logits, 100)) == {1, 3}


def test_a_single_token_that_is_allowed_is_drawn() -> None:
    assert Chooser(1.0, 1.0, 0, 1).draw(array(-np.inf, -np.inf, -5)) == 2


def test_a_large_vocabulary_is_drawn_from_as_from_a_small_one() -> None:
    logits = np.full(151_936, -100, np.float32)
    logits[[7, 150_000]] = 10
    assert set(draws(Chooser(1.0, 1.0, 0, 1), logits, 40)) == {7, 150_000}


def test_many_unlikely_tokens_together_are_likely() -> None:
    logits = np.full(1001, -10, np.float32)
    logits[0] = 0
    # 1000 tokens of e^-10 are 0.0454 against 1: a share of 0.0434
    unlikely = [int(token > 0) for token in draws(Chooser(1.0, 1.0, 0, 42), logits, 4000)]
    assert surprise(unlikely, [0.9566, 0.0434]) < 10.8


def test_extreme_logits_do_not_overflow() -> None:
    assert Chooser(1.0, 1.0, 0, 1).draw(array(3e38, 0, -3e38)) == 0


def test_drawing_leaves_the_logits_as_they_were() -> None:
    logits = array(0, 1, 2)
    Chooser(0.5, 0.5, 2, 1).draw(logits)
    assert logits.tolist() == [0, 1, 2]


@pytest.mark.parametrize(("temperature", "greedy"), [(0.0, True), (0.01, False), (1.0, False)])
def test_temperature_zero_is_greedy(temperature: float, greedy: bool) -> None:
    assert Chooser(temperature, 1.0, 0).is_greedy is greedy


@pytest.mark.parametrize("row", [[0, np.nan, 1], [np.nan] * 3, [-np.inf] * 3, [0, np.inf, 1]], ids=str)
def test_a_row_that_is_no_number_still_gives_a_token(row: list[float]) -> None:
    """It raised, which ended the worker: one broken sequence cost all the others their answers."""
    (token,) = choose(array(*row)[None], [Chooser(1.0, 0.9, 5, 1)])
    assert token in range(3)
