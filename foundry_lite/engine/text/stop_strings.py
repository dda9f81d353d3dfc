"""Stop strings: the text of an answer passes through, up to the first of them and without it."""

from __future__ import annotations


class StopMatcher:
    """Finds the earliest stop string in a text that arrives in pieces.

    However the text is cut, the joined output is the same: the text before the first position where a stop string
    begins. What might still become a stop string is held back until it is decided.
    """

    def __init__(self, stops: tuple[str, ...]) -> None:
        self._stops = tuple(stop for stop in stops if stop)
        self._held = ""
        self.matched = False

    def feed(self, piece: str) -> str:
        """Return what may be shown now. After a match, nothing more."""
        if self.matched or not self._stops:
            return "" if self.matched else piece
        text = self._held + piece
        found = [at for stop in self._stops if (at := text.find(stop)) >= 0]
        undecided = self._undecided(text)
        if found and min(found) <= undecided:
            self.matched, self._held = True, ""
            return text[: min(found)]
        self._held = text[undecided:]
        return text[:undecided]

    def flush(self) -> str:
        """Return what was held back: the text has ended, so it is no stop string, unless one is wholly inside it."""
        held, self._held = self._held, ""
        found = [at for stop in self._stops if (at := held.find(stop)) >= 0]
        if found and not self.matched:
            self.matched = True
            return held[: min(found)]
        return "" if self.matched else held

    def _undecided(self, text: str) -> int:
        """Return the first position where a stop string might begin that the text so far does not complete."""
        return min(_undecided_by(stop, text) for stop in self._stops)


def _undecided_by(stop: str, text: str) -> int:
    for start in range(max(0, len(text) - len(stop) + 1), len(text)):
        if stop.startswith(text[start:]):
            return start
    return len(text)
