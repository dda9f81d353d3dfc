"""Pressure on the processor while something is measured."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from foundry_lite import machine
from foundry_lite.bench.pressure import PressureMeter, pressure_between
from foundry_lite.catalog.report import Pressure
from foundry_lite.machine import CpuTimes


def test_the_work_of_another_process_is_pressure() -> None:
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as burner:
        try:
            time.sleep(0.3)  # until it burns
            meter = PressureMeter((os.getpid(),))
            time.sleep(1.5)
            found = meter.read()
        finally:
            burner.kill()
    assert found.others > 0.4 / machine.usable_cores()  # a whole core, or its share of one where others work as well
    assert found.is_disturbing == (found.taken > 0.1)


def test_our_own_work_is_none() -> None:
    began = CpuTimes(clock=10.0, cores=2, busy=100.0, stolen=1.0, own=50.0, waited=3.0)
    ended = CpuTimes(clock=12.0, cores=2, busy=103.5, stolen=1.2, own=53.4, waited=3.5)
    found = pressure_between(began, ended)
    assert (found.others, found.stolen, found.waited) == (0.015, 0.05, 0.25)
    assert found.taken == pytest.approx(0.065)
    assert not found.is_disturbing


@pytest.mark.parametrize(
    ("others", "stolen", "is_disturbing"), [(0.04, 0.05, False), (0.2, 0.0, True), (0.0, 0.2, True)]
)
def test_more_than_a_tenth_of_the_processor_disturbs(others: float, stolen: float, is_disturbing: bool) -> None:
    assert Pressure(others, stolen).is_disturbing == is_disturbing


def test_where_linux_tells_nothing_nothing_is_said() -> None:
    one = CpuTimes(clock=10.0, cores=2, busy=100.0, stolen=0.0, own=50.0, waited=None)
    assert pressure_between(one, one).waited is None


@pytest.mark.parametrize(
    ("listed", "allowed", "counted"),
    [
        (4, {1, 2}, [1, 2]),  # taskset
        (2, {0, 1}, [0, 1]),
        (2, {6, 7}, [0, 1]),  # LXC lists the container's own cores, numbered anew
        (2, {1, 6}, [0, 1]),
        (3, {0, 1, 3}, [0, 1, 2]),  # core 2 is offline
        (2, {0, 1, 2, 3}, [0, 1]),
    ],
)
def test_cores_whose_numbers_do_not_fit_the_list_are_not_looked_for_in_it(
    listed: int, allowed: set[int], counted: list[int]
) -> None:
    assert machine.cores_counted(listed, allowed) == counted
