"""Choice among the measured candidates, with the reason as a sentence. Pure: no clock, no disk.

The rule, justified in docs/decisions/0015: candidates that miss a constraint or the gate are out; of the rest the
highest throughput at the required number of streams wins; within the measured noise of it, the lowest TTFT; within the
noise of that, the smallest memory. Noise is the median over all candidates of (highest - lowest) / median of a
candidate's rounds.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec

from foundry_lite.catalog.report import Measured, Quality
from foundry_lite.conversion.evaluate.gate import Gate, judge
from foundry_lite.store.choices import Constraints, Trial


@dataclass(frozen=True, slots=True)
class Decision:
    """The table with its verdicts, in the order in which it was given; ``taken`` is ``None`` when nothing fits.

    ``reason`` is one sentence in either case: why this one, or which one comes nearest and what it misses.
    """

    table: tuple[Trial, ...]
    taken: Trial | None
    reason: str


def decide(trials: Sequence[Trial], constraints: Constraints) -> Decision:
    """Judge every trial and take one."""
    judged = [msgspec.structs.replace(one, refused=misses(one, constraints)) for one in trials]
    table = tuple(msgspec.structs.replace(one, dominated_by=_dominator(one, judged)) for one in judged)
    fitting = [one for one in table if one.measured is not None and not one.refused]
    if not fitting:
        return Decision(table, None, _nearest(table, constraints))
    taken, reason = _take(fitting, table, constraints)
    return Decision(table, taken, f"{taken.label}: {reason}.{_disturbance(fitting)}")


def _disturbance(trials: Sequence[Trial]) -> str:
    pressures = [one.measured.pressure for one in trials if one.measured is not None and one.measured.is_disturbed]
    most = max((one.taken for one in pressures if one is not None), default=0.0)
    if not most:
        return ""
    return (
        f" {len(pressures)} of {len(trials)} were measured while others took up to {most:.0%} of the processor: "
        "choose again on a quiet machine."
    )


def kept_share(quality: Quality | None) -> float | None:
    """Return one number for what is kept of the source, 1 for all; ``None`` where nobody measured it.

    The share of the source's task accuracy; without a task, the share of positions with the source's likeliest token,
    on the user's own texts if there are any; of an encoder, the similarity.
    """
    if quality is None:
        return None
    if quality.task is not None:
        return quality.task.kept
    top1 = (loss.top1 for loss in (quality.own, quality.neutral) if loss is not None)
    return next((one for one in top1 if one is not None), quality.similarity)


def memory(measured: Measured) -> int | None:
    """Return the bytes that a worker takes at its peak, or after loading where the system knows no peak."""
    return measured.peak_bytes if measured.peak_bytes is not None else measured.loaded_bytes


def misses(trial: Trial, constraints: Constraints) -> tuple[str, ...]:
    """Return the constraints that a trial misses, each in one sentence with both figures."""
    found = list(_misses_of_quality(trial, constraints.min_quality))
    measured = trial.measured
    if measured is None:
        return tuple(found)
    if constraints.max_memory is not None:
        taken = memory(measured)
        if taken is None:
            found.append("its memory is not known on this system")
        elif taken > constraints.max_memory:
            found.append(f"it takes {taken / 1e6:.0f} MB, {constraints.max_memory / 1e6:.0f} MB are allowed")
    if constraints.max_ttft is not None and measured.ttft_ms > constraints.max_ttft:
        found.append(f"its first token takes {measured.ttft_ms:.0f} ms, {constraints.max_ttft:g} ms are allowed")
    return tuple(found)


def _misses_of_quality(trial: Trial, least: float | None) -> Sequence[str]:
    kept = kept_share(trial.quality)
    if kept is None or trial.quality is None:
        return () if least is None else (f"what it loses was never measured, {least:.0%} must be kept",)
    gate = Gate()
    if least is not None:
        gate = msgspec.structs.replace(gate, **{"least_task_kept" if trial.quality.task else "least_top1": least})
    verdict = judge(trial.quality, gate).misses
    if least is not None and kept < least and not verdict:  # of an encoder, which that gate does not look at
        return (f"it keeps {kept:.1%} of the source, {least:.0%} are needed",)
    return verdict


def _dominator(trial: Trial, others: Sequence[Trial]) -> str:
    return next((one.label for one in others if one is not trial and dominates(one, trial)), "")


def dominates(one: Trial, other: Trial) -> bool:
    """Return whether a trial dominates the ``other``: it is nowhere worse and somewhere better.

    Compared are quality, memory, TTFT, and the tokens per second of a stream and of all. A figure that only one of
    them has leaves the two without an order.
    """
    ours, theirs = _scores(one), _scores(other)
    if not ours or not theirs:
        return False
    pairs = list(zip(ours, theirs, strict=True))
    if any((a is None) != (b is None) for a, b in pairs):
        return False
    known = [(a, b) for a, b in pairs if a is not None and b is not None]
    return all(a >= b for a, b in known) and any(a > b for a, b in known)


def _scores(trial: Trial) -> tuple[float | None, ...]:
    """Return figures of which more is better; none for a trial without a measurement."""
    measured = trial.measured
    if measured is None:
        return ()
    taken = memory(measured)
    return (
        kept_share(trial.quality),
        None if taken is None else -taken,
        -measured.ttft_ms,
        measured.decode_tokens_per_s,
        measured.system_tokens_per_s,
    )


def noise(rounds: Sequence[Sequence[float]]) -> float:
    """Return the median over candidates of their rounds' (highest - lowest) / median; 0 for a single round."""
    spreads = [(max(one) - min(one)) / statistics.median(one) for one in rounds if one and statistics.median(one) > 0]
    return statistics.median(spreads) if spreads else 0.0


