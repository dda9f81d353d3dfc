"""From the command line to the peers: which engines run, with which model, in which interpreter."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

from benchmarks.peers.peers import ChildPeer, LlamaPeer, OursPeer, Peer, children
from benchmarks.peers.processes import PeerFailed
from benchmarks.peers.prompts import Words
from foundry_lite.catalog.reference import parse_reference
from foundry_lite.store.store import Store

KINDS = ("ours", "engine", "llama", "openvino", "genai")
SLOTS = 16
CONTEXT = 2560  # tokens of a stream at most: the longest prompt, its new tokens, and some to spare
_OPENVINO_CACHE_GIB = 2


@dataclass(frozen=True, slots=True)
class Lineup:
    """What was asked for. ``folder`` is the installed variant of the first model, whose tokenizer makes the prompts."""

    arguments: argparse.Namespace
    store: Store
    folder: Path

    @classmethod
    def from_arguments(cls, arguments: argparse.Namespace) -> Lineup:
        """Find the model. Raises a `FoundryError` where it is not installed."""
        store = Store(arguments.home)
        return cls(arguments, store, store.resolve(parse_reference(arguments.model)).folder)

    def variant(self, model: str | None) -> Path:
        """Return the folder of an installed model, by default the one that all run."""
        return self.folder if model is None else self.store.resolve(parse_reference(model)).folder


def make_peers(lineup: Lineup, words: Words, failures: dict[str, str]) -> list[Peer]:
    """Return the peers that can be tried; why the others cannot goes into ``failures``."""
    peers = []
    for name in lineup.arguments.peers.split(","):
        kind, _, model = name.partition(":")
        try:
            peers.append(_make_peer(lineup, words, name, kind, model or None))
        except PeerFailed as failure:
            failures[name] = str(failure)
    return peers


def _make_peer(lineup: Lineup, words: Words, name: str, kind: str, model: str | None) -> Peer:
    threads = lineup.arguments.threads
    match kind:
        case "ours":
            return OursPeer(name, _daemon_environment(lineup), model or lineup.arguments.model, words)
        case "engine":
            return ChildPeer(name, children("engine_child", lineup.variant(model), threads, SLOTS, CONTEXT), {})
        case "genai":
            given = lineup.arguments.genai if model is None else None
            folder = lineup.variant(model) if given is None else _require(given, "--genai FOLDER")
            command = children("genai_child", folder, threads, python=lineup.arguments.genai_python)
            return ChildPeer(name, command, {})
        case "llama":
            return _make_llama(lineup, name, model)
        case "openvino":
            folder = _require(model or lineup.arguments.openvino, "--openvino FOLDER")
            python = lineup.arguments.openvino_python
            command = children("openvino_child", folder, threads, _OPENVINO_CACHE_GIB, python=python)
            return ChildPeer(name, command, {})
    raise PeerFailed(f"no such engine; there are {', '.join(KINDS)}")


def _make_llama(lineup: Lineup, name: str, model: str | None) -> Peer:
    arguments = lineup.arguments
    file = _require(model or arguments.gguf, "--gguf FILE")
    if arguments.llama_server:
        return LlamaPeer.binary(name, arguments.llama_server.resolve(), file, arguments.threads, SLOTS, CONTEXT)
    command = children("llama_child", file, arguments.threads, SLOTS, CONTEXT, python=arguments.llama_python)
    return LlamaPeer(name, command)


def _require(given: str | Path | None, option: str) -> Path:
    if given is None:
        raise PeerFailed(f"it needs {option}")
    path = Path(given).resolve()
    if not path.exists():
        raise PeerFailed(f"{path} does not exist")
    return path


def _daemon_environment(lineup: Lineup) -> dict[str, str]:
    return {
        "FOUNDRY_LITE_HOME": str(lineup.arguments.home.resolve()),
        "FOUNDRY_LITE_THREADS": str(lineup.arguments.threads),
        "FOUNDRY_LITE_SLOTS": str(SLOTS),
        "FOUNDRY_LITE_CONTEXT_LENGTH": str(CONTEXT),
        "FOUNDRY_LITE_KEEP_ALIVE": "0",  # never unloaded between its turns
        "FOUNDRY_LITE_LOG_LEVEL": "warning",
    }
