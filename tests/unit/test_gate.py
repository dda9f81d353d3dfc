"""Which loss is accepted: real figures of builds that work, and of builds that do not.

Measured on the embedded model, whose task is tool calls (docs/decisions/0018): neutral texts, own texts, cases of 90.
"""

from __future__ import annotations

import math

import pytest
from msgspec.structs import replace

from foundry_lite.catalog.report import Quality, TaskScore, TextLoss
from foundry_lite.conversion.evaluate.gate import Gate, judge


def loss(kl: float, p99: float, top1: float) -> TextLoss:
    return TextLoss(1000, 12.0, 11.0, kl, p99, top1)


INT4_128 = Quality(loss(0.193, 1.705, 0.850), loss(0.0012, 0.024, 0.999), TaskScore(71, 69, 90))
K_QUANT = Quality(loss(0.056, 0.575, 0.916), loss(0.0005, 0.019, 0.999), TaskScore(71, 69, 90))
INT8 = Quality(loss(0.002, 0.019, 0.982), loss(0.0000, 0.001, 0.999), TaskScore(71, 69, 90))
THREE_BITS = Quality(loss(0.912, 5.932, 0.646), loss(0.0244, 0.748, 0.994), TaskScore(64, 69, 90))
THREE_BITS_128 = Quality(loss(1.305, 7.231, 0.578), loss(0.0392, 1.060, 0.986), TaskScore(59, 69, 90))


def on_neutral_texts(quality: Quality) -> Quality:
    return Quality(quality.neutral)


@pytest.mark.parametrize("quality", [INT4_128, K_QUANT, INT8])
def test_what_keeps_its_users_task_passes(quality: Quality) -> None:
    assert judge(quality, Gate()).passes


@pytest.mark.parametrize("quality", [THREE_BITS, THREE_BITS_128])
def test_what_loses_its_users_task_is_refused_however_close_its_texts_are(quality: Quality) -> None:
    misses = judge(quality, Gate()).misses
    assert "of the source's task accuracy" in misses[0]
    assert "95% are needed" in misses[0]


@pytest.mark.parametrize(("quality", "passes"), [(INT8, True), (K_QUANT, True), (INT4_128, False), (THREE_BITS, False)])
def test_without_own_data_a_build_must_be_close_on_texts_of_every_kind(quality: Quality, passes: bool) -> None:
    assert judge(on_neutral_texts(quality), Gate()).passes is passes


def test_each_missed_bound_is_one_sentence_with_both_figures() -> None:
    assert judge(on_neutral_texts(THREE_BITS), Gate()).misses == (
        "on neutral texts its likeliest token is the source's at 64.6% of 1000 positions, 85% are needed",
        "on neutral texts it diverges by 0.912 nats on average, 0.1 are allowed",
        "on neutral texts it diverges by 5.93 nats at one position in a hundred, 1 are allowed",
    )
    assert judge(THREE_BITS_128, Gate()).misses == (
        "it keeps 85.5% of the source's task accuracy (59 instead of 69 of 90 cases), 95% are needed",
        "on your texts it diverges by 1.06 nats at one position in a hundred, 1 are allowed",
    )


def test_bounds_are_the_users_to_set() -> None:
    lenient = Gate(least_task_kept=0.9, least_top1=0.6, most_kl_mean=1.0, most_kl_p99=6.0)
    assert judge(THREE_BITS, lenient).passes
    assert judge(on_neutral_texts(THREE_BITS), lenient).passes
    assert not judge(INT8, Gate(least_top1=1.0)).passes


def test_a_bound_that_is_just_met_is_met() -> None:
    assert judge(Quality(loss(0.10, 1.0, 0.85), task=TaskScore(95, 100, 120)), Gate()).passes


def test_figures_that_are_no_numbers_pass_nothing() -> None:
    for field in ("kl_mean", "kl_p99", "top1"):
        broken = replace(loss(0.01, 0.1, 0.99), **{field: math.nan})
        assert not judge(Quality(broken), Gate()).passes


def test_what_was_not_measured_misses_nothing() -> None:
    assert judge(Quality(TextLoss(1000, 12.0)), Gate()).passes
    assert judge(Quality(similarity=0.99), Gate()).passes
