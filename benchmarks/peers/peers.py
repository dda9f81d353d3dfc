"""The engines as the benchmark sees them: started, asked, held still, stopped; three kinds, by how they are reached."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import sys
import time
import urllib.request
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.peers.lines import Arrivals
from benchmarks.peers.processes import PeerFailed, Process
from benchmarks.peers.prompts import Prompt, Words
from benchmarks.peers.streaming import Event, stream_all

_START_SECONDS = 300.0
_PROBE_WORDS = 32


@dataclass(frozen=True, slots=True)
class Ask:
    """Prompts that begin at once, and how many tokens each is to be continued by. ``reuse``: of an earlier prompt."""

    prompts: tuple[Prompt, ...]
    new_tokens: int
    reuse: bool = False


@dataclass(frozen=True, slots=True)
class OutputProcessor:
    """What came of an ask. ``prompt_tokens`` are the first stream's; ``cached_tokens`` is ``None`` if nobody says."""

    streams: list[Arrivals]
    prompt_tokens: int
    cached_tokens: int | None = None


class Peer(ABC):
    """One engine with one model. ``versions`` is known once it is started."""

    def __init__(self, name: str, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self.name = name
        self.versions: dict[str, str] = {}
        self._command = command
        self._environment = environment
        self._process: Process | None = None

    @property
    def process(self) -> Process:
        assert self._process is not None, "it was not started"
        return self._process

    async def start(self) -> None:
        """Start it, wait until it can answer, and hold it. Raises `PeerFailed`."""
        self._process = await Process.start(self._command, self._environment)
        with self.process.awake():
            await _within(_START_SECONDS, self._make_ready())

    async def ask(self, ask: Ask, seconds: float) -> OutputProcessor:
        """Wake it, ask it, hold it again. Raises `PeerFailed`, also for fewer tokens than were asked for."""
        with self.process.awake():
            answer: OutputProcessor = await _within(seconds, self._ask(ask))
        made = [sum(tokens for _, tokens in stream) for stream in answer.streams]
        if made != [ask.new_tokens] * len(ask.prompts):
            raise PeerFailed(f"asked for {len(ask.prompts)} times {ask.new_tokens} tokens, it made {made}")
        return answer

    async def stop(self) -> None:
        """End its processes."""
        if self._process is not None:
            await self._process.stop()

    @abstractmethod
    async def _make_ready(self) -> None: ...

    @abstractmethod
    async def _ask(self, ask: Ask) -> OutputProcessor: ...


class ChildPeer(Peer):
    """An engine behind `benchmarks.peers.lines`, in the interpreter that has it."""

    async def _make_ready(self) -> None:
        self.versions = json.loads(await self.process.read_line())["versions"]

    async def _ask(self, ask: Ask) -> OutputProcessor:
        prompts = [prompt.ids for prompt in ask.prompts]
        question = {"prompts": prompts, "new_tokens": ask.new_tokens, "reuse": ask.reuse}
        await self.process.write_line(json.dumps(question).encode())
        reply = json.loads(await self.process.read_line())
        if "error" in reply:
            raise PeerFailed(reply["error"])
        return OutputProcessor(reply["streams"], len(prompts[0]))


class OursPeer(Peer):
    """foundry-lite's daemon, asked as any client of OpenAI's API asks it."""

    def __init__(self, name: str, environment: Mapping[str, str], model: str, words: Words) -> None:
        super().__init__(name, (sys.executable, "-m", "foundry_lite.cli.main", "serve", "--port", "0"), environment)
        self._model = model
        self._words = words
        self._url = ""
        self._overhead = 0  # tokens that the chat template adds to one message

    async def _make_ready(self) -> None:
        line = (await self.process.read_line()).decode()
        found = re.search(r"http://[0-9.]+:\d+", line)
        if found is None:
            raise PeerFailed(f"the daemon says no address: {line.strip()}")
        self._url = found[0]
        probe = await self._ask(Ask((self._words.prompt(_PROBE_WORDS),), 2))
        self._overhead = probe.prompt_tokens - _PROBE_WORDS

    async def _ask(self, ask: Ask) -> OutputProcessor:
        bodies = [self._body(prompt, ask.new_tokens) for prompt in ask.prompts]
        answers = await stream_all(self._url, "/v1/chat/completions", bodies)
        usage = answers[0][-1][1].get("usage") or {}
        cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens")
        return OutputProcessor([_chat_arrivals(events) for events in answers], usage.get("prompt_tokens", 0), cached)

    def _body(self, prompt: Prompt, new_tokens: int) -> dict[str, Any]:
        return {
            "model": self._model,
            "messages": self._words.messages(prompt, self._overhead),
            "max_tokens": new_tokens,
            "temperature": 0,
            "ignore_eos": True,
            "stream": True,
            "stream_options": {"include_usage": True},
        }


def _chat_arrivals(events: list[Event]) -> Arrivals:
    """Share the tokens of an answer among its events: the first has one, the others equally many.

    OpenAI's chunks do not say how many tokens they carry. Where every token is told by itself, this is exact.
    """
    usage = events[-1][1].get("usage") or {}
    total = int(usage.get("completion_tokens", 0))
    times = [seconds for seconds, event in events if any(_says(one["delta"]) for one in event.get("choices", ()))]
    if not times or total == 0:
        return []
    if len(times) == 1:
        return [(times[0], total)]
    each, more = divmod(total - 1, len(times) - 1)
    return [(times[0], 1)] + [(one, each + (number < more)) for number, one in enumerate(times[1:])]


def _says(delta: Mapping[str, Any]) -> bool:
    return bool(delta.get("content") or delta.get("tool_calls"))


class LlamaPeer(Peer):
    """llama.cpp's server: the binary given, or the one in xllamacpp (then its child says the address)."""

    def __init__(self, name: str, command: Sequence[str], url: str = "") -> None:
        super().__init__(name, command, {})
        self._url = url

    @classmethod
    def binary(cls, name: str, server: Path, model: Path, threads: int, slots: int, context: int) -> LlamaPeer:
        """Return llama-server, told to behave like the others: equal threads, a slot for each stream, no RAM cache."""
        port = _free_port()
        options = {"-m": model, "-t": threads, "-tb": threads, "-np": slots, "-c": slots * context, "--port": port}
        options |= {"--cache-ram": 0, "--host": "127.0.0.1", "-lv": 1}
        command = [str(server), "--no-webui", *(str(part) for pair in options.items() for part in pair)]
        return cls(name, command, f"http://127.0.0.1:{port}")

    async def _make_ready(self) -> None:
        if not self._url:
            told = json.loads(await self.process.read_line())
            self._url, self.versions = told["url"], told["versions"]
            return
        while not await asyncio.to_thread(self._is_healthy):
            if self.process.has_ended:
                raise PeerFailed(f"it ended: {self.process.last_words()}")
            await asyncio.sleep(0.1)
        self.versions = {"llama.cpp": await asyncio.to_thread(self._build_info)}

    async def _ask(self, ask: Ask) -> OutputProcessor:
        answers = await stream_all(self._url, "/completion", [_llama_body(one, ask) for one in ask.prompts])
        last = answers[0][-1][1]
        cached = last.get("timings", {}).get("cache_n")
        return OutputProcessor([_llama_arrivals(events) for events in answers], last.get("tokens_evaluated", 0), cached)

    def _is_healthy(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self._url}/health", timeout=5) as response:
                return bool(response.status == 200)
        except OSError:
            return False

    def _build_info(self) -> str:
        with urllib.request.urlopen(f"{self._url}/props", timeout=5) as response:
            return str(json.load(response).get("build_info", "unknown"))


def _llama_body(prompt: Prompt, ask: Ask) -> dict[str, Any]:
    return {
        "prompt": prompt.ids,
        "n_predict": ask.new_tokens,
        "temperature": 0,
        "top_k": 1,
        "samplers": ["top_k"],  # nothing else: penalties and the like would only cost it time
        "ignore_eos": True,
        "cache_prompt": ask.reuse,
        "stream": True,
    }


def _llama_arrivals(events: list[Event]) -> Arrivals:
    """Take each event's count of tokens so far; the closing event, without text, adds only what was held back."""
    arrivals, seen = [], 0
    for seconds, event in events:
        count = int(event.get("tokens_predicted", seen))
        if count > seen:
            arrivals.append((seconds, count - seen))
            seen = count
    return arrivals


def children(module: str, *arguments: object, python: str = sys.executable) -> tuple[str, ...]:
    """Return the command of a ``*_child`` module."""
    return (python, "-m", f"benchmarks.peers.{module}", *map(str, arguments))


async def _within(seconds: float, work: Any) -> Any:
    began = time.monotonic()
    try:
        async with asyncio.timeout(seconds):  # wait_for of Python 3.11 can swallow a cancellation
            return await work
    except TimeoutError as error:
        raise PeerFailed(f"no answer in {time.monotonic() - began:.0f} s") from error
    except (OSError, EOFError, ValueError, KeyError, IndexError) as error:  # cut off, or not what its API promises
        raise PeerFailed(f"{type(error).__name__}: {error}") from error


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
