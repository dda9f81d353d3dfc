"""The sampler against a slow and obvious one, in small and large vocabularies, and the frequencies of what it draws."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from foundry_lite.engine.sampling.sampler import SequenceSampler, choose
from foundry_lite.engine.sampling.top_k_top_p import Filters, Scratch, pick, pick_sorted
from foundry_lite.generation import Sampling

LARGE = 151_936
LAST = 1 - 2**-53  # the highest random number there is
SLACK = 1e-6  # of the mass, in which the end of top-p may lie


@dataclass(frozen=True)
class Slow:
    """All tokens in order, with the weights they have; ``kept`` of them may be drawn."""

    order: NDArray[np.intp]
    weights: NDArray[np.float64]
    kept: int

    @property
    def allowed(self) -> set[int]:
        return set(self.order[: self.kept].tolist())

    @property
    def probabilities(self) -> NDArray[np.float64]:
        """By token."""
        shares = np.zeros(len(self.order))
        shares[self.order[: self.kept]] = self.weights[: self.kept] / self.weights[: self.kept].sum()
        return shares


def slow(logits: NDArray[np.float32], filters: Filters, *, lean: float = 0.0) -> Slow:
    """Sort all, keep what the filters keep; ``lean`` is added to top_p."""
    order = np.argsort(-logits, kind="stable")
    scaled = logits[order].astype(np.float64) / filters.temperature
    weights = np.exp(scaled - scaled[0])
    kept = min(filters.top_k or len(order), len(order))
    if filters.top_p < 1.0:
        mass = np.cumsum(weights[:kept])
        kept = min(kept, int((mass < (filters.top_p + lean) * mass[-1]).sum()) + 1)
    kept = min(kept, int((weights >= filters.min_p).sum()))
    return Slow(order, weights, kept)


def check_last_kept(logits: NDArray[np.float32], filters: Filters, token: int) -> None:
    """The token drawn by the highest random number is the last one kept, or the last that a float64 can tell of."""
    fewest, most = slow(logits, filters, lean=-SLACK), slow(logits, filters, lean=SLACK)
    mass = np.cumsum(fewest.weights[: fewest.kept])
    last = int((mass < mass[-1] * (1 - 1e-15)).sum())
    assert token in fewest.order[last : most.kept]


SMALL = st.lists(st.floats(-20, 20, width=32) | st.sampled_from([0.0, 1.0, 2.0]), min_size=1, max_size=300)
FILTERS = st.builds(
    Filters,
    st.floats(0.3, 3.0),
    st.sampled_from([0, 0, 1, 3, 20, 400]),
    st.sampled_from([1.0, 1.0, 0.99]) | st.floats(0.0, 0.999),
    st.sampled_from([0.0, 0.0, 1.0]) | st.floats(1e-4, 0.9),
)


@example([16.0, -3.0], Filters(0.5, 3, 1.0, 0.0), 0.5)
@given(SMALL, FILTERS, st.floats(0.001, 0.999))
def test_a_small_vocabulary_is_drawn_from_as_the_slow_way_does(
    values: list[float], filters: Filters, uniform: float
) -> None:
    logits = np.array(values, np.float32)
    expected = slow(logits, filters)
    if slow(logits, filters, lean=SLACK).kept != slow(logits, filters, lean=-SLACK).kept:
        return  # too near to call
    target = uniform * expected.weights[: expected.kept].sum()
    mass = np.cumsum(expected.weights[: expected.kept])
    if np.abs(mass - target).min() < 1e-9 * mass[-1]:
        return
    (place,) = pick_sorted(logits[None], [filters], [uniform])
    assert place == expected.order[np.searchsorted(mass, target, side="right")]
    if filters.top_k or filters.top_p < 1.0 or filters.min_p:
        check_last_kept(logits, filters, pick_sorted(logits[None], [filters], [LAST])[0])


@given(SMALL, FILTERS, st.lists(st.floats(0, LAST), min_size=1, max_size=20))
def test_the_way_for_large_vocabularies_is_right_for_small_ones_too(
    values: list[float], filters: Filters, uniforms: list[float]
) -> None:
    logits = np.array(values, np.float32)
    best, scratch = int(logits.argmax()), Scratch(len(logits))
    drawn = {pick(logits, best, filters, uniform, scratch) for uniform in uniforms}
    assert drawn <= slow(logits, filters, lean=SLACK).allowed


def large(kind: str, seed: int) -> NDArray[np.float32]:
    """Logits of many forms; ``coarse`` has many equals, ``hidden`` and ``unseen`` mislead a sample of it."""
    random = np.random.default_rng(seed)
    bell = random.normal(0, 1.5, LARGE)
    place = np.arange(LARGE)
    slope = -np.log(place + 1)
    forms = {
        "flat": bell,
        "steep": bell * 3,
        "peaked": random.permutation(slope * 1.6) + 15,
        "in order": slope * 1.1 + bell * 0.3,
        "coarse": np.round(bell * 4) / 4,
        "shifted": bell + 500,
        "low": bell - 500,
        "hidden": np.where(place % 48 == 0, bell + 9, bell),
        "unseen": np.where(place % 48 == 0, np.select([place == 0, place == 48], [6.5, 4.0], -20.0), bell),
        "sparse": np.where(random.random(LARGE) < 0.001, bell, -np.inf),
        "equal": np.zeros(LARGE),
    }
    return forms[kind].astype(np.float32)


KINDS = ["flat", "steep", "peaked", "in order", "coarse", "shifted", "low", "hidden", "unseen", "sparse", "equal"]


@pytest.mark.parametrize(
    "filters",
    [
        Filters(0.8, 0, 0.95, 0.0),
        Filters(1.0, 0, 0.5, 0.0),
        Filters(1.3, 0, 0.999, 0.0),
        Filters(1.0, 50, 1.0, 0.0),
        Filters(0.7, 2000, 0.9, 0.0),
        Filters(1.0, 0, 1.0, 0.05),
        Filters(1.0, 0, 0.6, 0.01),
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", KINDS)
def test_the_filters_end_at_the_right_token_in_a_large_vocabulary(kind: str, filters: Filters) -> None:
    logits = large(kind, 3)
    best, scratch = int(logits.argmax()), Scratch(LARGE)
    check_last_kept(logits, filters, pick(logits, best, filters, LAST, scratch))
    drawn = {pick(logits, best, filters, uniform, scratch) for uniform in (0.0, 0.2, 0.6, 0.9, 0.99)}
    assert drawn <= slow(logits, filters, lean=SLACK).allowed


@settings(max_examples=15, deadline=None)
@given(
    st.sampled_from(KINDS),
    st.integers(0, 999),
    st.floats(0.3, 2.0),
    st.floats(0.05, 0.99),
)
def test_top_p_ends_at_the_right_token_whatever_the_row(kind: str, seed: int, temperature: float, top_p: float) -> None:
    logits, filters = large(kind, seed), Filters(temperature, 0, top_p, 0.0)
    check_last_kept(logits, filters, pick(logits, int(logits.argmax()), filters, LAST, Scratch(LARGE)))


@pytest.mark.parametrize("kind", ["flat", "peaked", "coarse", "shifted", "sparse"])
@pytest.mark.parametrize(
    "filters", [Filters(1.0, 0, 1.0, 0.0), Filters(0.8, 0, 0.95, 0.0), Filters(1.0, 200, 1.0, 0.0)], ids=str
)
def test_draws_from_a_large_vocabulary_are_as_frequent_as_they_should_be(kind: str, filters: Filters) -> None:
    """By Kolmogorov and Smirnov, over the tokens from the likeliest down."""
    logits = large(kind, 7)
    expected = slow(logits, filters)
    chooser = SequenceSampler(Sampling(filters.temperature, filters.top_p, filters.top_k, 11))
    drawn = [choose(logits[None], [chooser])[0].token for _ in range(400)]
    shares = expected.probabilities
    assert (shares[drawn] > 0).all()
    found = np.bincount(drawn, minlength=LARGE) / 400
    distance = np.abs(np.cumsum((found - shares)[expected.order])).max()
    assert distance < 1.95 / math.sqrt(400)  # 1 in 1000


@pytest.mark.parametrize("filters", [Filters(1.0, 0, 1.0, 0.0), Filters(0.8, 0, 0.95, 0.0)], ids=str)
def test_evenly_spread_numbers_give_each_token_its_share(filters: Filters) -> None:
    """A vocabulary too large to be sorted, and tokens that are all kept in two parts: those above the cut and in it."""
    logits = np.random.default_rng(5).normal(0, 0.5, 20_000).astype(np.float32)
    logits[17] = 9.0
    shares = slow(logits, filters).probabilities
    scratch = Scratch(len(logits))
    drawn = [pick(logits, 17, filters, (place + 0.5) / 4000, scratch) for place in range(4000)]
    order = np.argsort(-logits, kind="stable")
    count = np.bincount(drawn, minlength=len(logits))[order].reshape(100, -1).sum(axis=1) / 4000
    assert np.abs(count - shares[order].reshape(100, -1).sum(axis=1)).max() < 0.004
    assert drawn.count(17) == pytest.approx(4000 * shares[17], abs=1.01)


@given(
    st.lists(st.floats(-9, 9, width=32), min_size=8, max_size=8),
    st.lists(st.integers(-2, 12), max_size=6),
    st.lists(st.integers(0, 7), max_size=12),
    st.dictionaries(st.integers(-1, 9), st.floats(-5, 5), max_size=4),
    st.tuples(st.floats(-2, 2), st.floats(-2, 2), st.sampled_from([1.0, 0.7, 1.5])),
)
def test_penalties_are_what_their_formulas_say(
    values: list[float],
    prompt: list[int],
    said: list[int],
    bias: dict[int, float],
    penalties: tuple[float, float, float],
) -> None:
    presence, frequency, repetition = penalties
    sampling = Sampling(1.0, 1.0, 0, 0, 0.0, presence, frequency, repetition, bias)
    chooser = SequenceSampler(sampling, prompt=prompt)
    for token in said:
        chooser.note(token)
    expected = []
    for token, value in enumerate(values):
        biased = value + bias.get(token, 0.0)
        if token in prompt or token in said:
            biased = biased * repetition if biased < 0 else biased / repetition
        expected.append(biased - said.count(token) * frequency - (token in said) * presence)
    adjusted = chooser.adjust(np.array(values, np.float32), None)
    assert adjusted.tolist() == pytest.approx(expected, abs=1e-4)


def slow_logprobs(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    wide = logits.astype(np.float64)
    shifted: NDArray[np.float64] = wide - wide.max()
    return shifted - math.log(np.exp(shifted).sum())


@pytest.mark.parametrize("kind", ["flat", "steep", "peaked", "coarse", "shifted", "low", "equal"])
@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_logprobs_are_those_of_the_logits_as_they_came(kind: str, temperature: float) -> None:
    logits = large(kind, 2)
    expected = slow_logprobs(logits)
    sampling = Sampling(temperature, 0.9, 0, 3, logit_bias={5: 30.0, 9: -100.0})
    choice = choose(logits[None], [SequenceSampler(sampling, top_logprobs=20)])[0]
    assert choice.logprob == pytest.approx(expected[choice.token], abs=1e-6)
    best = np.argsort(-logits, kind="stable")[:20].tolist()
    assert [token for token, _ in choice.top] == best
    assert [value for _, value in choice.top] == pytest.approx(expected[best].tolist(), abs=1e-6)


@given(SMALL, st.integers(0, 20))
def test_top_logprobs_are_sorted_and_the_lowest_id_goes_first(values: list[float], count: int) -> None:
    logits = np.array(values, np.float32)
    (choice,) = choose(logits[None], [SequenceSampler(Sampling(1.0, 1.0, 0, 1), top_logprobs=count)])
    expected = slow_logprobs(logits)
    assert [token for token, _ in choice.top] == np.argsort(-logits, kind="stable")[:count].tolist()
    assert choice.logprob == pytest.approx(expected[choice.token], abs=1e-6)


def test_an_impossible_token_has_a_logprob_that_json_can_write() -> None:
    biased = SequenceSampler(Sampling(0.0, 1.0, 0, logit_bias={0: 2e4}), top_logprobs=1)
    (choice,) = choose(np.array([[-1.5e4, 1.0]], np.float32), [biased])
    assert (choice.token, choice.logprob) == (0, -9999.0)
    ((token, value),) = choice.top
    assert token == 1
    assert -1e-6 <= value <= 0.0


def all_kinds_of(vocabulary: int) -> tuple[list[dict[str, Any]], list[NDArray[np.int32] | None]]:
    """Choosers of every kind, and masks for some."""
    mask = np.random.default_rng(3).integers(-(2**31), 2**31, -(-vocabulary // 32), np.int64).astype(np.int32)
    wanted: list[dict[str, Any]] = [
        {"sampling": Sampling(0.0, 1.0, 0)},
        {"sampling": Sampling(1.0, 1.0, 0, 1), "top_logprobs": 5},
        {"sampling": Sampling(0.8, 0.95, 0, 2)},
        {"sampling": Sampling(0.8, 0.95, 0, 2), "choice": 1},
        {"sampling": Sampling(1.0, 1.0, 50, 3)},
        {"sampling": Sampling(1.2, 1.0, 0, 4, min_p=0.02)},
        {"sampling": Sampling(0.7, 0.9, 40, 5, presence_penalty=0.5, repetition_penalty=1.3), "prompt": [1, 2, 3]},
        {"sampling": Sampling(1.0, 0.5, 0, 6, min_tokens=2), "eos_ids": frozenset({0}), "top_logprobs": 0},
        {"sampling": Sampling(1.0, 0.98, 0, 7)},
    ]
    return wanted, [None, None, None, mask, None, None, None, None, mask]


@pytest.mark.parametrize("vocabulary", [77, 1024, 5000, 50_001])
def test_a_row_depends_on_nothing_but_itself(vocabulary: int) -> None:
    """Bit for bit, logprobs too, whoever stands beside it and wherever."""
    wanted, masks = all_kinds_of(vocabulary)
    rows = np.random.default_rng(vocabulary).normal(0, 1.5, (3, len(wanted), vocabulary)).astype(np.float32)
    together = [SequenceSampler(**one) for one in wanted]
    alone = [SequenceSampler(**one) for one in wanted]
    turned = [SequenceSampler(**one) for one in wanted]
    for step in rows:
        expected = [choose(row[None], [one], [mask])[0] for row, one, mask in zip(step, alone, masks, strict=True)]
        assert choose(step, together, masks) == expected
        assert choose(step[::-1].copy(), turned[::-1], masks[::-1])[::-1] == expected
        step[:, 0] = np.nan  # what broke in one step costs nothing in the next
        choose(step, [SequenceSampler(**one) for one in wanted], masks)
