"""docs/cli.md holds the ``--help`` of every command verbatim; ``python -m tests.docs.cli_reference`` writes it."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

from tests.support import ROOT, cli

PAGE = ROOT / "docs" / "cli.md"
COMMANDS = (
    "serve", "run", "import", "build", "tune", "jobs", "jobs ls", "jobs show", "jobs logs", "jobs cancel",
    "jobs resume", "jobs clean", "list", "show", "card", "rm", "ps", "bench", "devices", "toolchain", "toolchain ls",
    "toolchain install", "toolchain rm", "toolchain pins",
)  # fmt: skip


def render(page: str) -> str:
    """Return the page with every help text as the commands print it now."""
    for command in COMMANDS:
        shown = cli(Path(tempfile.gettempdir()), *command.split(), "--help", COLUMNS="100", TERM="dumb").stdout
        text = re.sub(r"python3? -m foundry_lite\.cli\.main", "foundry-lite", shown)
        head = f"<!-- help: {command} -->\n```text\n"
        before, found, after = page.partition(head)
        if not found:
            raise ValueError(f"docs/cli.md has no block for {command}")
        page = before + head + text.strip() + after[after.index("\n```") :]
    return page


if __name__ == "__main__":
    PAGE.write_text(render(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
