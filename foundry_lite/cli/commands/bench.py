"""``bench``: what a model costs on this machine."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from foundry_lite.catalog.reference import parse_reference
from foundry_lite.cli.options import JsonOption, ModelArgument, ProviderOption, settings_with
from foundry_lite.cli.output import Output, megabytes
from foundry_lite.store.store import Store

if TYPE_CHECKING:
    from foundry_lite.bench.benchmark import BenchReport
    from foundry_lite.bench.figures import Latency


def bench(
    model: ModelArgument,
    prompt_tokens: Annotated[
        str, typer.Option("--prompt-tokens", help="Lengths of prompts, such as 128,512.")
    ] = "128,512",
    new_tokens: Annotated[int, typer.Option("--new-tokens", min=2, help="Tokens each request makes.")] = 64,
    concurrency: Annotated[str, typer.Option("--concurrency", "--streams", help="Requests at once.")] = "1,4,16",
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="Repetitions, after one that is not counted.")] = 3,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the prompts.")] = 0,
    provider: ProviderOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure time to first token, gaps between tokens, tokens per second and memory."""
    from foundry_lite.bench.benchmark import Workload, measure  # numpy is slow to import
    from foundry_lite.residency.options import engine_options

    output = Output(as_json=as_json)
    settings = settings_with(provider)
    artifact = Store(settings.home).resolve(parse_reference(model))
    if artifact.adapter is not None:
        raise typer.BadParameter(f"{artifact.adapter.ref} is an adapter; bench measures its base", param_hint="MODEL")
    workload = Workload(
        prompt_tokens=_numbers(prompt_tokens, "--prompt-tokens"),
        new_tokens=new_tokens,
        concurrency=_numbers(concurrency, "--concurrency"),
        rounds=rounds,
        seed=seed,
    )
    with output.status(f"loading {artifact.ref}") as status:
        report = asyncio.run(measure(artifact, engine_options(settings, artifact), workload, status.update))
    if as_json:
        output.json(report)
    else:
        _print(report, output)


def _print(report: BenchReport, output: Output) -> None:
    rows = [
        (
            str(row.prompt_tokens),
            str(row.concurrency),
            _quantiles(row.ttft_ms),
            _quantiles(row.gap_ms),
            f"{row.prefill_tokens_per_s.median:.0f}",
            f"{row.decode_tokens_per_s.median:.1f}",
            f"{row.system_tokens_per_s.median:.1f}",
        )
        for row in report.rows
    ]
    headers = ("prompt", "streams", "ttft_ms", "gap_ms", "prefill/s", "decode/s", "all/s")
    output.table(headers, rows)
    output.line()
    output.line(f"figures  {report.rows[0].new_tokens} new tokens a request; medians of {report.rounds} rounds")
    output.line("         ttft_ms, gap_ms: median / 95th percentile; k tokens that come at once are k equal gaps")
    output.line("         prefill/s, decode/s, all/s: tokens a second of a prompt, of a stream, of all streams")
    if reused := max(row.cached_tokens for row in report.rows):
        output.line(f"cached   up to {reused} tokens of a prompt were reused, not computed: ttft_ms is of the rest")
    pressure = max((row.pressure for row in report.rows if row.pressure), key=lambda one: one.taken, default=None)
    if pressure is not None and pressure.is_disturbing:
        output.line(f"disturbed: others took {pressure.taken:.0%} of the processor; measure again on a quiet machine")
    machine = report.machine
    output.line(f"model    {report.model}; loaded in {report.load_seconds:.2f} s")
    output.line(
        f"memory   {megabytes(report.loaded_bytes)} MB after loading, {megabytes(report.peak_bytes)} MB at the peak; "
        f"{megabytes(report.runtime_bytes)} MB before loading"
    )
    threads = f"{report.threads} threads on {report.provider}"
    output.line(f"machine  {machine['processor']}, {machine['cores']} cores, {threads}, {machine['system']}")
    versions = ", ".join(f"{name} {version}" for name, version in report.versions.items())
    output.line(f"with     {versions}; {report.date}")


def _quantiles(latency: Latency | None) -> str:
    return "-" if latency is None else f"{latency.median:.1f} / {latency.p95:.1f}"


def _numbers(text: str, option: str) -> tuple[int, ...]:
    try:
        numbers = tuple(int(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if not numbers or min(numbers) < 1:
        raise typer.BadParameter(f"{text!r} is not a list of numbers from 1 up, such as 1,4", param_hint=option)
    return numbers
