"""Evidence of a variant: its measurements, as `Evidence` of the card and as checks of the manifest."""

from __future__ import annotations

import msgspec

from foundry_lite.catalog.card import Evidence
from foundry_lite.catalog.report import Measured, Quality, TaskScore, TextLoss
from foundry_lite.conversion.evaluate.gate import Gate
from foundry_lite.store.manifest import Check

_COSTS = ("ttft", "prefill", "decode", "system", "load", "memory_loaded", "memory_peak", "memory_model")
_Figure = tuple[str, float, str, int | None]


def losses(quality: Quality, pattern: Evidence) -> tuple[Evidence, ...]:
    """Return what a variant lost, one figure each; ``pattern`` has the date, the command, the machine, the versions."""
    figures = _text_figures("neutral", quality.neutral) + _text_figures("own", quality.own) + _task(quality.task)
    if quality.similarity is not None:
        figures.append(("similarity", quality.similarity, "share", None))
    return tuple(
        msgspec.structs.replace(pattern, metric=name, value=round(value, 6), unit=unit, samples=samples)
        for name, value, unit, samples in figures
    )


def _text_figures(texts: str, loss: TextLoss | None) -> list[_Figure]:
    if loss is None:
        return []
    figures = (
        ("top1_agreement", loss.top1, "share"),
        ("kl_mean", loss.kl_mean, "nats"),
        ("kl_p99", loss.kl_p99, "nats"),
        ("perplexity", loss.perplexity, "tokens"),
        ("perplexity.source", loss.source_perplexity, "tokens"),
    )
    return [(f"{name}.{texts}", value, unit, loss.positions) for name, value, unit in figures if value is not None]


def _task(task: TaskScore | None) -> list[_Figure]:
    if task is None or not task.total:
        return []
    return [
        ("task_accuracy", task.passed / task.total, "share", task.total),
        ("task_accuracy.source", task.source_passed / task.total, "share", task.total),
    ]


def costs(measured: tuple[Measured, ...], float32: Measured | None = None) -> tuple[Evidence, ...]:
    """Return speed and memory, each figure with the conditions in its name; those of the float32 graph come last."""
    own = [evidence for one in measured for evidence in _cost(one, "")]
    return tuple(own + ([] if float32 is None else _cost(float32, "float32.")))


def is_cost(evidence: Evidence) -> bool:
    """Return whether a figure is one of those that `costs` writes."""
    return evidence.metric.split(".")[0] in _COSTS


def _cost(one: Measured, what: str) -> list[Evidence]:
    conditions = f"{what}{one.provider}.threads-{one.threads}.prompt-{one.prompt_tokens}.streams-{one.streams}"
    figures = (
        ("ttft", one.ttft_ms, "ms"),
        ("prefill", one.prefill_tokens_per_s, "tokens/s"),
        ("decode", one.decode_tokens_per_s, "tokens/s"),
        ("system", one.system_tokens_per_s, "tokens/s"),
        ("load", one.load_seconds, "s"),
        ("memory_loaded", one.loaded_bytes, "bytes"),
        ("memory_peak", one.peak_bytes, "bytes"),
        ("memory_model", one.model_bytes, "bytes"),
    )
    machine = conditions_of(one)
    return [
        Evidence(f"{name}.{conditions}", value, unit, one.date[:10], one.command, None, machine, one.versions)
        for name, value, unit in figures
        if value is not None
    ]


def checks_of(quality: Quality, gate: Gate) -> tuple[Check, ...]:
    """Return the figures that the gate compares, with their bounds: a record, not the verdict."""
    checks = []
    if quality.task is not None:
        checks.append(Check("task_kept", round(quality.task.kept, 6), gate.least_task_kept, quality.task.total))
    if (loss := quality.own or quality.neutral) is not None:
        figures = (
            ("top1_agreement", loss.top1, gate.least_top1),
            ("kl_mean", loss.kl_mean, gate.most_kl_mean),
            ("kl_p99", loss.kl_p99, gate.most_kl_p99),
        )
        checks += [Check(name, round(v, 6), bound, loss.positions) for name, v, bound in figures if v is not None]
    return tuple(checks)


def conditions_of(one: Measured) -> str:
    """Return the machine that something was measured on, and what others took of it where that was much."""
    taken = f", disturbed: others took {one.pressure.taken:.0%} of it" if one.pressure and one.is_disturbed else ""
    return f"{name_machine(one.machine)}{taken}"


def name_machine(machine: dict[str, str | int]) -> str:
    """Return a machine (`devices.Machine.as_dict`) in a few words."""
    return (
        f"{machine.get('processor', 'unknown')}, {machine.get('cores', '?')} cores, {machine.get('system', 'unknown')}"
    )
