"""Pressure on this machine's processor while something is measured: what others took of it."""

from __future__ import annotations

from collections.abc import Iterable

from foundry_lite import machine
from foundry_lite.catalog.report import Pressure
from foundry_lite.machine import CpuTimes

_TICKS = 0.02  # seconds of a core: what counts of ticks of 10 ms, read at both ends, may be off


class PressureMeter:
    """A measurement of pressure, begun when it is made; ``pids`` are the processes whose work is not pressure."""

    def __init__(self, pids: Iterable[int]) -> None:
        self._pids = tuple(pids)
        self._began = machine.cpu_times(self._pids)

    def read(self) -> Pressure:
        """Return the pressure since the beginning."""
        return pressure_between(self._began, machine.cpu_times(self._pids))


def pressure_between(began: CpuTimes, ended: CpuTimes) -> Pressure:
    """Return what others took of the processor between two readings."""
    wall = max(ended.clock - began.clock, 1e-9)
    elapsed = wall * ended.cores
    others = (ended.busy - began.busy) - (ended.own - began.own) - _TICKS * ended.cores
    waited = None if began.waited is None or ended.waited is None else _share(ended.waited - began.waited, wall)
    return Pressure(
        others=_share(others, elapsed),
        stolen=_share(ended.stolen - began.stolen, elapsed),
        waited=waited,
        load=machine.load_average(),
    )


def _share(seconds: float, elapsed: float) -> float:
    return round(min(max(seconds / elapsed, 0.0), 1.0), 3)
