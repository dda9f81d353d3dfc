"""The result of a run: what is saved as JSON, and the table that is printed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec import Struct

from benchmarks.peers.figures import Spread, spread


class Row(Struct, frozen=True):
    """One figure of one engine under one workload, over ``rounds`` rounds."""

    workload: str
    figure: str
    unit: str
    peer: str
    value: Spread
    rounds: int


class Report(Struct, frozen=True):
    """All figures with their evidence. ``shares``: what of the engine's own speed arrives through HTTP, by workload."""

    date: str
    machine: dict[str, str | int]
    versions: dict[str, str]
    model: str
    threads: int
    rounds: int
    seed: int
    is_quick: bool
    are_idle_peers_stopped: bool
    rows: tuple[Row, ...]
    shares: dict[str, Spread]
    failures: dict[str, str]


def http_share(through: Sequence[float], alone: Sequence[float]) -> Spread | None:
    """Return what part of the engine's own tokens/s comes through HTTP, each round compared with itself.

    ``None`` where one of the two has not run in every round of the other.
    """
    if not through or len(through) != len(alone):
        return None
    return spread([with_http / without for with_http, without in zip(through, alone, strict=True)], digits=4)


def format_table(report: Report) -> str:
    """Return the table: medians, lowest and highest, and how many times better the first engine is than each other."""
    lines = [f"{report.model}, {report.threads} threads; medians (lowest-highest) of {report.rounds} rounds"]
    lines += ["times: the first engine's advantage, more is better for it"] if report.rows else []
    for group in _groups(report.rows):
        lines += ["", f"{group[0].workload}: {group[0].figure}, {group[0].unit}"]
        lines += [_format_row(row, group[0]) for row in group]
    if shares := report.shares:
        lines += ["", "share of the engine's own tokens/s that arrives through HTTP"]
        lines += [f"  {name:<24} {one.median:10.1%} ({one.low:.1%}-{one.high:.1%})" for name, one in shares.items()]
    lines += [""] + [f"failed: {peer}: {why}" for peer, why in report.failures.items()]
    lines += [f"{name} {version}" for name, version in report.versions.items()]
    idle = "stopped by SIGSTOP" if report.are_idle_peers_stopped else "left running"
    return "\n".join([*lines, f"{report.machine['processor']}; {report.date}; idle engines {idle}"])


def _groups(rows: Iterable[Row]) -> list[list[Row]]:
    """Put the engines of one figure together, in the order of the rows."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.workload, row.figure), []).append(row)
    return list(groups.values())


def _format_row(row: Row, first: Row) -> str:
    value = row.value
    text = f"  {row.peer:<24} {value.median:10.1f} ({value.low:.1f}-{value.high:.1f})"
    if row is first or not value.median or not first.value.median:
        return text
    ratio = first.value.median / value.median
    return f"{text:<64} {1 / ratio if row.unit == 'ms' else ratio:6.2f} times"
