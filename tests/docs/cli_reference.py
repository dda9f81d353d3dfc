"""docs/cli.md holds the ``--help`` of every command verbatim; ``python -m tests.docs.cli_reference`` writes it."""

from __future__ import annotations

import contextlib
import io

import typer

from foundry_lite.cli.app import app
from tests.support import ROOT

PAGE = ROOT / "docs" / "cli.md"
COMMANDS = (
    "serve", "run", "import", "build", "tune", "jobs", "jobs ls", "jobs show", "jobs logs", "jobs cancel",
    "jobs resume", "jobs clean", "list", "show", "card", "rm", "ps", "bench", "devices", "toolchain", "toolchain ls",
    "toolchain install", "toolchain rm", "toolchain pins",
)  # fmt: skip
WIDTH = 78  # what typer takes of 80 columns


def render(page: str) -> str:
    """Return the page with every help text as the commands print it now."""
    for command in COMMANDS:
        head = f"<!-- help: {command} -->\n```text\n"
        before, found, after = page.partition(head)
        if not found:
            raise ValueError(f"docs/cli.md has no block for {command}")
        page = before + head + shown(command).strip() + after[after.index("\n```") :]
    return page


def shown(command: str) -> str:
    """Return a command's help, as a terminal of 80 columns shows it.

    The application is asked in this process: two dozen interpreters would take ten seconds to say the same.
    """
    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        typer.main.get_command(app).main(
            [*command.split(), "--help"], prog_name="foundry-lite", standalone_mode=False, terminal_width=WIDTH
        )
    return text.getvalue()


if __name__ == "__main__":
    PAGE.write_text(render(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
