"""The hook that checks commit messages, run as git runs it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.support import ROOT

_BODY = "\n\nSpeeds were told 20 times too fast.\n"


@pytest.mark.parametrize(
    ("message", "says"),
    [
        (f"bench: count cached tokens{_BODY}", ""),
        (f"bench: count cached tokens{_BODY}# a comment of git's\n", ""),
        ("Merge branch 'main'\n", ""),
        (f"Count cached tokens{_BODY}", "the subject must be 'area: what'"),
        (f"bench: {'x' * 66}{_BODY}", "the subject has 73 characters; 72 are the most"),
        ("bench: count cached tokens\n", "the body is missing"),
        ("bench: count cached tokens\nand more\n", "leave the second line empty"),
    ],
)
def test_a_message_has_a_subject_and_a_reason(tmp_path: Path, message: str, says: str) -> None:
    path = tmp_path / "COMMIT_EDITMSG"
    path.write_text(message)
    done = subprocess.run([ROOT / ".githooks" / "commit-msg", path], capture_output=True, text=True)
    assert done.returncode == (1 if says else 0), done.stderr
    assert says in done.stderr
