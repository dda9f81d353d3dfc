"""The workloads: what is asked of every engine in every round, and which figures are read from it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.peers.figures import DECODE, GAP_P50, GAP_P95, PREFILL, TOTAL, TTFT, TTFT_P50, TTFT_P95, Figure
from benchmarks.peers.peers import Ask, OutputProcessor, Peer
from benchmarks.peers.prompts import Prompt, Words

_ASKED = 32  # tokens that the second turn adds: a question. The first turn's answer would be known like its prompt


@dataclass(frozen=True, slots=True)
class Load:
    """So many streams at once, each with a prompt of its own that nobody has seen."""

    name: str
    figures: tuple[Figure, ...]
    prompt_tokens: int
    new_tokens: int
    streams: int = 1

    def asks(self, words: Words) -> list[Ask]:
        prompts = tuple(words.prompt(self.prompt_tokens) for _ in range(self.streams))
        return [Ask(prompts, self.new_tokens)]


@dataclass(frozen=True, slots=True)
class SecondTurn:
    """A conversation's first turn and then its second, whose prompt begins with the whole of the first's.

    With ``is_reused`` false the second begins differently, so that no engine can use what it has computed. The first
    is asked for too, and not counted.
    """

    name: str
    figures: tuple[Figure, ...]
    conversation_tokens: int
    new_tokens: int
    is_reused: bool

    def asks(self, words: Words) -> list[Ask]:
        first = words.prompt(self.conversation_tokens - _ASKED)
        begins = first if self.is_reused else words.prompt(self.conversation_tokens - _ASKED)
        more = words.prompt(_ASKED // 2, _ASKED // 2)
        prompts = (first, Prompt(begins.parts + more.parts))
        return [Ask((prompt,), self.new_tokens, reuse=True) for prompt in prompts]


Cell = Load | SecondTurn

_MANY = (TOTAL, GAP_P50, GAP_P95, TTFT_P50, TTFT_P95)


def full() -> tuple[Cell, ...]:
    """Return the workloads that the documentation quotes."""
    return tuple(_cells((128, 512, 2048), 128, 128, (4, 16), 64, 1500))


def quick() -> tuple[Cell, ...]:
    """Return small ones, to see that everything runs: their figures mean little."""
    return tuple(_cells((64,), 64, 16, (4,), 8, 256))


def _cells(
    prefills: tuple[int, ...], depth: int, decoded: int, streams: tuple[int, ...], each: int, conversation: int
) -> Iterator[Cell]:
    for length in prefills:
        yield Load(f"prompt of {length}", (PREFILL,), length, 2)
    yield Load(f"decode after {depth}", (DECODE, TOTAL), depth, decoded)
    for count in streams:
        yield Load(f"{count} streams", _MANY, depth, each, count)
    yield SecondTurn(f"second turn of {conversation}, same prefix", (TTFT,), conversation, 2, is_reused=True)
    yield SecondTurn(f"second turn of {conversation}, other prefix", (TTFT,), conversation, 2, is_reused=False)


async def run_cell(peer: Peer, asks: list[Ask], seconds: float) -> OutputProcessor:
    """Ask in turn and return the last answer, which is the one that counts. Raises `PeerFailed`."""
    answers = [await peer.ask(ask, seconds) for ask in asks]
    return answers[-1]
