"""Compiled grammars that are kept for the next requests, within a bound of number and memory.

Found by the thread that takes requests, while another compiles (`engine.worker.compile_queue`).
"""

from __future__ import annotations

import threading
from collections import OrderedDict

from llguidance import LLMatcher

_KEPT = 32  # grammars
_KEPT_SECONDS = 2.0  # of compiling and masks in all of them: a second leaves up to 125 MB of states (docs/grammars.md)
_WEAR = 0.5  # seconds of masks after which a grammar is compiled anew: some 13 MB of states at worst


class Compiled:
    """A grammar ready to be copied. Copies share the states of its automata, which are never given back."""

    def __init__(self, matcher: LLMatcher, compiling: float) -> None:
        self.matcher = matcher
        self.compiling = compiling  # seconds
        self.seconds = 0.0  # that masks have taken; new states cost time, so this bounds them

    @property
    def is_worn(self) -> bool:
        return self.seconds > _WEAR

    @property
    def weight(self) -> float:
        """Seconds in which states were made, which stand for the memory that they take."""
        return self.compiling + min(self.seconds, _WEAR)


class CompiledGrammars:
    """The latest grammars, by their source, and the sources by the key of what they are written from."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, Compiled] = OrderedDict()
        self._sources: OrderedDict[bytes, str] = OrderedDict()
        self._lock = threading.Lock()

    def by_source(self, source: str) -> Compiled | None:
        """Return the compiled grammar, unless it has to be compiled anew."""
        with self._lock:
            return self._fresh(source)

    def by_key(self, key: bytes) -> Compiled | None:
        """Return the grammar that was written from what has this key."""
        with self._lock:
            source = self._sources.get(key)
            if source is None:
                return None
            self._sources.move_to_end(key)
            return self._fresh(source)

    def keep(self, source: str, compiled: Compiled) -> None:
        """Keep a grammar; of the others, those that were used last, as far as the bounds allow."""
        with self._lock:
            self._kept[source] = compiled
            self._kept.move_to_end(source)
            while len(self._kept) > 1 and (len(self._kept) > _KEPT or self._weight > _KEPT_SECONDS):
                self._kept.popitem(last=False)

    def name(self, key: bytes, source: str) -> None:
        """Note what a source was written from."""
        with self._lock:
            self._sources[key] = source
            self._sources.move_to_end(key)
            if len(self._sources) > 2 * _KEPT:
                self._sources.popitem(last=False)

    @property
    def _weight(self) -> float:
        return sum(one.weight for one in self._kept.values())

    def _fresh(self, source: str) -> Compiled | None:
        compiled = self._kept.get(source)
        if compiled is None or compiled.is_worn:
            return None
        self._kept.move_to_end(source)
        return compiled
