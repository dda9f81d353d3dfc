"""The documents tell the truth about the code."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from foundry_lite import __version__
from foundry_lite.cli.faults import EXIT_CODES
from foundry_lite.server.app import create_app
from foundry_lite.server.state import Site
from foundry_lite.settings import Settings
from foundry_lite.store.store import Store
from tests.docs import cli_reference
from tests.support import ROOT

DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md")])


def test_the_command_reference_is_what_the_commands_print() -> None:
    page = cli_reference.PAGE.read_text(encoding="utf-8")
    assert cli_reference.render(page) == page, "run 'make fix'"


def test_every_exit_code_is_documented() -> None:
    page = cli_reference.PAGE.read_text(encoding="utf-8")
    for code in {0, 130, *(code for _, code in EXIT_CODES)}:
        assert re.search(rf"^\| {code} \|", page, re.M), code


def test_every_setting_has_a_heading() -> None:
    page = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    for one in dataclasses.fields(Settings):
        assert f"### `FOUNDRY_LITE_{one.name.upper()}`" in page


def test_every_route_is_documented(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    app = create_app(Site(Store(tmp_path), Settings()))._app  # type: ignore[attr-defined]  # inside the guards
    for route in app.routes:
        path = route.path.replace("{model:path}", "{id}")
        assert f"{min(route.methods - {'HEAD'})} {path}" in page


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_to_a_file_resolves(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", document.read_text(encoding="utf-8")):
        assert (document.parent / target).exists(), target


def test_the_map_of_the_code_names_every_module() -> None:
    page = (ROOT / "docs" / "ARCHITECTURE.md").read_text(encoding="utf-8")
    for path in (ROOT / "foundry_lite").rglob("*.py"):
        if path.name != "__init__.py":
            assert re.search(rf"\b{path.stem}\b", page), path


def test_the_changelog_begins_with_this_version_or_the_unreleased() -> None:
    page = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    first = re.search(r"^## (\S+)", page, re.M)
    assert first is not None
    assert first[1] in ("Unreleased", __version__)
