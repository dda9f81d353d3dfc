"""``jobs``: builds that run, wait or have ended."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from foundry_lite.cli.commands.build import run_build, tell_outcome
from foundry_lite.cli.options import JsonOption
from foundry_lite.cli.output import Output, megabytes
from foundry_lite.conversion.jobs.job_store import Job, JobStore, State
from foundry_lite.errors import InvalidRequest
from foundry_lite.settings import read_settings

app = typer.Typer(name="jobs", help="Look at builds, and stop or continue them.", no_args_is_help=True)

JobArgument = Annotated[str, typer.Argument(metavar="JOB", help="A job's number, a part of it, or 'last'.")]

_FOLLOW_SECONDS = 0.5


@app.command("ls")
def list_jobs(as_json: JsonOption = False) -> None:
    """List all builds, the newest first."""
    output = Output(as_json=as_json)
    jobs = list(_jobs().all())
    if as_json:
        output.json({"jobs": jobs})
        return
    rows = [(one.id, one.state, one.steps[-1].name if one.steps else "-", ", ".join(one.installed) or one.error or "-")
            for one in jobs]  # fmt: skip
    output.table(("job", "state", "step", "result"), rows)


@app.command("show")
def show_job(job: JobArgument, as_json: JsonOption = False) -> None:
    """Show one build: what was ordered, its steps, how it ended."""
    output = Output(as_json=as_json)
    found = _jobs().find(job)
    if as_json:
        output.json(found)
        return
    for name, value in _facts(found):
        output.line(f"{name:<10}{value}")
    rows = [(str(one.number), one.name, one.detail, _duration(one.seconds, is_kept=one.is_kept)) for one in found.steps]
    output.table(("step", "name", "what", "seconds"), rows)


@app.command("logs")
def show_logs(
    job: JobArgument,
    step: Annotated[str | None, typer.Option("--step", help="Only this step, such as export.")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the build has ended.")] = False,
) -> None:
    """Print what the steps of a build printed."""
    output, jobs = Output(), _jobs()
    found = jobs.find(job)
    text = jobs.log(found, step)
    output.write(text)
    while follow and found.state in (State.RUNNING, State.QUEUED):
        time.sleep(_FOLLOW_SECONDS)
        found = jobs.find(found.id)
        longer = jobs.log(found, step)
        # A step's headline changes when it is done; then its log is printed again from there.
        same = next((at for at, (one, other) in enumerate(zip(text, longer, strict=False)) if one != other), len(text))
        output.write(longer[same:])
        text = longer


@app.command("cancel")
def cancel_job(job: JobArgument, as_json: JsonOption = False) -> None:
    """Stop a build; what its finished steps made is kept for the next try."""
    output, jobs = Output(as_json=as_json), _jobs()
    found = jobs.find(job)
    if found.state in (State.DONE, State.FAILED, State.CANCELLED):
        raise InvalidRequest(f"job {found.id} has ended already: {found.state}", "job")
    found = jobs.cancel(found)
    if as_json:
        output.json(found)
    else:
        output.line(f"cancelled {found.id}")


@app.command("resume")
def resume_job(job: JobArgument, as_json: JsonOption = False) -> None:
    """Go on with a build that was interrupted, cancelled or has failed: finished steps are not done again."""
    output, jobs = Output(as_json=as_json), _jobs()
    found = jobs.find(job)
    if found.state in (State.RUNNING, State.DONE):
        raise InvalidRequest(f"job {found.id} is {found.state}", "job", hint="'build' and 'import' begin a new one.")
    tell_outcome(run_build(found.order, output, found), output)


@app.command("clean")
def clean(as_json: JsonOption = False) -> None:
    """Remove what finished steps have kept; the next build does them again. Installed models stay."""
    from foundry_lite.conversion.pipeline import open_site

    output = Output(as_json=as_json)
    site = open_site(read_settings())
    if site.jobs.is_busy():
        raise InvalidRequest("a build runs", "jobs", hint="Wait for it, or cancel it.")
    freed = site.steps.trim(0)
    if as_json:
        output.json({"freed_bytes": freed})
    else:
        output.line(f"freed {megabytes(freed)} MB")


def _jobs() -> JobStore:
    return JobStore(read_settings().home)


def _facts(job: Job) -> list[tuple[str, str]]:
    recipes = ", ".join(one.variant for one in job.order.recipes) or "what suits the source"
    facts = [
        ("job", job.id),
        ("state", job.state),
        ("model", job.order.name),
        ("source", job.order.path),
        ("base", job.order.base or ""),
        ("variants", f"{recipes} ({job.order.walk})"),
        ("begun", job.created),
        ("ended", job.ended or ""),
        ("left", "" if job.seconds_left is None else f"about {job.seconds_left:.0f} s"),
        ("installed", ", ".join(job.installed)),
        ("error", job.error or ""),
        ("hint", job.hint or ""),
    ]
    return [(name, value) for name, value in facts if value]


def _duration(seconds: float | None, *, is_kept: bool) -> str:
    return "…" if seconds is None else "kept" if is_kept else f"{seconds:.1f}"