def _take(fitting: Sequence[Trial], table: Sequence[Trial], constraints: Constraints) -> tuple[Trial, str]:
    if len(fitting) == 1:
        return fitting[0], f"the only one of {len(table)} candidates that meets every demand and passes the gate"
    best = max(fitting, key=_system)
    system_noise = noise([one.system_rounds for one in table])
    tied = [one for one in fitting if _system(one) >= _system(best) * (1 - system_noise)]
    figures = f"{{:.1f}} tokens/s at {constraints.streams} streams"
    if len(tied) == 1:
        second = max((one for one in fitting if one is not best), key=_system)
        reason = f"the highest throughput of {len(fitting)} that meet every demand, {figures.format(_system(best))}"
        return best, f"{reason}; {second.label} comes next with {_system(second):.1f}"
    among = f"within the noise of {system_noise:.1%} as fast as the fastest ({figures.format(_system(best))})"
    soonest = min(tied, key=_ttft)
    ttft_noise = noise([one.ttft_rounds for one in table])
    still = [one for one in tied if _ttft(one) <= _ttft(soonest) * (1 + ttft_noise)]
    if len(still) == 1:
        return soonest, f"{among}, and of those {len(tied)} the first to answer, after {_ttft(soonest):.0f} ms"
    smallest = min(still, key=_footprint)
    taken = memory(smallest.measured) if smallest.measured is not None else None
    size = "least memory" if taken is None else f"least memory, {taken / 1e6:.0f} MB"
    return smallest, f"{among} and to answer, and of those {len(still)} the one with the {size}"


def _system(trial: Trial) -> float:
    return 0.0 if trial.measured is None else trial.measured.system_tokens_per_s


def _ttft(trial: Trial) -> float:
    return float("inf") if trial.measured is None else trial.measured.ttft_ms


def _footprint(trial: Trial) -> tuple[float, int, int, str]:
    taken = None if trial.measured is None else memory(trial.measured)
    return (float("inf") if taken is None else taken, trial.size_bytes, trial.threads, trial.label)


def _nearest(table: Sequence[Trial], constraints: Constraints) -> str:
    measured = [one for one in table if one.measured is not None]
    if not measured:
        why_not = "; ".join(sorted({one.failed for one in table if one.failed}))
        return f"none of {len(table)} candidates could be measured: {why_not}"
    nearest = min(measured, key=lambda one: (_excess(one, constraints), -_system(one), one.label))
    return (
        f"none of {len(table)} candidates meets every demand; the nearest is {nearest.label}: "
        f"{' and '.join(nearest.refused)}"
    )


def _excess(trial: Trial, constraints: Constraints) -> float:
    """Return how far a trial is from the demands: the sum of what it misses, each relative to its bound."""
    measured, kept = trial.measured, kept_share(trial.quality)
    assert measured is not None
    ratios: list[tuple[float | None, float | None, Callable[[float, float], float]]] = [
        (memory(measured), constraints.max_memory, lambda value, most: value / most - 1),
        (measured.ttft_ms, constraints.max_ttft, lambda value, most: value / most - 1),
        (kept, constraints.min_quality, lambda value, least: 1 - value / least),
    ]
    over = [max(0.0, far(value, bound)) for value, bound, far in ratios if value is not None and bound]
    unseen = len(trial.refused) - sum(one > 0 for one in over)  # the gate's own bounds, and what is not known
    return sum(over) + max(0, unseen)
