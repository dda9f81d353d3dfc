"""The gate: what a variant may lose and still be taken."""

from __future__ import annotations

from msgspec import Struct

from foundry_lite.catalog.report import Quality, Verdict


class Gate(Struct, frozen=True):
    """Bounds. The text bounds apply to the user's own data where it is given, else to the neutral texts."""

    least_task_kept: float = 0.95  # share of the source's task accuracy
    least_top1: float = 0.85
    most_kl_mean: float = 0.10  # nats
    most_kl_p99: float = 2.0  # nats


def judge(quality: Quality, gate: Gate) -> Verdict:
    """Say which bounds are missed, each in one sentence with both figures."""
    loss = quality.own or quality.neutral
    misses = []
    if quality.task is not None and quality.task.kept < gate.least_task_kept:
        misses.append(f"it keeps {quality.task.kept:.1%} of the source's task accuracy, {gate.least_task_kept:.0%} are needed")
    if loss is not None and loss.top1 is not None and loss.top1 < gate.least_top1:
        misses.append(f"its likeliest token is the source's at {loss.top1:.1%}, {gate.least_top1:.0%} are needed")
    if loss is not None and loss.kl_mean is not None and loss.kl_mean > gate.most_kl_mean:
        misses.append(f"it diverges by {loss.kl_mean:.3f} nats on average, {gate.most_kl_mean:g} are allowed")
    if loss is not None and loss.kl_p99 is not None and loss.kl_p99 > gate.most_kl_p99:
        misses.append(f"its 99th percentile diverges by {loss.kl_p99:.2f} nats, {gate.most_kl_p99:g} are allowed")
    return Verdict(tuple(misses))
