"""``build``: variants of a model, of those that were ordered or the first that is good enough."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from foundry_lite.catalog.recipe import parse_variant
from foundry_lite.catalog.report import Candidate, TextLoss
from foundry_lite.cli.options import JsonOption
from foundry_lite.cli.output import Output, StatusLine, megabytes
from foundry_lite.conversion.build_spec import BuildSpec, Walk
from foundry_lite.conversion.evaluate.gate import Gate
from foundry_lite.conversion.jobs.job_store import Job
from foundry_lite.conversion.jobs.progress import STEPS, StepReport
from foundry_lite.conversion.ordering import order_for
from foundry_lite.settings import read_settings
from foundry_lite.store.store import Store

if TYPE_CHECKING:  # what builds loads native libraries, and no other command should wait for those
    from foundry_lite.conversion.pipeline import Outcome

BaseOption = Annotated[Path | None, typer.Option("--base", help="The model that an adapter is merged into.")]
EvalOption = Annotated[
    Path | None, typer.Option("--eval", help="Your own cases, JSON lines (docs/quality.md): the loss on your task.")
]
PickleOption = Annotated[
    bool,
    typer.Option("--allow-pickle", help="Read a checkpoint whose pickles may run code, in a process of its own."),
]


def build_(
    model: Annotated[str, typer.Argument(metavar="MODEL|PATH", help="An installed model, or a source to import.")],
    name: Annotated[str | None, typer.Option("--name", help="What a source is called here.")] = None,
    variant: Annotated[
        list[str] | None, typer.Option("--variant", help="A variant to build, such as cpu-int4-b128; repeatable.")
    ] = None,
    auto: Annotated[
        bool, typer.Option("--auto", help="Take the smallest and fastest variant that passes the gate.")
    ] = False,
    base: BaseOption = None,
    eval_: EvalOption = None,
    min_accuracy: Annotated[
        float, typer.Option("--min-accuracy", min=0, help="Gate: share of the source's task accuracy to keep.")
    ] = Gate().least_task_kept,
    min_top1: Annotated[
        float, typer.Option("--min-top1", min=0, max=1, help="Gate: share of likeliest tokens that stay.")
    ] = Gate().least_top1,
    max_kl: Annotated[
        float, typer.Option("--max-kl", min=0, help="Gate: mean divergence, in nats.")
    ] = Gate().most_kl_mean,
    allow_pickle: PickleOption = False,
    force: Annotated[bool, typer.Option("--force", help="Replace the model of that name.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Build variants of a model, check what each loses, and install what passes."""
    output = Output(as_json=as_json)
    if auto == bool(variant):
        raise typer.BadParameter("name the variants with --variant, or let --auto choose")
    recipes = tuple(parse_variant(one) for one in variant or ())
    store = Store(read_settings().home)
    order = order_for(model, name, None if base is None else str(base), store)
    order = msgspec.structs.replace(
        order,
        recipes=recipes,
        walk=Walk.FIRST if auto else Walk.ALL,
        eval=None if eval_ is None else str(eval_),
        gate=Gate(min_accuracy, min_top1, max_kl),
        replaces=force,
        adds=not force,
        allow_pickle=allow_pickle,
    )
    tell_outcome(run_build(order, output), output)


def run_build(order: BuildSpec, output: Output, job: Job | None = None) -> Outcome:
    """Run a build in this process, its steps on stderr. An interrupt ends it as a signal to end does."""
    return asyncio.run(_run(order, output, job))


async def _run(order: BuildSpec, output: Output, job: Job | None) -> Outcome:
    from foundry_lite.conversion.pipeline import build, open_site

    site = open_site(read_settings(), output.talk)
    with output.status("waiting for another build" if site.jobs.is_busy() else "starting") as status:
        task = asyncio.ensure_future(build(order, site, lambda step: _tell(step, output, status), job))
        if sys.platform != "win32":  # a terminated build cleans up as an interrupted one does
            for number in (signal.SIGTERM, signal.SIGHUP):
                asyncio.get_running_loop().add_signal_handler(number, task.cancel)
        try:
            return await task
        except asyncio.CancelledError:
            raise KeyboardInterrupt from None


def _tell(step: StepReport, output: Output, status: StatusLine) -> None:
    head = f"{step.number}/{STEPS} {step.name:<9} {step.detail}"
    if step.seconds is None:
        left = "" if step.seconds_left is None else f"  (about {step.seconds_left:.0f} s left)"
        status.update(head + left)
    else:
        output.talk(f"{head}  {'kept' if step.is_kept else f'{step.seconds:.1f} s'}")


def tell_outcome(outcome: Outcome, output: Output) -> None:
    """Print what a build installed, and what it refused."""
    if output.as_json:
        output.json(_document(outcome))
        return
    for note in outcome.notes:
        output.talk(f"note: {note}")
    installed = {one.ref.variant for one in outcome.artifacts}
    candidates = outcome.report.candidates
    if len(candidates) > 1:
        other = "refused" if outcome.job.order.walk is Walk.FIRST else "no"
        rows = [candidate_row(one, "yes" if one.recipe.variant in installed else other) for one in candidates]
        output.table(CANDIDATE_HEADERS, rows)
    for artifact in outcome.artifacts:
        output.line(f"installed {artifact.ref}, {megabytes(artifact.manifest.size_bytes)} MB")
    output.talk(outcome.report.reason)
    for one in candidates:
        for miss in one.verdict.misses if one.recipe.variant in installed else ():
            output.talk(f"warning: {one.recipe.variant} would not pass the gate: {miss}")


def _document(outcome: Outcome) -> dict[str, Any]:
    first = outcome.artifacts[0]
    return {
        "job": outcome.job.id,
        "model": str(first.ref),
        "models": [str(one.ref) for one in outcome.artifacts],
        "size_bytes": first.manifest.size_bytes,
        "checks": first.manifest.checks,
        "report": outcome.report,
        "notes": outcome.notes,
    }


CANDIDATE_HEADERS = ("variant", "size_mb", "top1", "kl_mean", "kl_p99", "task", "taken")


def candidate_row(one: Candidate, taken: str) -> tuple[str, ...]:
    """Return a candidate as a row under `CANDIDATE_HEADERS`; the losses are those that the gate looks at."""
    loss = one.quality.own or one.quality.neutral or TextLoss(0, 0.0)
    top1 = "-" if loss.top1 is None else f"{loss.top1:.1%}"
    kl = ["-" if value is None else f"{value:.4f}" for value in (loss.kl_mean, loss.kl_p99)]
    task = "-" if one.quality.task is None else f"{one.quality.task.passed}/{one.quality.task.total}"
    return (one.recipe.variant, megabytes(one.size_bytes), top1, *kl, task, taken)
