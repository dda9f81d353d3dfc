"""OpenVINO GenAI's continuous batching, stepped in this process.

python -m benchmarks.peers.openvino_child FOLDER THREADS CACHE_GIB
"""

from __future__ import annotations

import sys
import time
from importlib.metadata import version
from typing import Any

import numpy as np
import openvino
import openvino_genai

from benchmarks.peers.lines import Arrivals, claim_stdout, serve


def main() -> None:
    """Load, then answer until stdin ends."""
    out = claim_stdout()
    folder, threads, gibibytes = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    scheduler = openvino_genai.SchedulerConfig()
    scheduler.cache_size = gibibytes
    scheduler.enable_prefix_caching = True  # off by default; we and llama.cpp reuse prefixes, so it may too
    pipeline = openvino_genai.ContinuousBatchingPipeline(
        folder, scheduler, "CPU", {"INFERENCE_NUM_THREADS": threads}, {}
    )

    def run(prompts: list[list[int]], new_tokens: int, _reuse: bool) -> list[Arrivals]:
        return _run(pipeline, prompts, new_tokens)

    serve(out, {"openvino-genai": version("openvino-genai"), "openvino": version("openvino")}, run)


def _run(pipeline: Any, prompts: list[list[int]], new_tokens: int) -> list[Arrivals]:
    config = openvino_genai.GenerationConfig()
    config.max_new_tokens = new_tokens
    config.ignore_eos = True
    config.do_sample = False
    began = time.monotonic()
    handles = [
        pipeline.add_request(number, openvino.Tensor(np.array([prompt], np.int64)), config)
        for number, prompt in enumerate(prompts)
    ]
    arrivals: list[Arrivals] = [[] for _ in prompts]
    while pipeline.has_non_finished_requests():
        pipeline.step()
        now = time.monotonic() - began
        for handle, stream in zip(handles, arrivals, strict=True):
            tokens = sum(len(one.generated_ids) for one in handle.read().values()) if handle.can_read() else 0
            if tokens:
                stream.append((now, tokens))
    return arrivals


if __name__ == "__main__":
    main()
