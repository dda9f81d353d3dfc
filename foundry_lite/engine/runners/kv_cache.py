"""KV cache, memory for keys and values: one array a layer and kind, whose pages come when touched and go in `trim`.

The arrays are as large as all rows at full context, but that is address space only: the kernel gives a page when a
key is first written to it, so a row takes what its conversation takes, grows without being moved, and `trim` gives
the pages back. Each head of a row begins on a page of its own, so what is given back is whole pages.
"""

from __future__ import annotations

import math
import mmap
import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

_NO_RESERVE = 0x4000 if sys.platform == "linux" else 0  # MAP_NORESERVE, which the mmap module does not name


class KvCache:
    """Keys and values of ``rows`` sequences, and how long each of them is.

    ``arrays[i]`` has the shape ``(rows, heads, capacity, head_size)``; ``capacity`` is at least one token more than
    ``context_length``, so that there is always an unused position behind a sequence.
    """

    def __init__(
        self, tensors: int, *, rows: int, heads: int, context_length: int, head_size: int, kind: type[Any]
    ) -> None:
        token_bytes = head_size * np.dtype(kind).itemsize  # of one head
        self.granule = mmap.PAGESIZE // math.gcd(mmap.PAGESIZE, token_bytes)  # tokens; memory comes in these
        self.capacity = -(-(context_length + 1) // self.granule) * self.granule
        self.bytes_per_token = tensors * heads * token_bytes
        self.lengths = np.zeros(rows, np.int64)
        self._touched = np.zeros(rows, np.int64)  # tokens whose pages are there
        self._heads = heads
        self._token_bytes = token_bytes
        shape = (rows, heads, self.capacity, head_size)
        self._memory = [_reserve(rows * heads * self.capacity * token_bytes) for _ in range(tensors)]
        self.arrays: list[NDArray[Any]] = [np.frombuffer(one, kind).reshape(shape) for one in self._memory]

    @property
    def used_bytes(self) -> int:
        """Bytes of the pages that are there."""
        return int((-(-self._touched // self.granule)).sum()) * self.granule * self.bytes_per_token

    def touch(self, start: int, count: int) -> None:
        """Note that rows ``start`` to ``start + count`` have been written up to their lengths."""
        rows = slice(start, start + count)
        np.maximum(self._touched[rows], self.lengths[rows], out=self._touched[rows])

    def keep(self, row: int, length: int) -> None:
        """Shorten a row, and give back the pages that lie wholly beyond its end."""
        self.lengths[row] = min(self.lengths[row], length)
        self.trim(row)

    def trim(self, row: int) -> None:
        """Give back the pages beyond the end of a row."""
        first = -(-int(self.lengths[row]) // self.granule) * self.granule
        last = -(-int(self._touched[row]) // self.granule) * self.granule
        if first >= last:
            return
        size = (last - first) * self._token_bytes
        for head in range(self._heads):
            start = ((row * self._heads + head) * self.capacity + first) * self._token_bytes
            for memory in self._memory:
                _give_back(memory, start, size)
        self._touched[row] = first

    def copy(self, source: int, target: int, length: int) -> None:
        """Make row ``target`` hold the first ``length`` tokens of row ``source``."""
        for array in self.arrays:
            array[target, :, :length] = array[source, :, :length]
        self.lengths[target] = length
        self.touch(target, 1)
        self.trim(target)

    def swap(self, first: int, second: int) -> None:
        """Exchange two rows."""
        if self.lengths[first] > self.lengths[second]:
            first, second = second, first
        shorter, longer = int(self.lengths[first]), int(self.lengths[second])
        for array in self.arrays:
            aside = array[first, :, :shorter].copy()
            array[first, :, :longer] = array[second, :, :longer]
            array[second, :, :shorter] = aside
        self.lengths[first], self.lengths[second] = longer, shorter
        for row in (first, second):
            self.touch(row, 1)
            self.trim(row)


def _reserve(size: int) -> mmap.mmap:
    if sys.platform == "win32":
        return mmap.mmap(-1, size)
    try:
        memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _NO_RESERVE)
    except OSError as error:  # a system that counts address space as memory, or a limit on it
        raise MemoryError(f"no address space for keys and values ({size} bytes a layer): {error.strerror}") from error
    if sys.platform == "linux":
        memory.madvise(mmap.MADV_NOHUGEPAGE)  # a huge page would hold 2 MB for a few keys, and not give them back
    return memory


def _give_back(memory: mmap.mmap, start: int, size: int) -> None:
    if sys.platform == "linux":  # elsewhere the pages stay, to be used again by the next sequence of this row
        memory.madvise(mmap.MADV_DONTNEED, start, size)
