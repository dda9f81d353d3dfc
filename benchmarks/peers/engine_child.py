"""foundry-lite's engine as the daemon uses it (worker, pipe, deltas), without HTTP, template and tokenizing.

python -m benchmarks.peers.engine_child FOLDER THREADS SLOTS CONTEXT
"""

from __future__ import annotations

import asyncio
import sys
import time
from importlib.metadata import version
from pathlib import Path

from benchmarks.peers.lines import Arrivals, claim_stdout, serve
from foundry_lite import __version__
from foundry_lite.engine.client.engine import Engine, EngineOptions, load_engine
from foundry_lite.generation import GenerationRequest, Sampling, Tokens


def main() -> None:
    """Load, then answer until stdin ends."""
    out = claim_stdout()
    folder, threads, slots, context = Path(sys.argv[1]), *map(int, sys.argv[2:5])
    options = EngineOptions(threads=threads, slots=slots, context_length=context)
    with asyncio.Runner() as runner:
        engine = runner.run(load_engine(folder, options))

        def run(prompts: list[list[int]], new_tokens: int, _reuse: bool) -> list[Arrivals]:
            return runner.run(_run(engine, prompts, new_tokens))

        try:
            serve(out, {"foundry-lite": __version__, "onnxruntime": version("onnxruntime")}, run)
        finally:
            runner.run(engine.close())


async def _run(engine: Engine, prompts: list[list[int]], new_tokens: int) -> list[Arrivals]:
    requests = [
        GenerationRequest(
            prompt=Tokens(tuple(prompt)),
            sampling=Sampling(temperature=0.0),
            max_new_tokens=new_tokens,
            ignore_eos=True,
        )
        for prompt in prompts
    ]
    began = time.monotonic()
    return await asyncio.gather(*(_follow(engine, request, began) for request in requests))


async def _follow(engine: Engine, request: GenerationRequest, began: float) -> Arrivals:
    arrivals: Arrivals = []
    async with await engine.begin(request) as generation:
        async for batch in generation.batches():
            tokens = sum(delta.tokens for delta in batch)
            if tokens:
                arrivals.append((time.monotonic() - began, tokens))
    return arrivals


if __name__ == "__main__":
    main()
