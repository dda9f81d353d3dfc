"""The gate: what a variant may lose and still be taken. The bounds are justified in docs/decisions/0018."""

from __future__ import annotations

from msgspec import Struct

from foundry_lite.catalog.report import Quality, TextLoss, Verdict


class Gate(Struct, frozen=True):
    """Bounds. Those of texts apply to the user's own data where it is given, else to the neutral texts."""

    least_task_kept: float = 0.95  # share of the source's task accuracy
    least_top1: float = 0.85  # share of positions
    most_kl_mean: float = 0.10  # nats
    most_kl_p99: float = 1.0  # nats
    least_similarity: float = 0.99  # of an encoder's vectors, the mean cosine


def judge(quality: Quality, gate: Gate) -> Verdict:
    """Say which bounds are missed, each in one sentence with both figures.

    What was not measured misses nothing: a model without a source has other checks.
    """
    if quality.similarity is not None:
        return Verdict(_misses_of_vectors(quality.similarity, gate))
    texts, loss = ("your texts", quality.own) if quality.own is not None else ("neutral texts", quality.neutral)
    return Verdict((*_misses_of_task(quality, gate), *(_misses_of_texts(texts, loss, gate) if loss else ())))


def _misses_of_vectors(similarity: float, gate: Gate) -> tuple[str, ...]:
    if similarity >= gate.least_similarity:
        return ()
    return (f"its vectors or scores are {similarity:.4f} like the source's, {gate.least_similarity:g} are needed",)


def _misses_of_task(quality: Quality, gate: Gate) -> tuple[str, ...]:
    task = quality.task
    if task is None or task.kept >= gate.least_task_kept:
        return ()
    return (
        f"it keeps {task.kept:.1%} of the source's task accuracy ({task.passed} instead of {task.source_passed} of "
        f"{task.total} cases), {gate.least_task_kept:.0%} are needed",
    )


def _misses_of_texts(texts: str, loss: TextLoss, gate: Gate) -> tuple[str, ...]:
    misses = []
    if loss.top1 is not None and not loss.top1 >= gate.least_top1:
        misses.append(
            f"on {texts} its likeliest token is the source's at {loss.top1:.1%} of {loss.positions} positions, "
            f"{gate.least_top1:.0%} are needed"
        )
    if loss.kl_mean is not None and not loss.kl_mean <= gate.most_kl_mean:
        misses.append(
            f"on {texts} it diverges by {loss.kl_mean:.3f} nats on average, {gate.most_kl_mean:g} are allowed"
        )
    if loss.kl_p99 is not None and not loss.kl_p99 <= gate.most_kl_p99:
        misses.append(
            f"on {texts} it diverges by {loss.kl_p99:.2f} nats at one position in a hundred, "
            f"{gate.most_kl_p99:g} are allowed"
        )
    return tuple(misses)
