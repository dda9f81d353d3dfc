"""Real doors for the tests: the daemon and the command line as subprocesses."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

import openai

from foundry_lite.protocol.common.served import Served

ROOT = Path(__file__).parent.parent
COMMAND = (sys.executable, "-m", "foundry_lite.cli.main")


def environment(home: Path, **extra: str) -> dict[str, str]:
    """The environment of a command whose store is ``home``, with no settings of the person who runs the tests."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("FOUNDRY_LITE_")}
    # One thread of torch: two tests run at a time, and threads that wait for each other on busy cores wait long.
    return {**clean, "FOUNDRY_LITE_HOME": str(home), "COLUMNS": "200", "OMP_NUM_THREADS": "1", **extra}


def cli(home: Path, *arguments: str, stdin: str = "", **extra: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        [*COMMAND, *arguments], env=environment(home, **extra), input=stdin, capture_output=True, text=True, timeout=200
    )


def served(asked: str) -> Served:
    """How an answer names a model that was asked for by some name."""
    return Served(asked, "mine:cpu-int4", "cpu-int4", "fp_0123456789abcdef")


class Daemon:
    """A daemon on a free port, as ``foundry-lite serve --port 0`` starts it."""

    def __init__(self, home: Path, **extra: str) -> None:
        self._clients: list[openai.OpenAI] = []
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115 - a pipe that nobody reads would fill, and stop it
        self.process = subprocess.Popen(
            [*COMMAND, "serve", "--port", "0"],
            env=environment(home, **{"FOUNDRY_LITE_THREADS": "1", **extra}),
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        assert self.process.stdout is not None
        first = self.process.stdout.readline()
        found = re.search(r"http://[0-9.]+:(\d+)", first)
        if not found:
            raise AssertionError(f"the daemon did not start: {first} {self._end()}")
        self.url = found[0]
        self.port = int(found[1])

    def client(self) -> openai.OpenAI:
        client = openai.OpenAI(base_url=f"{self.url}/v1", api_key="none", max_retries=0, timeout=60)
        self._clients.append(client)
        return client

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(self.url + path, timeout=30) as response:
            return json.load(response)

    def worker(self, model: str) -> dict[str, Any] | None:
        """What ``/api/ps`` says of a model's worker."""
        return next((one for one in self.get("/api/ps")["models"] if one["model"].startswith(model + ":")), None)

    def stop(self) -> str:
        """Stop it as Ctrl-C does; return what it logged."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        return self._end()

    def kill(self) -> None:
        """End it as a crash does."""
        self.process.kill()
        self._end()

    def _end(self) -> str:
        self.process.communicate(timeout=30)
        self._log.seek(0)
        log = self._log.read()
        self._log.close()
        for client in self._clients:
            client.close()
        return log


def eventually(condition: Any, seconds: float = 10.0) -> None:
    """Wait until ``condition()`` is true; fail when it does not become so."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "this should have become true by now"
        time.sleep(0.02)


def process_is_gone(pid: int) -> bool:
    """Say whether a process has ended (a zombie has)."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return True
    return state == "Z"
