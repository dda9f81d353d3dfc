"""Does batching pay? Tokens per second of many streams against one, on the same model, interleaved in one run.

    python benchmarks/concurrency.py [--model home-assistant] [--streams 8] [--prompt-tokens 16,64,256] [--json FILE]

Each round runs, for each prompt length, one stream and then many; each request makes exactly ``--new-tokens`` tokens
after exactly so many random prompt tokens, through the engine as the daemon uses it (worker process, pipe, deltas), and
the time for the prompts counts. The ratio is that of the medians over the rounds; the spread is printed because the
machine is rarely quiet. Attention over a longer context is each stream's own work, so the ratio falls with it.
"""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path

import msgspec

from foundry_lite.bench.benchmark import BenchReport, Workload, measure
from foundry_lite.bench.figures import Spread
from foundry_lite.catalog.reference import parse_reference
from foundry_lite.residency.options import engine_options
from foundry_lite.settings import read_settings
from foundry_lite.store.store import Store


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="home-assistant")
    parser.add_argument("--streams", type=int, default=8)
    parser.add_argument("--prompt-tokens", default="16,64,256", help="lengths, separated by commas")
    parser.add_argument("--new-tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", type=Path, help="also write the report there, as in benchmarks/results/")
    arguments = parser.parse_args()
    settings = read_settings()
    artifact = Store(settings.home).resolve(parse_reference(arguments.model))
    lengths = tuple(int(length) for length in arguments.prompt_tokens.split(","))
    workload = Workload(lengths, arguments.new_tokens, (1, arguments.streams), arguments.rounds)
    report = asyncio.run(measure(artifact, engine_options(settings, artifact), workload, lambda _text: None))
    _print(report)
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=1) + b"\n")


def _print(report: BenchReport) -> None:
    print(f"{report.model}, {report.rows[0].new_tokens} new tokens a request; tokens/s, medians (lowest-highest)")
    for one, many in zip(report.rows[::2], report.rows[1::2], strict=True):
        print(f"prompt of {one.prompt_tokens} tokens, 1 stream against {many.concurrency}:")
        alone, together = one.system_tokens_per_s, many.system_tokens_per_s
        print(f"  all in, prompts too  {_compare(alone, together, 1)}")
        print(f"  decode, all streams  {_compare(one.decode_tokens_per_s, many.decode_tokens_per_s, many.concurrency)}")
    versions = ", ".join(f"{name} {version}" for name, version in report.versions.items())
    print(f"{report.machine['processor']}, {report.threads} threads; {versions}")
    print(f"medians of {report.rounds} rounds, {report.date}")


def _compare(one: Spread, many: Spread, streams: int) -> str:
    """Show two speeds and their ratio; ``many`` is the speed of each of ``streams``."""
    texts = (
        f"{times * speed.median:8.0f} ({times * speed.low:.0f}-{times * speed.high:.0f})"
        for times, speed in ((1, one), (streams, many))
    )
    return f"{' against '.join(texts)}: {streams * many.median / one.median:.2f} x"


if __name__ == "__main__":
    main()
