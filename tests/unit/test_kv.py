"""Memory for keys and values: what is touched is there, what is forgotten is given back to the system."""

from __future__ import annotations

import sys

import numpy as np
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundry_lite.engine.runners.kv_cache import KvCache

MB = 2**20


def rows(count: int = 4, context: int = 100, head_size: int = 16) -> KvCache:
    return KvCache(2, rows=count, heads=2, context_length=context, head_size=head_size, kind=np.float32)


def write(kv: KvCache, row: int, length: int, value: float) -> None:
    for array in kv.arrays:
        array[row, :, :length] = value
    kv.lengths[row] = length
    kv.touch(row, 1)


def holds(kv: KvCache, row: int, value: float) -> bool:
    return all(bool((array[row, :, : kv.lengths[row]] == value).all()) for array in kv.arrays)


def test_there_is_always_a_place_behind_the_longest_sequence() -> None:
    for context in (1, 63, 64, 65, 1000):
        kv = rows(context=context)
        assert kv.capacity > context
        assert kv.capacity % kv.granule == 0


@pytest.mark.skipif(sys.platform != "linux", reason="other systems keep the pages")
def test_memory_follows_what_is_held() -> None:
    process = psutil.Process()
    kv = KvCache(8, rows=16, heads=2, context_length=65536, head_size=64, kind=np.float32)
    before = process.memory_info().rss
    write(kv, 3, 8000, 1.0)
    grown = process.memory_info().rss - before
    assert kv.used_bytes == pytest.approx(8000 * kv.bytes_per_token, rel=0.01)
    assert grown == pytest.approx(kv.used_bytes, rel=0.1)
    kv.keep(3, 1000)
    assert holds(kv, 3, 1.0)
    assert process.memory_info().rss - before == pytest.approx(kv.used_bytes, abs=8 * MB)
    kv.keep(3, 0)
    assert kv.used_bytes == 0
    assert process.memory_info().rss - before < 8 * MB


def test_a_head_size_that_does_not_divide_a_page_works_too() -> None:
    kv = KvCache(2, rows=3, heads=3, context_length=200, head_size=80, kind=np.float32)
    write(kv, 0, 200, 1.0)
    write(kv, 1, 200, 2.0)
    kv.keep(0, 5)
    assert holds(kv, 0, 1.0)
    assert holds(kv, 1, 2.0)


ACTION = st.tuples(
    st.sampled_from(["write", "keep", "copy", "swap"]), st.integers(0, 3), st.integers(0, 3), st.integers(0, 100)
)


@given(st.lists(ACTION, max_size=30))
def test_rows_keep_what_they_were_given(actions: list[tuple[str, int, int, int]]) -> None:
    kv = rows()
    value = [0.0] * 4
    length = [0] * 4
    for number, (action, row, other, size) in enumerate(actions, 1):
        if action == "write":
            write(kv, row, size, number)
            value[row], length[row] = number, size
        elif action == "keep":
            kv.keep(row, size)
            length[row] = min(length[row], size)
        elif action == "copy" and row != other:
            kv.copy(row, other, min(size, length[row]))
            value[other], length[other] = value[row], min(size, length[row])
        elif action == "swap" and row != other:
            kv.swap(row, other)
            value[row], value[other] = value[other], value[row]
            length[row], length[other] = length[other], length[row]
        assert kv.lengths.tolist() == length
        assert all(holds(kv, one, value[one]) for one in range(4))
        pages = sum(-(-one // kv.granule) for one in length)
        assert kv.used_bytes >= pages * kv.granule * kv.bytes_per_token
    for row in range(4):
        kv.keep(row, 0)
    assert kv.used_bytes == 0


def test_keys_in_bytes_take_a_quarter() -> None:
    floats = rows(context=1000, head_size=64)
    small = KvCache(2, rows=4, heads=2, context_length=1000, head_size=64, kind=np.int8)
    assert small.bytes_per_token * 4 == floats.bytes_per_token
    assert small.granule == 4 * floats.granule  # whole pages are given back
    write(small, 1, 500, 7)
    write(small, 2, 900, -7)
    small.copy(1, 3, 300)
    small.swap(2, 3)
    small.keep(1, 10)
    assert small.lengths.tolist() == [0, 10, 300, 900]
    assert holds(small, 1, 7)
    assert holds(small, 2, 7)
    assert holds(small, 3, -7)
