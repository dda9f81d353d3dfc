"""The choice among measured candidates: demands, gate, throughput, first token, memory, in that order."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundry_lite.catalog.recipe import Provider, contradiction
from foundry_lite.catalog.report import Measured, Quality, TaskScore, TextLoss
from foundry_lite.conversion.build_spec import AUTO
from foundry_lite.store.choices import Constraints, Trial
from foundry_lite.tuning.candidates import thread_counts
from foundry_lite.tuning.choosing import decide, dominates, kept_share, misses, noise
from foundry_lite.tuning.tune import WANTED

FREE = Constraints(streams=4, prompt_tokens=128, new_tokens=64, rounds=3)
GOOD = Quality(neutral=TextLoss(1000, 10.0, 10.0, 0.001, 0.01, 0.97))
BAD = Quality(neutral=TextLoss(1000, 90.0, 10.0, 0.9, 5.0, 0.5))


def trial(variant: str, system: float, ttft: float = 50.0, peak: int | None = 100_000_000, **changes: Any) -> Trial:
    """A measured trial whose rounds lie one percent apart."""
    measured = Measured(
        "2026-11-21", {"processor": "p", "cores": 2}, {}, "bench", 2, "cpu", 128, 64, 4,
        ttft, 1000.0, system / 3, system, 0.5, None if peak is None else peak // 2, peak,
    )  # fmt: skip
    one = Trial(variant, Provider.CPU, 2, 1000, quality=GOOD, measured=measured)
    spread = (0.995, 1.0, 1.005)
    rounds = {"ttft_rounds": tuple(ttft * s for s in spread), "system_rounds": tuple(system * s for s in spread)}
    return msgspec.structs.replace(one, **{**rounds, **changes})


def taken(*trials: Trial, **demands: Any) -> str:
    found = decide(trials, msgspec.structs.replace(FREE, **demands)).taken
    return "" if found is None else found.variant


def test_the_highest_throughput_wins_where_the_difference_is_no_noise() -> None:
    decision = decide([trial("cpu-int4", 100.0), trial("cpu-int8", 90.0, ttft=5.0, peak=10)], FREE)
    assert decision.taken is not None
    assert decision.taken.variant == "cpu-int4"
    assert decision.reason == (
        "cpu-int4 with 2 threads: the highest throughput of 2 that meet every demand, 100.0 tokens/s at 4 streams; "
        "cpu-int8 with 2 threads comes next with 90.0."
    )


def test_within_the_noise_of_the_throughput_the_first_to_answer_wins() -> None:
    slower_by_half_a_percent = trial("cpu-int8", 99.5, ttft=20.0)
    assert taken(trial("cpu-int4", 100.0), slower_by_half_a_percent) == "cpu-int8"
    assert (
        "the first to answer, after 20 ms" in decide([trial("cpu-int4", 100.0), slower_by_half_a_percent], FREE).reason
    )


def test_within_both_noises_the_smaller_memory_wins() -> None:
    decision = decide([trial("cpu-int4", 100.0), trial("cpu-int8", 99.5, ttft=50.2, peak=90_000_000)], FREE)
    assert decision.taken is not None
    assert decision.taken.variant == "cpu-int8"
    assert "least memory, 90 MB" in decision.reason


@pytest.mark.parametrize(
    ("demand", "says"),
    [
        ({"max_memory": 99_000_000}, "it takes 100 MB, 99 MB are allowed"),
        ({"max_ttft": 49.5}, "its first token takes 50 ms, 49.5 ms are allowed"),
        ({"min_quality": 0.98}, "98% are needed"),
    ],
)
def test_a_demand_is_stronger_than_any_speed(demand: dict[str, Any], says: str) -> None:
    better = Quality(neutral=TextLoss(1000, 10.0, 10.0, 0.001, 0.01, 0.99))
    modest = trial("cpu-int8", 10.0, ttft=40.0, peak=90_000_000, quality=better)
    missed = misses(trial("cpu-int4", 100.0), msgspec.structs.replace(FREE, **demand))
    assert len(missed) == 1
    assert missed[0].endswith(says)
    assert taken(trial("cpu-int4", 100.0), modest, **demand) == "cpu-int8"


def test_what_the_gate_refuses_is_never_taken() -> None:
    decision = decide([trial("cpu-int4", 100.0, quality=BAD), trial("cpu-int8", 10.0)], FREE)
    assert decision.taken is not None
    assert decision.taken.variant == "cpu-int8"
    assert "the only one of 2 candidates" in decision.reason
    assert len(decision.table[0].refused) == 3


def test_what_was_never_measured_passes_until_a_quality_is_demanded() -> None:
    unknown = trial("cpu-int4", 100.0, quality=None)
    assert taken(unknown) == "cpu-int4"
    assert taken(unknown, trial("cpu-int8", 1.0), min_quality=0.9) == "cpu-int8"
    assert misses(trial("cpu-int4", 1.0, peak=None, quality=None), msgspec.structs.replace(FREE, max_memory=9)) == (
        "its memory is not known on this system",
    )


def test_nothing_that_fits_names_the_nearest_and_what_it_misses() -> None:
    trials = [trial("cpu-int4", 100.0, ttft=600.0), trial("cpu-int8", 10.0, ttft=510.0), trial("cpu-fp16", 1.0, 900.0)]
    decision = decide(trials, msgspec.structs.replace(FREE, max_ttft=500.0))
    assert decision.taken is None
    assert decision.reason == (
        "none of 3 candidates meets every demand; the nearest is cpu-int8 with 2 threads: "
        "its first token takes 510 ms, 500 ms are allowed"
    )


def test_the_gate_counts_as_far_away() -> None:
    trials = [trial("cpu-int4", 100.0, ttft=10.0, quality=BAD), trial("cpu-int8", 10.0, ttft=510.0)]
    assert "the nearest is cpu-int8" in decide(trials, msgspec.structs.replace(FREE, max_ttft=500.0)).reason


def test_where_nothing_ran_the_reasons_are_said() -> None:
    failed = Trial("cuda-int4", Provider.CUDA, 2, 1, failed="no such device")
    decision = decide([failed, failed], FREE)
    assert decision.taken is None
    assert decision.reason == "none of 2 candidates could be measured: no such device"


def test_one_that_is_nowhere_better_is_dominated_and_ties_are_not() -> None:
    best, worse = trial("cpu-int4", 100.0), trial("cpu-int8", 90.0, ttft=60.0, peak=200_000_000)
    assert dominates(best, worse)
    assert not dominates(worse, best)
    assert not dominates(best, best)
    assert not dominates(best, trial("cpu-int8", 90.0, ttft=1.0))
    assert not dominates(best, trial("cpu-int8", 90.0, quality=None))
    assert not dominates(best, Trial("cpu-int8", Provider.CPU, 1, 1, failed="x"))
    table = decide([best, worse], FREE).table
    assert [one.dominated_by for one in table] == ["", "cpu-int4 with 2 threads"]


def test_quality_is_the_users_task_first_then_the_users_texts_then_the_neutral_ones() -> None:
    neutral, own = TextLoss(9, 1.0, 1.0, 0.0, 0.0, 0.9), TextLoss(9, 1.0, 1.0, 0.0, 0.0, 0.8)
    assert kept_share(Quality(neutral, own, TaskScore(7, 10, 20))) == 0.7
    assert kept_share(Quality(neutral, own)) == 0.8
    assert kept_share(Quality(neutral)) == 0.9
    assert kept_share(Quality(TextLoss(9, 1.0))) is None
    assert kept_share(Quality(similarity=0.99)) == 0.99
    assert kept_share(None) is None


def test_a_demanded_quality_moves_the_gate_in_both_directions() -> None:
    tasked = trial("cpu-int4", 1.0, quality=Quality(GOOD.neutral, None, TaskScore(18, 20, 30)))
    assert len(misses(tasked, FREE)) == 1
    assert misses(tasked, msgspec.structs.replace(FREE, min_quality=0.9)) == ()
    assert len(misses(tasked, msgspec.structs.replace(FREE, min_quality=0.91))) == 1


def test_noise_is_what_the_rounds_of_the_middle_candidate_show() -> None:
    assert noise([(90.0, 100.0, 110.0), (99.0, 100.0, 101.0), (50.0, 100.0, 150.0)]) == pytest.approx(0.2)
    assert noise([(5.0,), (7.0,)]) == 0.0
    assert noise([(), (0.0, 0.0)]) == 0.0


@given(
    st.lists(st.tuples(st.floats(1, 1000), st.floats(1, 1000), st.integers(1, 10**9)), min_size=1, max_size=8),
    st.floats(1, 1000),
)
def test_what_is_taken_meets_every_demand_and_only_noise_is_faster(
    figures: list[tuple[float, float, int]], max_ttft: float
) -> None:
    trials = [trial(f"cpu-int4-b{at}", system, ttft, peak) for at, (system, ttft, peak) in enumerate(figures)]
    asked = msgspec.structs.replace(FREE, max_ttft=max_ttft)
    decision = decide(trials, asked)
    fitting = [one for one in decision.table if not one.refused]
    assert [one.variant for one in decision.table] == [one.variant for one in trials]
    if decision.taken is None:
        assert not fitting
        return
    assert decision.taken in fitting
    assert decision.reason.startswith(decision.taken.label)
    assert decision.taken.measured is not None
    fastest = max(one.measured.system_tokens_per_s for one in fitting if one.measured is not None)
    assert decision.taken.measured.system_tokens_per_s >= fastest * 0.98


def test_what_is_built_can_be_built_and_is_the_walk_and_a_companion() -> None:
    assert len({one.variant for one in WANTED}) == len(AUTO) + 1
    assert all(not contradiction(one) for one in WANTED)
    assert [one.variant for one in WANTED if one.fast_prefill] == ["cpu-int4-b128-fp"]


def test_all_cores_and_half_of_them_are_tried() -> None:
    assert [thread_counts(cores) for cores in (1, 2, 3, 8)] == [(1,), (2, 1), (3, 1), (8, 4)]
