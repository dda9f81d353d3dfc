"""Builds as records on disk: how they stand, who may run, what is expected to come."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from foundry_lite.conversion.build_spec import BuildSpec
from foundry_lite.conversion.jobs.job_store import Job, JobStore, State, Step, ended, log_name, owned
from foundry_lite.conversion.jobs.progress import JobProgress, StepReport
from foundry_lite.errors import JobNotFound

ORDER = BuildSpec("mine", "somewhere")


@pytest.fixture
def jobs(tmp_path: Path) -> JobStore:
    return JobStore(tmp_path)


def test_a_new_job_waits_and_two_of_one_second_have_their_own_numbers(jobs: JobStore) -> None:
    first, second = jobs.begin(ORDER), jobs.begin(ORDER)
    assert first.id != second.id
    assert {one.state for one in jobs.all()} == {State.QUEUED}
    assert jobs.find(first.id).order == ORDER


def test_a_job_is_found_by_a_part_of_its_number_if_only_one_has_it(jobs: JobStore) -> None:
    job = jobs.begin(BuildSpec("alpha", "x"))
    jobs.begin(BuildSpec("beta", "x"))
    assert jobs.find("alpha").id == job.id
    assert jobs.find("last").order.name in ("alpha", "beta")
    for name in ("gamma", "", "a"):
        with pytest.raises(JobNotFound) as caught:
            jobs.find(name)
        assert caught.value.hint


def test_a_job_whose_process_has_gone_was_interrupted(jobs: JobStore) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        job = msgspec.structs.replace(owned(jobs.begin(ORDER)), pid=process.pid, state=State.RUNNING)
        jobs.write(job)  # the number of a living process, but not the one that was begun then
        assert jobs.find(job.id).state is State.INTERRUPTED
        process.communicate()
    mine = jobs.write(msgspec.structs.replace(owned(jobs.begin(ORDER)), state=State.RUNNING))
    assert jobs.find(mine.id).state is State.RUNNING
    gone = jobs.write(msgspec.structs.replace(mine, pid=process.pid))
    assert jobs.find(gone.id).state is State.INTERRUPTED


def test_a_damaged_record_hides_no_other(jobs: JobStore) -> None:
    job, bad = jobs.begin(ORDER), jobs.begin(ORDER)
    (jobs.folder(bad.id) / "job.json").write_text("{")
    assert [one.id for one in jobs.all()] == [job.id]


def test_a_waiting_job_is_cancelled_on_the_spot_and_an_ended_one_stays_as_it_is(jobs: JobStore) -> None:
    job = jobs.cancel(jobs.begin(ORDER))
    assert jobs.find(job.id).state is State.CANCELLED
    done = jobs.write(ended(jobs.begin(ORDER), State.DONE))
    assert jobs.cancel(done).state is State.DONE


def test_cancelling_tells_the_process(jobs: JobStore) -> None:
    code = "import signal, sys; signal.signal(15, lambda *_: sys.exit(9)); print('ready', flush=True); signal.pause()"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        from foundry_lite.machine import process_started

        job = msgspec.structs.replace(
            jobs.begin(ORDER), state=State.RUNNING, pid=process.pid, process_started=process_started(process.pid)
        )
        jobs.cancel(jobs.write(job))
        assert process.wait(10) == 9


def test_one_build_runs_and_the_others_wait(tmp_path: Path) -> None:
    order: list[str] = []

    async def work(name: str, seconds: float) -> None:
        jobs = JobStore(tmp_path)
        async with jobs.turn(jobs.begin(ORDER)):
            order.append(f"{name} begins")
            await asyncio.sleep(seconds)
            order.append(f"{name} ends")

    async def both() -> None:
        await asyncio.gather(work("one", 0.05), work("two", 0.01))

    asyncio.run(both())
    assert order in (
        ["one begins", "one ends", "two begins", "two ends"],
        ["two begins", "two ends", "one begins", "one ends"],
    )


def test_a_journal_writes_every_step_and_what_it_expects(jobs: JobStore) -> None:
    earlier = Step(1, "export", "x", "01-export.log", seconds=8.0)
    kept = msgspec.structs.replace(earlier, number=2, seconds=0.1, is_kept=True)
    jobs.write(msgspec.structs.replace(jobs.begin(ORDER), parameters=200_000_000, steps=(earlier, kept)))
    told: list[StepReport] = []
    journal = JobProgress(jobs, jobs.begin(ORDER), told.append)
    journal.begin()
    journal.know(400_000_000)
    with journal.step("export", "a graph") as now:
        assert told[-1].seconds_left == pytest.approx(16.0)
        assert jobs.find(journal.job.id).state is State.RUNNING
        assert jobs.find(journal.job.id).pid == os.getpid()
        now.log.write_text("hello\n")
        now.detail = "a graph of 3 nodes"
    with pytest.raises(ValueError, match="broken"), journal.step("check", "b"):
        raise ValueError("broken")
    steps = jobs.find(journal.job.id).steps
    assert [(one.name, one.seconds is None) for one in steps] == [("export", False), ("check", True)]
    assert "hello" in jobs.log(journal.job)
    assert "a graph of 3 nodes" in jobs.log(journal.job, "export")
    with pytest.raises(JobNotFound, match="no step 'merge'"):
        jobs.log(journal.job, "merge")
    journal.end(State.FAILED, "broken", "mend it")
    assert (jobs.find(journal.job.id).error, jobs.find(journal.job.id).hint) == ("broken", "mend it")


def test_without_a_comparable_job_nothing_is_expected(jobs: JobStore) -> None:
    assert jobs.seconds_of("export", 10) is None
    jobs.write(Job(jobs.begin(ORDER).id, ORDER, "now", parameters=0, steps=(Step(1, "export", "", "", 5.0),)))
    assert jobs.seconds_of("export", 10) is None


def test_a_log_is_named_for_its_step() -> None:
    assert log_name(3, "quantize", "cpu-int4-b128") == "03-quantize-cpu-int4-b128.log"
    assert log_name(12, "export") == "12-export.log"
    assert "/" not in log_name(1, "check", "../../etc: passwd")
