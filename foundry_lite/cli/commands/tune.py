"""``tune``: which variant of a model, with how many threads and on what, suits this machine; by measurement."""

from __future__ import annotations

import asyncio
import re
import shlex
import signal
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from foundry_lite.catalog.recipe import Provider, parse_variant
from foundry_lite.catalog.reference import ModelRef, parse_reference
from foundry_lite.cli.options import JsonOption
from foundry_lite.cli.output import Output, megabytes
from foundry_lite.conversion.jobs.progress import STEPS, StepReport
from foundry_lite.errors import GateFailed
from foundry_lite.settings import read_settings, size_in_bytes
from foundry_lite.store.choices import Choice, Constraints, Trial
from foundry_lite.tuning.choosing import kept_share, memory

if TYPE_CHECKING:
    from foundry_lite.tuning.tune import Demand, Tuned

HEADERS = ("variant", "on", "threads", "kept", "size_mb", "peak_mb", "ttft_ms", "decode/s", "all/s", "verdict")


def tune_(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="NAME, or NAME:VARIANT for that one alone.")],
    max_memory: Annotated[
        str | None, typer.Option("--max-memory", help="Most memory of the worker at its peak, such as 2GiB.")
    ] = None,
    max_ttft: Annotated[
        str | None, typer.Option("--max-ttft", help="Longest time to the first token, such as 500ms; the median.")
    ] = None,
    min_quality: Annotated[
        float | None, typer.Option("--min-quality", min=0, max=1, help="Share of the source to keep, such as 0.95.")
    ] = None,
    streams: Annotated[int, typer.Option("--streams", min=1, help="Requests at once.")] = 4,
    prompt_tokens: Annotated[int, typer.Option("--prompt-tokens", min=1, help="Length of the prompts.")] = 128,
    new_tokens: Annotated[int, typer.Option("--new-tokens", min=2, help="Tokens each request makes.")] = 64,
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="Rounds of each candidate, in turn.")] = 3,
    variants: Annotated[
        str, typer.Option("--variants", help="Only these, such as cpu-int4-b128,cpu-int8. [default: a walk, see docs]")
    ] = "",
    threads: Annotated[
        str, typer.Option("--threads", help="Only these numbers, such as 2,4. [default: all cores, and half of them]")
    ] = "",
    providers: Annotated[
        str, typer.Option("--providers", help="Only these, such as cpu,openvino. [default: what is usable here]")
    ] = "",
    no_build: Annotated[bool, typer.Option("--no-build", help="Measure only what is installed.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Choose the variant, threads and provider that suit this machine; 'serve' and 'run' use them from then on."""
    from foundry_lite.tuning.tune import Demand  # half a second that the other commands do not pay

    output = Output(as_json=as_json)
    reference = parse_reference(model)
    if reference.adapter is not None:
        raise typer.BadParameter(f"{model} is an adapter; tune chooses for its base", param_hint="MODEL")
    constraints = Constraints(
        streams=streams,
        prompt_tokens=prompt_tokens,
        new_tokens=new_tokens,
        rounds=rounds,
        max_memory=None if max_memory is None else _size(max_memory),
        max_ttft=None if max_ttft is None else _milliseconds(max_ttft),
        min_quality=min_quality,
    )
    demand = Demand(
        reference.name,
        constraints,
        variants=_variants(reference, variants),
        threads=_numbers(threads),
        providers=_providers(providers),
        builds=not no_build,
        command=shlex.join(["foundry-lite", *sys.argv[1:]]),
    )
    tuned = asyncio.run(_run(demand, output))
    if tuned.choice is None:
        for line in lines(tuned.decision.table):
            output.talk(line)
        raise GateFailed(tuned.decision.reason, hint="Loosen a demand, or name other variants with --variants.")
    if as_json:
        output.json(document(reference.name, tuned.choice))
        return
    print_choice(tuned.choice, output)


async def _run(demand: Demand, output: Output) -> Tuned:
    from foundry_lite.tuning.tune import tune

    task = asyncio.ensure_future(tune(demand, read_settings(), output.talk, lambda step: _tell_step(step, output)))
    if sys.platform != "win32":  # a command that is terminated takes its builder and worker with it
        for number in (signal.SIGTERM, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    try:
        return await task
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None


def document(name: str, choice: Choice) -> dict[str, Any]:
    """Return a choice as one JSON document."""
    return {
        "model": str(ModelRef(name, choice.variant)),
        "is_of_this_machine": choice.is_of_this_machine,
        "choice": choice,
    }


def print_choice(choice: Choice, output: Output) -> None:
    """Print the table, the choice and its reason."""
    output.table(HEADERS, [_row(one, choice) for one in choice.table])
    output.line()
    output.line(f"chosen   {choice.reason}")
    refusals: dict[str, list[str]] = {}  # what they lose is the same for all threads of a variant
    for trial in choice.table:
        if why_not := trial.failed or "; ".join(trial.refused):
            refusals.setdefault(why_not, []).append(trial.label)
    for why_not, labels in refusals.items():
        output.line(f"refused  {', '.join(labels)}: {why_not}")
    asked, machine = choice.constraints, choice.machine
    demands = [f"{asked.streams} streams, {asked.prompt_tokens} prompt tokens, {asked.new_tokens} new ones"]
    demands += [f"at most {asked.max_memory / 1e6:.0f} MB"] if asked.max_memory is not None else []
    demands += [f"first token within {asked.max_ttft:g} ms"] if asked.max_ttft is not None else []
    demands += [f"{asked.min_quality:.0%} of the source kept"] if asked.min_quality is not None else []
    output.line(f"asked    {'; '.join(demands)}; medians of {asked.rounds} rounds")
    output.line(f"machine  {machine['processor']}, {machine['cores']} cores, {machine['system']}")
    if not choice.is_of_this_machine:
        output.line("         which is another one: the variant is used here, its threads and provider are not")
    output.line(
        f"with     {', '.join(f'{name} {version}' for name, version in choice.versions.items())}; {choice.date}"
    )


def lines(table: tuple[Trial, ...]) -> list[str]:
    """Return the table as plain lines, for where it is not the answer."""
    rows = [HEADERS, *(_row(one, None) for one in table)]
    widths = [max(len(row[at]) for row in rows) for at in range(len(HEADERS))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _row(trial: Trial, choice: Choice | None) -> tuple[str, ...]:
    kept, measured = kept_share(trial.quality), trial.measured
    figures: tuple[str, ...] = ("-",) * 4
    if measured is not None:
        speeds = (measured.ttft_ms, measured.decode_tokens_per_s, measured.system_tokens_per_s)
        figures = (megabytes(memory(measured)), *(f"{one:.1f}" for one in speeds))
    return (
        trial.variant,
        str(trial.provider),
        str(trial.threads or "-"),
        "-" if kept is None else f"{kept:.1%}",
        megabytes(trial.size_bytes or None),
        *figures,
        _verdict(trial, choice),
    )


def _verdict(trial: Trial, choice: Choice | None) -> str:
    if choice is not None and _is_chosen(trial, choice):
        return "chosen"
    if trial.failed:
        return "failed"
    if trial.refused:
        return "refused"
    return "dominated" if trial.dominated_by else ""


def _is_chosen(trial: Trial, choice: Choice) -> bool:
    return (trial.variant, trial.provider, trial.threads) == (choice.variant, choice.provider, choice.threads)


def _tell_step(step: StepReport, output: Output) -> None:
    if step.seconds is not None:
        took = "kept" if step.is_kept else f"{step.seconds:.1f} s"
        output.talk(f"{step.number}/{STEPS} {step.name:<9} {step.detail}  {took}")


def _variants(reference: ModelRef, text: str) -> tuple[str, ...]:
    named = tuple(one.strip() for one in text.split(",") if one.strip())
    if reference.variant is not None:
        if named:
            raise typer.BadParameter(f"{reference} names a variant already", param_hint="--variants")
        named = (reference.variant,)
    return tuple(parse_variant(one).variant for one in named)


def _numbers(text: str) -> tuple[int, ...]:
    words = [one.strip() for one in text.split(",") if one.strip()]
    if not all(one.isdecimal() and int(one) > 0 for one in words):
        raise typer.BadParameter(f"{text!r} is not a list of numbers from 1 up, such as 2,4", param_hint="--threads")
    return tuple(dict.fromkeys(map(int, words)))


def _providers(text: str) -> tuple[Provider, ...]:
    words = [one.strip().lower() for one in text.split(",") if one.strip()]
    if not set(words) <= set(Provider):
        raise typer.BadParameter(f"{text!r}: providers are {', '.join(Provider)}", param_hint="--providers")
    return tuple(map(Provider, dict.fromkeys(words)))


def _size(text: str) -> int:
    try:
        return size_in_bytes(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} {error}", param_hint="--max-memory") from error


def _milliseconds(text: str) -> float:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(ms|s)", text.strip())
    if found is None or not float(found[1]):
        raise typer.BadParameter(f"{text!r} is no time such as 500ms or 1.5s", param_hint="--max-ttft")
    return float(found[1]) * (1000 if found[2] == "s" else 1)
