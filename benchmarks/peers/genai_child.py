"""Stock onnxruntime-genai: one `Generator` for each request, one request after the other.

python -m benchmarks.peers.genai_child FOLDER THREADS

It reads the same folder as foundry-lite. Several streams are run in turn, as a server around one generator at a time
runs them: its continuous batching does not exist on the CPU.
"""

from __future__ import annotations

import json
import sys
import time
from importlib.metadata import version

import onnxruntime_genai as og

from benchmarks.peers.lines import Arrivals, claim_stdout, serve


def main() -> None:
    """Load, then answer until stdin ends."""
    out = claim_stdout()
    folder, threads = sys.argv[1], int(sys.argv[2])
    config = og.Config(folder)
    session = {"intra_op_num_threads": threads}
    config.overlay(json.dumps({"model": {"decoder": {"session_options": session}}}))
    model = og.Model(config)

    def run(prompts: list[list[int]], new_tokens: int, _reuse: bool) -> list[Arrivals]:
        began = time.monotonic()
        return [_generate(model, prompt, new_tokens, began) for prompt in prompts]

    serve(out, {"onnxruntime-genai": version("onnxruntime-genai")}, run)


def _generate(model: og.Model, prompt: list[int], new_tokens: int, began: float) -> Arrivals:
    parameters = og.GeneratorParams(model)
    length = len(prompt) + new_tokens  # as the least too, so that no end of turn is chosen
    parameters.set_search_options(max_length=length, min_length=length, do_sample=False)
    generator = og.Generator(model, parameters)
    generator.append_tokens(prompt)
    arrivals: Arrivals = []
    while not generator.is_done():
        generator.generate_next_token()
        generator.get_next_tokens()
        arrivals.append((time.monotonic() - began, 1))
    return arrivals


if __name__ == "__main__":
    main()
