"""The log: a thread writes it to stderr, so that whoever reads it slowly, or never, does not hold up the event loop."""

from __future__ import annotations

import logging
import sys
import threading
from queue import SimpleQueue
from typing import TextIO

_FORMAT = "%(asctime)s %(levelname)-7s %(message)s"
_MOST_LINES = 10_000  # that wait to be written; new ones are dropped then
_PATIENCE = 1.0  # seconds that the last lines get


class LogHandler(logging.Handler):
    """Hands lines to a thread of its own."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter(_FORMAT))
        self._stream = stream
        self._lines: SimpleQueue[str | None] = SimpleQueue()
        self._dropped = 0
        self._writer = threading.Thread(target=self._write, name="log", daemon=True)
        self._writer.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Queue a line; drop it when too many wait, and write the number of dropped lines before the next one taken."""
        if self._lines.qsize() >= _MOST_LINES:
            self._dropped += 1
            return
        lost = f"{self._dropped} lines before this one were lost: nobody read them\n" if self._dropped else ""
        self._dropped = 0
        self._lines.put(f"{lost}{self.format(record)}\n")

    def close(self) -> None:
        """Write what waits, as far as it is read."""
        self._lines.put(None)
        self._writer.join(_PATIENCE)
        super().close()

    def _write(self) -> None:
        while (line := self._lines.get()) is not None:
            try:
                self._stream.write(line)
                self._stream.flush()
            except (OSError, ValueError):  # nobody can read it any more
                return


def log_to_stderr(level: str) -> None:
    """Log from ``level`` up; `logging.shutdown` at the end of the process writes the last lines."""
    logging.basicConfig(level=level.upper(), handlers=[LogHandler(sys.stderr)])
