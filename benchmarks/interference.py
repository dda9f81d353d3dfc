"""What running streams notice of somebody else's long prompt, and what reproducible mode costs.

    python benchmarks/interference.py [--model home-assistant] [--streams 1,4,15] [--prompt-tokens 1000]

While some streams run, prompts arrive one after the other, each with a single new token to make. Printed for each
number of streams, in the default and in reproducible mode, interleaved: the median and the 95th percentile of the gaps
between tokens of the streams, their ratio, the time to the first token of the arriving prompts, and the speed of the
streams when nothing arrives. A gap of a message with several tokens counts as that many equal gaps.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import time
from collections import defaultdict
from dataclasses import dataclass, field, replace

from foundry_lite import machine as devices
from foundry_lite.catalog.reference import parse_reference
from foundry_lite.engine.client.engine import Engine, load_engine
from foundry_lite.generation import GenerationRequest, Sampling, Tokens
from foundry_lite.residency.options import engine_options
from foundry_lite.settings import read_settings
from foundry_lite.store.store import Store

_MODES = {False: "default", True: "reproducible"}


@dataclass(slots=True)
class Seen:
    """What was measured in one round; seconds."""

    gaps: list[float] = field(default_factory=list)
    first_tokens: list[float] = field(default_factory=list)
    speed: float = 0.0  # tokens/s of all streams together, undisturbed


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="home-assistant")
    parser.add_argument("--streams", default="1,4,15", help="numbers of running streams, separated by commas")
    parser.add_argument("--prompt-tokens", type=int, default=1000)
    parser.add_argument("--prompts", type=int, default=3, help="that arrive in a round")
    parser.add_argument("--rounds", type=int, default=3)
    asyncio.run(_measure(parser.parse_args()))


async def _measure(arguments: argparse.Namespace) -> None:
    settings = read_settings()
    artifact = Store(settings.home).resolve(parse_reference(arguments.model))
    options = engine_options(settings, artifact)
    engines = {mode: await load_engine(artifact.folder, replace(options, reproducible=mode)) for mode in _MODES}
    seen: dict[tuple[int, bool], list[Seen]] = defaultdict(list)
    try:
        for seed in range(arguments.rounds):
            for streams in map(int, arguments.streams.split(",")):
                for mode, engine in engines.items():
                    seen[streams, mode].append(await _round(engine, streams, arguments, seed))
    finally:
        for engine in engines.values():
            await engine.close()
    machine = devices.probe_machine()
    print(
        f"{artifact.ref}, prompts of {arguments.prompt_tokens} tokens arriving; {machine.processor}, {options.threads}"
    )
    print("streams  mode          gap p50    p95  ratio   TTFT of prompts   undisturbed tokens/s")
    for (streams, mode), rounds in seen.items():
        print(_line(streams, _MODES[mode], rounds))


def _line(streams: int, mode: str, rounds: list[Seen]) -> str:
    pairs = [(statistics.median(one.gaps), statistics.quantiles(one.gaps, n=20)[-1]) for one in rounds]
    middle, high = (statistics.median(pair[place] for pair in pairs) for place in (0, 1))
    ratio = statistics.median(pair[1] / pair[0] for pair in pairs)
    first = statistics.median(one for seen in rounds for one in seen.first_tokens)
    speed = statistics.median(one.speed for one in rounds)
    return f"{streams:7}  {mode:12} {middle * 1e3:7.1f} {high * 1e3:6.1f} {ratio:6.2f} {first:12.2f} s {speed:18.1f}"


async def _round(engine: Engine, streams: int, arguments: argparse.Namespace, seed: int) -> Seen:
    drawn, seen = random.Random(seed), Seen()
    running = [asyncio.create_task(_stream(engine, drawn, seen)) for _ in range(streams)]
    await asyncio.sleep(0.3)
    while len(seen.gaps) < 8 * streams:
        await asyncio.sleep(0.05)
    began, before = time.monotonic(), len(seen.gaps)
    while len(seen.gaps) < before + 20 * streams:
        await asyncio.sleep(0.05)
    seen.speed = (len(seen.gaps) - before) / (time.monotonic() - began)
    seen.gaps.clear()
    for _ in range(arguments.prompts):
        began = time.monotonic()
        async with await engine.begin(_request(engine, drawn, arguments.prompt_tokens, 1)) as generation:
            async for _ in generation.batches():
                pass
        seen.first_tokens.append(time.monotonic() - began)
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
    return seen


async def _stream(engine: Engine, drawn: random.Random, seen: Seen) -> None:
    room = engine.context_length - 16
    while True:
        last: float | None = None
        async with await engine.begin(_request(engine, drawn, 16, room)) as generation:
            async for batch in generation.batches():
                now, tokens = time.monotonic(), sum(delta.tokens for delta in batch)
                if last is not None:
                    seen.gaps += [(now - last) / tokens] * tokens
                last = now


def _request(engine: Engine, drawn: random.Random, prompt: int, new: int) -> GenerationRequest:
    tokens = tuple(drawn.randrange(engine.vocabulary // 2, engine.vocabulary) for _ in range(prompt))
    return GenerationRequest(Tokens(tokens), Sampling(temperature=0.0), new, ignore_eos=True)


if __name__ == "__main__":
    main()
