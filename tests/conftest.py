"""Fixtures: a store of tiny real models, and a daemon that serves it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from tests import built_folders, tiny_model
from tests.support import Daemon


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with *alphabet*, *slow* (about 5 ms a token, without end) and *slow-too*."""
    home = tmp_path_factory.mktemp("home")
    tiny_model.install(home, "alphabet")
    for name in ("slow", "slow-too"):
        tiny_model.install(home, name, endless=True, context=4096, work=4000)
    return home


@pytest.fixture(scope="module")
def daemon(home: Path) -> Iterator[Daemon]:
    daemon = Daemon(home)
    yield daemon
    log = daemon.stop()
    assert "Traceback" not in log, log


@pytest.fixture(scope="module")
def client(daemon: Daemon) -> openai.OpenAI:
    return daemon.client()


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of the real builder; see `built_folders`."""
    return built_folders.build(tmp_path_factory.mktemp("built"))
