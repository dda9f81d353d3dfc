"""Rooms of the package: ``python -m tests.architecture.rooms`` prints them, and files that are long.

With ``--write`` their table in docs/ARCHITECTURE.md is written anew.
"""

from __future__ import annotations

import ast
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.support import ROOT

PACKAGE = ROOT / "foundry_lite"
MAP = ROOT / "docs" / "ARCHITECTURE.md"
_LONG = 500  # lines


@dataclass(frozen=True, slots=True)
class Room:
    """A package: its folder below foundry_lite, how many modules it has of its own, and its docstring's first line."""

    folder: str
    modules: int
    sentence: str


def rooms() -> list[Room]:
    """Return all packages, the outermost first."""
    return [_room(path.parent) for path in sorted(PACKAGE.rglob("__init__.py"), key=lambda path: path.parent.parts)]


def _room(folder: Path) -> Room:
    modules = sum(path.name not in ("__init__.py", "__main__.py") for path in folder.glob("*.py"))
    sentence = (ast.get_docstring(ast.parse((folder / "__init__.py").read_text(encoding="utf-8"))) or "").splitlines()
    name = folder.relative_to(PACKAGE).as_posix()
    return Room("" if name == "." else name, modules, sentence[0] if sentence else "")


def table() -> str:
    """Return the rows of the map's table."""
    return "\n".join(f"| `{one.folder}/` | {one.modules} | {one.sentence} |" for one in rooms() if one.folder)


def main() -> None:
    """Print the table, or write it into the map."""
    if "--write" in sys.argv:
        page = MAP.read_text(encoding="utf-8")
        head = "| folder | modules | holds |\n|---|---|---|\n"
        MAP.write_text(re.sub(re.escape(head) + r"(\|.*\n)+", lambda _: f"{head}{table()}\n", page), encoding="utf-8")
        return
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in sorted(PACKAGE.rglob("*.py"))}
    sys.stdout.write(f"{table()}\n{sum(lengths.values())} lines\n")
    for path, lines in lengths.items():
        if lines > _LONG:
            sys.stdout.write(f"warning: {path.relative_to(ROOT)} has {lines} lines\n")


if __name__ == "__main__":
    main()
