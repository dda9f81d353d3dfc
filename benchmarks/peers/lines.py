"""The child's end of the pipe: one JSON object a line, asked and answered in turn.

First the child says ``{"versions": {...}}``. Each line it then reads is an ask, ``{"prompts": [[token, ...], ...],
"new_tokens": n, "reuse": false}``; all prompts begin at once. It answers
``{"streams": [[[seconds, tokens], ...], ...]}``, the arrivals of each stream in seconds since the ask was begun, or
``{"error": "..."}``.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from typing import Any, TextIO

Arrivals = list[tuple[float, int]]
Run = Callable[[list[list[int]], int, bool], list[Arrivals]]


def claim_stdout() -> TextIO:
    """Return the real stdout for the protocol; whatever else the process prints goes to stderr."""
    own = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return own


def serve(out: TextIO, versions: dict[str, str], run: Run) -> None:
    """Answer asks until stdin ends."""
    tell(out, {"versions": versions})
    for line in sys.stdin:
        ask = json.loads(line)
        try:
            tell(out, {"streams": run(ask["prompts"], ask["new_tokens"], ask["reuse"])})
        except Exception as error:  # noqa: BLE001 - whatever an engine raises is its failure, told to who asked
            tell(out, {"error": f"{type(error).__name__}: {error}"})


def tell(out: TextIO, message: dict[str, Any]) -> None:
    """Write one line."""
    out.write(json.dumps(message) + "\n")
    out.flush()
