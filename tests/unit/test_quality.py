"""What is measured of a build, and which loss is accepted."""

from __future__ import annotations

import asyncio
from dataclasses import astuple
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from foundry_lite.build.quality import (
    Loss,
    Reference,
    Scores,
    check_companion,
    check_fidelity,
    divergence,
    is_tolerable,
    prompt_length,
    score,
)
from foundry_lite.catalog.recipe import Precision
from foundry_lite.errors import CheckFailed
from tests import tiny_model


def log_softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    shifted = logits - logits.max()
    return np.asarray(shifted - np.log(np.exp(shifted).sum()))


def exact(source: NDArray[np.float64], ours: NDArray[np.float64]) -> float:
    p, q = log_softmax(source), log_softmax(ours)
    return float((np.exp(p) * (p - q)).sum())


def likeliest(source: NDArray[np.float64], count: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    ids = np.argsort(-source)[:count]
    return ids, log_softmax(source)[ids].astype(np.float32)


@pytest.mark.parametrize("seed", range(5))
def test_the_divergence_over_the_likeliest_tokens_is_a_close_lower_bound(seed: int) -> None:
    random = np.random.default_rng(seed)
    source = random.standard_normal(1000) * 4
    ours = source + random.standard_normal(1000) * 0.3
    whole = exact(source, ours)
    ours32 = ours.astype(np.float32)
    assert divergence(ours32, *likeliest(source, 1000)) == pytest.approx(whole, rel=1e-3)
    coarse = divergence(ours32, *likeliest(source, 64))
    assert whole * 0.8 < coarse < whole * 1.001


def test_the_divergence_of_the_same_is_nothing_and_of_a_sure_mistake_is_large() -> None:
    source = np.zeros(100)
    source[3] = 30.0
    ids, logprobs = likeliest(source, 64)
    assert abs(divergence(source.astype(np.float32), ids, logprobs)) < 1e-6
    assert divergence(np.roll(source, 1).astype(np.float32), ids, logprobs) == pytest.approx(30, rel=0.01)


def test_what_is_left_of_the_mass_counts() -> None:
    """The source spreads over what it was not asked for; ours puts everything on what it was."""
    ids, logprobs = np.array([0]), np.log(np.array([0.5], np.float32))
    ours = np.array([10.0, 0, 0], np.float32)
    assert divergence(ours, ids, logprobs) > 1


def loss(kl: float, top1: float = 0.9) -> Loss:
    return Loss(top1, kl, 100)


@pytest.mark.parametrize(
    ("precision", "top1", "kl"),
    [
        (Precision.FP32, 0.98, 0.0),
        (Precision.FP32, 1.0, 0.02),
        (Precision.INT8, 0.4, 0.1),
        (Precision.INT4, 0.01, 1.0),
        (Precision.INT4, 0.5, float("nan")),
        (Precision.INT4, float("nan"), 1.0),
    ],
)
def test_a_model_that_is_not_the_source_is_refused(precision: Precision, top1: float, kl: float) -> None:
    with pytest.raises(CheckFailed, match="the conversion went wrong"):
        check_fidelity(loss(kl, top1), precision)


def test_a_model_that_passes_is_recorded_with_its_bounds() -> None:
    checks = check_fidelity(loss(0.1, 0.95), Precision.INT4)
    assert [(one.name, one.value, one.threshold, one.samples) for one in checks] == [
        ("top1_agreement", 0.95, 0.02, 100),
        ("kl_mean", 0.1, 10.0, 100),
    ]


def test_a_faster_way_may_lose_a_little_more_and_no_more_than_that() -> None:
    assert is_tolerable(loss(0.154), loss(0.1))
    assert not is_tolerable(loss(0.156), loss(0.1))
    assert is_tolerable(loss(0.004), loss(0.0))
    assert not is_tolerable(loss(0.006), loss(0.0))
    assert not is_tolerable(loss(float("nan")), loss(0.1))


def test_a_companion_that_loses_too_much_is_refused_with_the_way_out() -> None:
    assert check_companion(loss(0.09), loss(0.1))[1].threshold == pytest.approx(0.155)
    with pytest.raises(CheckFailed, match="prompts") as refused:
        check_companion(loss(0.2), loss(0.1))
    assert "without --fast-prefill" in refused.value.hint


def test_losses_after_the_prompt_leave_the_prompt_out() -> None:
    scores = Scores([np.array([False] * 4 + [True] * 5)], [np.array([1.0] * 4 + [0.5] * 5)])
    assert prompt_length(9) == 4
    assert astuple(scores.loss(after_prompt=True)) == pytest.approx((5 / 6, 3.5 / 6, 6))
    assert astuple(scores.loss()) == pytest.approx((5 / 9, 6.5 / 9, 9))


@pytest.mark.parametrize("prefills", [False, True])
def test_a_built_model_is_scored_where_it_predicts(tmp_path: Path, prefills: bool) -> None:
    """The alphabet model is certain of the next letter; its source, so it is claimed, is so only up to ``f``."""
    folder = tiny_model.install(tmp_path, "mine")
    letters = "abcdefghij"
    tokens = [ord(one) - ord("!") for one in letters]
    following = [*tokens[1:6], *[0] * 5]
    certain = np.zeros((10, 1), np.float32)
    reference = Reference(letters, tokens, np.array(following)[:, None], certain)
    scores = asyncio.run(score(folder, (reference,), prefills=prefills))
    start = prompt_length(10) - 1 if prefills else 0
    assert scores.hits[0][start:].tolist() == ([True] * 5 + [False] * 5)[start:]
    assert scores.loss(after_prompt=True).positions == 6
