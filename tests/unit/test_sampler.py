"""Choosing tokens: greedy, seeded, and from the distribution that the filters leave."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from foundry_lite.engine.sampling.sampler import Choice, SequenceSampler, choose
from foundry_lite.generation import Sampling

LOGITS = st.lists(st.floats(-30, 30, width=32), min_size=1, max_size=20)
SEEDS = st.integers(-(2**63), 2**63 - 1)
INFINITE, NONE = math.inf, math.nan


def array(*values: float) -> NDArray[np.float32]:
    return np.array(values, np.float32)


def sampling(
    temperature: float = 1.0, top_p: float = 1.0, top_k: int = 0, seed: int | None = 1, **more: Any
) -> Sampling:
    return Sampling(temperature, top_p, top_k, seed, **more)


def chooser(
    temperature: float = 1.0, top_p: float = 1.0, top_k: int = 0, seed: int | None = 1, **more: Any
) -> SequenceSampler:
    return SequenceSampler(sampling(temperature, top_p, top_k, seed, **more))


def draws(one: SequenceSampler, logits: NDArray[np.float32], count: int) -> list[int]:
    return [choose(logits[None], [one])[0].token for _ in range(count)]


def draw(one: SequenceSampler, logits: NDArray[np.float32]) -> int:
    return draws(one, logits, 1)[0]


def allowing(vocabulary: int, *tokens: int) -> NDArray[np.int32]:
    """A grammar's mask that allows some tokens."""
    bits = np.zeros(-(-vocabulary // 32) * 32, np.uint8)
    bits[list(tokens)] = 1
    return np.packbits(bits, bitorder="little").view(np.int32)


def surprise(observed: list[int], expected: list[float]) -> float:
    """Chi-square of drawn tokens against probabilities."""
    count = len(observed)
    return sum((observed.count(token) - count * p) ** 2 / (count * p) for token, p in enumerate(expected))


def test_greedy_takes_the_highest() -> None:
    logits = np.stack([array(1, 3, 2), array(5, -1, 0)])
    assert choose(logits, [chooser(0.0), chooser(0.0, 0.5, 7)]) == [Choice(1, None, ()), Choice(0, None, ())]


@pytest.mark.parametrize("more", [{}, {"logit_bias": {0: 0.0}}], ids=["plain", "not plain"])
def test_greedy_takes_the_lowest_id_among_equals(more: dict[str, Any]) -> None:
    assert draw(chooser(0.0, **more), array(0, 2, 2, 2)) == 1


def test_rows_are_chosen_each_by_its_own_chooser() -> None:
    row = array(0, 1, 2, 3)
    mixed = choose(np.stack([row] * 4), [chooser(0.0), chooser(top_k=1, seed=5), chooser(seed=3), chooser(top_p=0.0)])
    assert [one.token for one in mixed] == [3, 3, draw(chooser(seed=3), row), 3]


@given(LOGITS, SEEDS)
def test_the_same_seed_gives_the_same_draws(values: list[float], seed: int) -> None:
    logits = array(*values)
    assert draws(chooser(1.0, 0.9, 10, seed), logits, 8) == draws(chooser(1.0, 0.9, 10, seed), logits, 8)


def test_another_seed_another_choice_and_no_seed_give_other_draws() -> None:
    logits = np.zeros(1000, np.float32)
    first = draws(chooser(), logits, 10)
    assert draws(chooser(seed=2), logits, 10) != first
    assert draws(SequenceSampler(sampling(), choice=1), logits, 10) != first
    assert draws(SequenceSampler(sampling(), choice=0), logits, 10) == first
    assert draws(chooser(seed=None), logits, 10) != draws(chooser(seed=None), logits, 10)


@given(LOGITS, st.floats(0.1, 2), SEEDS)
def test_top_k_of_one_and_a_tiny_top_p_are_greedy(values: list[float], temperature: float, seed: int) -> None:
    best = int(np.argmax(array(*values)))
    assert draw(chooser(temperature, 1.0, 1, seed), array(*values)) == best
    assert draw(chooser(temperature, 1e-9, 0, seed), array(*values)) == best
    assert draw(chooser(temperature, 0.0, 0, seed), array(*values)) == best


# Shares of 1/2, 1/4, 1/8, 1/8, not in the order of the ids.
QUARTERS = array(math.log(0.125), math.log(0.5), math.log(0.125), math.log(0.25))


@pytest.mark.parametrize(
    ("top_p", "top_k", "min_p", "drawn"),
    [
        (1.0, 0, 0.0, {0, 1, 2, 3}),
        (0.49, 0, 0.0, {1}),
        (0.51, 0, 0.0, {1, 3}),
        (0.74, 0, 0.0, {1, 3}),
        (0.76, 0, 0.0, {0, 1, 3}),  # of two equals, the lower id
        (0.9, 0, 0.0, {0, 1, 2, 3}),
        (1.0, 3, 0.0, {0, 1, 3}),
        (1.0, 4, 0.0, {0, 1, 2, 3}),
        (1.0, 100, 0.0, {0, 1, 2, 3}),
        (0.65, 2, 0.0, {1}),  # of the two that are left, the first has 2/3
        (0.68, 2, 0.0, {1, 3}),
        (1.0, 0, 0.24, {0, 1, 2, 3}),
        (1.0, 0, 0.26, {1, 3}),
        (1.0, 0, 1.0, {1}),
        (0.76, 0, 0.24, {0, 1, 3}),
        (0.9, 3, 0.49, {1, 3}),
    ],
)
def test_exactly_the_tokens_that_the_filters_leave_are_drawn(
    top_p: float, top_k: int, min_p: float, drawn: set[int]
) -> None:
    assert set(draws(chooser(1.0, top_p, top_k, min_p=min_p), QUARTERS, 300)) == drawn


def test_min_p_is_a_share_of_the_best_after_temperature() -> None:
    # at temperature 2, the shares are e^0, e^-1, e^-2 = 1, 0.37, 0.14
    assert set(draws(chooser(2.0, min_p=0.3), array(4, 2, 0), 200)) == {0, 1}


def test_draws_are_as_frequent_as_softmax_says() -> None:
    # e^0 + e^1 + e^2 + e^3 = 31.1929
    expected = [1 / 31.1929, math.e / 31.1929, math.e**2 / 31.1929, math.e**3 / 31.1929]
    assert surprise(draws(chooser(seed=42), array(0, 1, 2, 3), 4000), expected) < 16.3  # 1 in 1000, 3 d.o.f.


def test_temperature_divides_the_logits() -> None:
    # e^0 + e^1 = 3.71828 at temperature 2; e^0 + e^4 = 55.5982 at temperature 0.5
    warm, cold = chooser(2.0, seed=42), chooser(0.5, seed=42)
    assert surprise(draws(warm, array(0, 2), 4000), [1 / 3.71828, math.e / 3.71828]) < 10.8  # 1 in 1000, 1 d.o.f.
    assert surprise(draws(cold, array(0, 2), 4000), [1 / 55.5982, math.e**4 / 55.5982]) < 10.8


def test_what_is_left_of_top_p_keeps_its_proportions() -> None:
    drawn = draws(chooser(1.0, 0.7, seed=42), QUARTERS, 4000)
    assert surprise([token == 3 for token in drawn], [2 / 3, 1 / 3]) < 10.8


@pytest.mark.parametrize("temperature", [1e-4, 1e-40, 1e-300])
@pytest.mark.parametrize("size", [3, 5000])
def test_a_very_low_temperature_is_greedy_without_a_warning(temperature: float, size: int) -> None:
    logits = np.zeros(size, np.float32)
    logits[1:3] = 1, 0.999
    assert draw(chooser(temperature), logits) == 1


def test_impossible_tokens_are_never_drawn() -> None:
    logits = array(-INFINITE, 0, -INFINITE, 0)
    assert set(draws(chooser(2.0), logits, 100)) == {1, 3}
    assert set(draws(chooser(1.0, 0.99, 3), logits, 100)) == {1, 3}
    assert draw(chooser(), array(-INFINITE, -INFINITE, -5)) == 2


def test_many_unlikely_tokens_together_are_likely() -> None:
    logits = np.full(1001, -10, np.float32)
    logits[0] = 0
    # 1000 tokens of e^-10 are 0.0454 against 1: a share of 0.0434
    unlikely = [int(token > 0) for token in draws(chooser(seed=42), logits, 4000)]
    assert surprise(unlikely, [0.9566, 0.0434]) < 10.8


def test_extreme_logits_do_not_overflow() -> None:
    assert draw(chooser(), array(3e38, 0, -3e38)) == 0
    assert draw(chooser(0.0, repetition_penalty=0.5, logit_bias={0: 100.0}), array(3e38, 0, -3e38)) == 0


def test_a_bias_is_added() -> None:
    assert draws(chooser(0.0, logit_bias={0: 1.5, 2: -9.0}), array(1, 2, 3), 2) == [0, 0]


def test_presence_counts_once_and_frequency_each_time() -> None:
    """Of the answer: 3.0 against 2.0, 1.0 less after it is said first."""
    assert draws(chooser(0.0, presence_penalty=0.9), array(3, 2, 0), 3) == [0, 0, 0]
    assert draws(chooser(0.0, presence_penalty=1.1), array(3, 2, 0), 3) == [0, 1, 0]
    assert draws(chooser(0.0, frequency_penalty=0.4), array(3, 2, 0), 5) == [0, 0, 0, 1, 0]
    assert draws(chooser(0.0, frequency_penalty=0.4, presence_penalty=0.7), array(3, 2, 0), 3) == [0, 1, 0]


def test_the_prompt_counts_for_repetition_alone() -> None:
    prompted = SequenceSampler(sampling(0.0, repetition_penalty=2.0, presence_penalty=0.1), prompt=[0, 0, 2, 900, -4])
    # 3 / 2 = 1.5 and -1 * 2 = -2; then what was said: 2 / 2 - 0.1 = 0.9
    assert draws(prompted, array(3, 2, -1), 3) == [1, 0, 0]
    unsaid = SequenceSampler(sampling(0.0, presence_penalty=5.0), prompt=[0])
    assert draws(unsaid, array(3, 2, -1), 1) == [0]


def test_a_negative_logit_is_multiplied_by_the_repetition_penalty() -> None:
    assert draw(SequenceSampler(sampling(0.0, repetition_penalty=1.5), prompt=[0]), array(-1, -1.4)) == 1
    assert draw(SequenceSampler(sampling(0.0, repetition_penalty=1.5), prompt=[0]), array(-1, -1.6)) == 0


def test_many_tokens_are_counted() -> None:
    said = draws(chooser(0.0, presence_penalty=1e3), np.arange(300, dtype=np.float32), 300)
    assert said == list(range(299, -1, -1))


def test_no_end_of_turn_before_min_tokens() -> None:
    early = SequenceSampler(sampling(0.0, min_tokens=2), eos_ids=frozenset({0, 3, 99}))
    assert not early.is_plain
    assert draws(early, array(5, 1, 2, 4), 3) == [2, 2, 0]
    assert early.is_plain


def test_a_mask_allows_by_its_bits() -> None:
    logits = np.arange(70, dtype=np.float32)[None]
    for token in (0, 31, 32, 63, 64, 69):
        assert choose(logits, [chooser(0.0)], [allowing(70, token)])[0].token == token
        assert choose(logits, [chooser()], [allowing(70, token)])[0].token == token
    assert {choose(logits, [one], [allowing(70, 3, 5)])[0].token for one in [chooser(90.0)] * 50} == {3, 5}


def test_a_mask_may_be_shorter_or_longer_than_the_vocabulary() -> None:
    logits = np.arange(70, dtype=np.float32)[None]
    full = np.full(2, -1, np.int32)
    assert choose(logits, [chooser(0.0)], [full])[0].token == 63
    assert choose(logits, [chooser(0.0)], [np.full(9, -1, np.int32)])[0].token == 69


def test_a_mask_is_of_its_row_alone() -> None:
    logits = np.stack([array(1, 2, 3)] * 3)
    masked = choose(logits, [chooser(0.0)] * 3, [None, allowing(3, 0), None])
    assert [one.token for one in masked] == [2, 0, 2]


def test_what_is_wholly_forbidden_ends_the_turn_or_takes_the_best() -> None:
    row, nothing = array(4, 1, 3, 2)[None], np.zeros(1, np.int32)
    assert choose(row, [SequenceSampler(sampling(), eos_ids=frozenset({1, 2, 50}))], [nothing])[0].token == 2
    assert choose(row, [chooser()], [nothing])[0].token == 0
    ends = SequenceSampler(sampling(0.0, min_tokens=5), eos_ids=frozenset({3}))
    assert choose(row, [ends], [allowing(4, 3)])[0].token == 3


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("size", [3, 5000])
@pytest.mark.parametrize(
    ("row", "token"),
    [
        ([0, NONE, 1], 2),
        ([NONE, NONE, NONE], 0),
        ([-INFINITE] * 3, 0),
        ([0, INFINITE, -1], 0),
    ],
)
def test_a_row_that_is_no_number_still_gives_a_token(
    row: list[float], token: int, size: int, temperature: float
) -> None:
    """It raised, which ended the worker: one broken sequence cost all the others their answers."""
    broken = np.full(size, -INFINITE, np.float32)
    broken[:3] = row
    fine = np.zeros(size, np.float32)
    fine[2] = 40
    both = choose(np.stack([broken, fine]), [chooser(temperature), chooser(temperature)])
    assert [one.token for one in both] == [token, 2]
    logprobs = choose(broken[None], [SequenceSampler(sampling(temperature), top_logprobs=2)])[0]
    assert logprobs.logprob is not None and math.isfinite(logprobs.logprob)
    assert choose(broken[None], [chooser(temperature)], [allowing(size, 0)])[0].token == 0


def test_a_broken_row_ends_the_turn_where_it_can() -> None:
    one = SequenceSampler(sampling(), eos_ids=frozenset({2}))
    assert choose(array(NONE, NONE, NONE)[None], [one])[0].token == 2


def test_choosing_leaves_the_logits_as_they_were() -> None:
    for size in (64, 9000):
        logits = np.random.default_rng(1).normal(0, 2, (1, size)).astype(np.float32)
        before = logits.copy()
        logits.flags.writeable = False
        one = SequenceSampler(
            sampling(0.5, 0.9, logit_bias={1: 2.0}, frequency_penalty=1.0, min_tokens=4), top_logprobs=3
        )
        choose(logits, [one], [allowing(size, *range(60))])
        choose(logits, [chooser(0.7)])
        assert np.array_equal(logits, before)


@pytest.mark.parametrize(
    ("one", "is_plain"),
    [
        (SequenceSampler(sampling(0.0)), True),
        (SequenceSampler(sampling(0.0), eos_ids=frozenset({1}), prompt=[1]), True),
        (SequenceSampler(sampling(0.0, min_tokens=3)), True),  # there is no end of turn to forbid
        (SequenceSampler(sampling(0.01)), False),
        (SequenceSampler(sampling(0.0), top_logprobs=0), False),
        (SequenceSampler(sampling(0.0, logit_bias={1: 1.0})), False),
        (SequenceSampler(sampling(0.0, presence_penalty=0.1)), False),
        (SequenceSampler(sampling(0.0, repetition_penalty=1.1)), False),
        (SequenceSampler(sampling(0.0, min_tokens=3), eos_ids=frozenset({1})), False),
    ],
)
def test_plain_is_greedy_with_nothing_to_apply(one: SequenceSampler, is_plain: bool) -> None:
    assert one.is_plain is is_plain
