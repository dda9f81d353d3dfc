"""Output of a command: answers on stdout, notes and errors on stderr, one JSON document with ``--json``."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import msgspec
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text


class Output:
    """Stdout and stderr as a command uses them."""

    def __init__(self, *, as_json: bool = False) -> None:
        self.as_json = as_json
        self._out = Console(highlight=False, soft_wrap=True)
        self._err = Console(stderr=True, highlight=False, soft_wrap=True)

    @property
    def is_interactive(self) -> bool:
        return sys.stdin.isatty() and self._out.is_terminal

    def json(self, value: Any) -> None:
        """Print one JSON document, which is UTF-8 in any locale."""
        sys.stdout.flush()
        sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n")

    def line(self, text: str = "") -> None:
        """Print a line of the answer."""
        self._out.print(Text(text))

    def write(self, text: str) -> None:
        """Print a piece of the answer at once, without a line end."""
        sys.stdout.write(text)
        sys.stdout.flush()

    def table(self, headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Print rows under headers; headers that end in a unit or count are right-aligned."""
        table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
        for header in headers:
            numeric = any(row[len(table.columns)].replace(".", "", 1).lstrip("-").isdigit() for row in rows)
            table.add_column(header, justify="right" if numeric else "left", no_wrap=True)
        for row in rows:
            table.add_row(*(Text(cell) for cell in row))
        wide = self._out.options.update(max_width=10_000)
        width = max(self._out.width, Measurement.get(self._out, wide, table).maximum)
        Console(highlight=False, width=width).print(table)  # a line that is too long wraps: no figure is cut off

    def talk(self, text: str) -> None:
        """Print a note beside the answer, on stderr."""
        self._say(Text(text, style="dim"))

    def error(self, message: str, hint: str) -> None:
        """Print an error's message and hint, on stderr."""
        self._say(Text.assemble(("error: ", "bold red"), message))
        if hint:
            self._say(Text(f"hint: {hint}"))

    def _say(self, text: Text) -> None:
        """Print on stderr, if it can be written: an answer is not lost because a note beside it cannot be printed."""
        with suppress(OSError):
            self._err.print(text)

    @contextmanager
    def status(self, text: str) -> Iterator[StatusLine]:
        """Show a line that rewrites itself while something runs; nothing where stderr is no terminal."""
        if not self._err.is_terminal:
            yield StatusLine(None)
            return
        with self._err.status(text) as live:
            yield StatusLine(live)


class StatusLine:
    """The line that `Output.status` rewrites."""

    def __init__(self, live: Any) -> None:
        self._live = live

    def update(self, text: str) -> None:
        """Replace the line."""
        if self._live is not None:
            self._live.update(text)


def megabytes(size_bytes: int | None) -> str:
    """Format a size in MB (10^6 bytes), for a table whose header has the unit."""
    return "-" if size_bytes is None else f"{size_bytes / 1e6:.1f}"
