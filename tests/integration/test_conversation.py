"""``run`` on a terminal: a conversation, through a real pseudo-terminal."""

from __future__ import annotations

import os
import pty
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import COMMAND, environment
from tests.tiny_model import ALPHABET


class Terminal:
    """A command on a pseudo-terminal."""

    def __init__(self, home: Path, *arguments: str) -> None:
        self._ours, theirs = pty.openpty()
        self.process = subprocess.Popen(
            [*COMMAND, *arguments],
            env=environment(home, TERM="dumb"),
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            preexec_fn=lambda: os.close(os.open(os.ttyname(theirs), os.O_RDWR)),  # makes it the controlling terminal
        )
        os.close(theirs)
        self.seen = ""

    def type(self, text: str) -> None:
        os.write(self._ours, text.encode())

    def expect(self, text: str, seconds: float = 20.0) -> None:
        """Read until ``text`` appears, and forget what came before its end."""
        deadline = time.monotonic() + seconds
        while text not in self.seen:
            assert time.monotonic() < deadline, f"{text!r} did not appear in {self.seen!r}"
            self.seen += os.read(self._ours, 4096).decode()
        self.seen = self.seen.split(text, 1)[1]

    def close(self) -> int:
        try:
            return self.process.wait(timeout=20)
        finally:
            self.process.kill()
            self.process.wait()
            os.close(self._ours)


@pytest.fixture
def alphabet(home: Path) -> Iterator[Terminal]:
    terminal = Terminal(home, "run", "alphabet")
    yield terminal
    terminal.process.kill()


def test_a_conversation_answers_each_line_and_ends_with_bye(alphabet: Terminal) -> None:
    for _ in range(2):
        alphabet.expect(">>> ")
        alphabet.type("hi\n")
        alphabet.expect(ALPHABET)
    alphabet.expect(">>> ")
    alphabet.type("/bye\n")
    assert alphabet.close() == 0


def test_ctrl_d_ends_a_conversation_and_ctrl_c_at_the_prompt_interrupts_it(home: Path) -> None:
    for key, code in (("\x04", 0), ("\x03", 130)):
        terminal = Terminal(home, "run", "alphabet")
        terminal.expect(">>> ")
        time.sleep(0.5)  # CPython's readline loses a signal that comes between its prompt and its select()
        terminal.type(key)
        assert terminal.close() == code


def test_ctrl_c_stops_an_answer_and_not_the_conversation(home: Path) -> None:
    terminal = Terminal(home, "run", "slow")
    terminal.expect(">>> ")
    terminal.type("hi\n")
    terminal.expect("abcdefg")
    terminal.type("\x03")
    terminal.expect(">>> ")
    terminal.type("/bye\n")
    assert terminal.close() == 0
