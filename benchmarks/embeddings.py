"""Does batching pay for an encoder? Texts per second and waiting times, one by one and together.

    python benchmarks/embeddings.py --model minilm:cpu-fp32 --model minilm:cpu-int8-fp [--source FOLDER] [--threads 1]

Each round runs, for each model, the same texts of mixed lengths through the engine as the daemon uses it (worker
process, pipe, batches): one request after the other with a text each; from ``--clients`` at once with a text each; and
all texts in one request. Waiting times are per request. ``--source`` is the folder that the models were built from: its
vectors, by transformers in float32, say how true theirs are, and its speed in batches of 32 of about one length (as
sentence-transformers runs them) is shown beside. The medians over the rounds are printed with the spread, because the
machine is rarely quiet.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foundry_lite import machine as devices
from foundry_lite.catalog.reference import parse_reference
from foundry_lite.embedding import Encoded, EncodeRequest
from foundry_lite.engine.client.encoder_engine import EncoderEngine, load_encoder
from foundry_lite.residency.options import encoder_options, require_encoder
from foundry_lite.settings import read_settings
from foundry_lite.store.store import Store

_SENTENCES = Path(__file__).parents[1] / "foundry_lite" / "build" / "sentences.txt"
_Vectors = NDArray[np.float32]


@dataclass
class _Figures:
    """What was measured of one way to send the texts, round by round."""

    per_second: list[float] = field(default_factory=list)  # texts
    waits: list[float] = field(default_factory=list)  # seconds, of single requests

    def show(self) -> str:
        """Return the medians and the spread."""
        low, middle, high = min(self.per_second), statistics.median(self.per_second), max(self.per_second)
        if not self.waits:
            return f"{middle:8.1f} texts/s ({low:.1f}-{high:.1f})"
        p50, p95 = np.percentile(self.waits, [50, 95]) * 1e3
        return f"{middle:8.1f} texts/s ({low:.1f}-{high:.1f}), p50 {p50:7.1f} ms, p95 {p95:7.1f} ms"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", action="append", required=True, help="may be given several times")
    parser.add_argument("--source", type=Path, help="the folder that they were built from")
    parser.add_argument("--texts", type=int, default=128)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--threads", type=int, default=0, help="0: the cores that this process may use")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    threads = arguments.threads or devices.usable_cores()
    asyncio.run(_run(arguments, _mixed(arguments.texts), threads))
    machine = devices.probe_machine()
    print(f"{machine.processor}, {threads} threads, medians of {arguments.rounds} rounds (lowest-highest)")


async def _run(arguments: argparse.Namespace, texts: list[str], threads: int) -> None:
    engines = {name: await _load(name, threads) for name in arguments.model}
    ways: dict[str, Callable[[EncoderEngine, list[str]], Any]] = {
        "one by one": lambda engine, given: _together(engine, given, 1),
        f"{arguments.clients} clients": lambda engine, given: _together(engine, given, arguments.clients),
        "one request": lambda engine, given: _at_once(engine, given),
    }
    source = None if arguments.source is None else _Source(arguments.source, threads)
    vectors = {
        name: _vectors(await engine.encode(EncodeRequest(texts=tuple(texts)))) for name, engine in engines.items()
    }
    figures = {(name, way): _Figures() for name in engines for way in ways}
    theirs = _Figures()
    for _ in range(arguments.rounds):
        for (name, way), one in figures.items():
            began = time.perf_counter()
            one.waits += await ways[way](engines[name], texts)
            one.per_second.append(len(texts) / (time.perf_counter() - began))
        if source is not None:
            theirs.per_second.append(len(texts) / source.seconds(texts))
    for engine in engines.values():
        await engine.close()
    for (name, way), one in figures.items():
        print(f"{name:24} {way:12} {one.show()}")
    expected = next(iter(vectors.values()))
    if source is not None:
        print(f"{'transformers, float32':24} {'batches of 32':12} {theirs.show()}")
        expected = source.vectors(texts)
    for name, found in vectors.items():
        cosines = (found * expected).sum(1)
        print(
            f"{name:24} cosine to the {'source' if source else 'first'}: "
            f"mean {cosines.mean():.5f}, least {cosines.min():.5f}"
        )


async def _load(name: str, threads: int) -> EncoderEngine:
    settings = read_settings()
    artifact = Store(settings.home).resolve(parse_reference(name))
    require_encoder(artifact)
    return await load_encoder(artifact.folder, replace(encoder_options(settings, artifact), threads=threads))


async def _together(engine: EncoderEngine, texts: list[str], clients: int) -> list[float]:
    waiting, waits = list(texts), []

    async def ask() -> None:
        while waiting:
            began, text = time.perf_counter(), waiting.pop()
            await engine.encode(EncodeRequest(texts=(text,)))
            waits.append(time.perf_counter() - began)

    await asyncio.gather(*(ask() for _ in range(clients)))
    return waits


async def _at_once(engine: EncoderEngine, texts: list[str]) -> list[float]:
    await engine.encode(EncodeRequest(texts=tuple(texts)))
    return []


def _vectors(encoded: Encoded) -> _Vectors:
    found: _Vectors = np.frombuffer(encoded.values, "<f4").reshape(-1, encoded.width)
    return found


def _mixed(count: int) -> list[str]:
    """Texts of one to six sentences, always the same ones."""
    lines, draw = _SENTENCES.read_text(encoding="utf-8").splitlines(), random.Random(5)
    return [" ".join(draw.choices(lines, k=draw.choice((1, 1, 1, 2, 3, 6)))) for _ in range(count)]


class _Source:
    """The folder by transformers: mean of the tokens, length 1."""

    def __init__(self, folder: Path, threads: int) -> None:
        import torch
        from transformers import AutoModel, AutoTokenizer

        torch.set_num_threads(threads)
        self._torch = torch
        self._tokenizer = AutoTokenizer.from_pretrained(folder)
        self._model = AutoModel.from_pretrained(folder, dtype=torch.float32)

    def seconds(self, texts: list[str]) -> float:
        began = time.perf_counter()
        self.vectors(texts)
        return time.perf_counter() - began

    def vectors(self, texts: list[str]) -> _Vectors:
        order = sorted(range(len(texts)), key=lambda place: len(texts[place]))
        made: list[Any] = [None] * len(texts)
        for start in range(0, len(order), 32):
            places = order[start : start + 32]
            for place, vector in zip(places, self._batch([texts[place] for place in places]), strict=True):
                made[place] = vector
        return np.stack(made)

    def _batch(self, texts: list[str]) -> Any:
        given = self._tokenizer(texts, return_tensors="pt", padding=True, truncation=True, max_length=256)
        with self._torch.inference_mode():
            hidden, mask = self._model(**given).last_hidden_state, given["attention_mask"][..., None]
            mean = (hidden * mask).sum(1) / mask.sum(1)
            return self._torch.nn.functional.normalize(mean).numpy()


if __name__ == "__main__":
    main()
