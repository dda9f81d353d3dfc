"""llama.cpp's server inside xllamacpp's wheel, for who has no ``llama-server``; it ends when stdin does.

python -m benchmarks.peers.llama_child FILE.gguf THREADS SLOTS CONTEXT

The wheel may be built for older processors than this one: `get_system_info` says so, and is part of the versions.
"""

from __future__ import annotations

import sys
from importlib.metadata import version

import xllamacpp

from benchmarks.peers.lines import claim_stdout, tell


def main() -> None:
    """Load, say where it listens, wait."""
    out = claim_stdout()
    file, threads, slots, context = sys.argv[1], *map(int, sys.argv[2:5])
    parameters = xllamacpp.CommonParams()
    parameters.model.path = file
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = threads
    parameters.n_parallel = slots
    parameters.n_ctx = slots * context
    parameters.cache_ram_mib = 0
    parameters.port = 0
    server = xllamacpp.Server(parameters)
    versions = {"llama.cpp (xllamacpp)": version("xllamacpp"), "llama.cpp built for": _features()}
    tell(out, {"url": server.listening_address, "versions": versions})
    sys.stdin.read()


def _features() -> str:
    words = xllamacpp.get_system_info().removeprefix("CPU : ").split("|")
    return " ".join(word.split("=")[0].strip() for word in words if "=" in word)


if __name__ == "__main__":
    main()
