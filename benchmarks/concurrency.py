"""Does batching pay? Tokens per second of many streams against one, on the same model, interleaved in one run.

    python benchmarks/concurrency.py [--model home-assistant] [--streams 8] [--rounds 9] [--json FILE]

Every round runs one stream, then many; both make exactly ``--new-tokens`` tokens a request after prompts of exactly
``--prompt-tokens`` random tokens, through the engine as the daemon uses it (worker process, pipe, deltas). The ratio is
that of the medians over the rounds; the spread is printed because the machine is rarely quiet.
"""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path

import msgspec

from foundry_lite.bench.benchmark import BenchReport, Workload, measure
from foundry_lite.catalog.reference import parse_reference
from foundry_lite.residency import engine_options
from foundry_lite.settings import read_settings
from foundry_lite.store.store import Store


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="home-assistant")
    parser.add_argument("--streams", type=int, default=8)
    parser.add_argument("--prompt-tokens", type=int, default=64)
    parser.add_argument("--new-tokens", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", type=Path, help="also write the report, for benchmarks/results/")
    arguments = parser.parse_args()
    settings = read_settings()
    artifact = Store(settings.home).resolve(parse_reference(arguments.model))
    workload = Workload((arguments.prompt_tokens,), arguments.new_tokens, (1, arguments.streams), arguments.rounds)
    report = asyncio.run(measure(artifact, engine_options(settings, artifact), workload, lambda _text: None))
    _print(report)
    if arguments.json:
        arguments.json.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=1) + b"\n")


def _print(report: BenchReport) -> None:
    one, many = report.rows
    for row in report.rows:
        speed = row.system_tokens_per_s
        print(
            f"{row.concurrency:3} at once: {speed.median:8.1f} tokens/s (from {speed.low:.1f} to {speed.high:.1f}), "
            f"TTFT {row.ttft_ms.median:.1f} ms"
        )
    ratio = many.system_tokens_per_s.median / one.system_tokens_per_s.median
    print(f"{many.concurrency} streams give {ratio:.2f} times the tokens/s of one")
    print(f"{report.model}, {report.machine['processor']}, {report.threads} threads, {report.versions}, {report.date}")


if __name__ == "__main__":
    main()
