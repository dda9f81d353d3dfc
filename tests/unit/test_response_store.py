"""Stored responses: whole or not there, bounded, private, and no name of theirs leads out of their folder."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from foundry_lite.errors import InvalidRequest, ResponseNotFound, StorageFull
from foundry_lite.generation import Delta, Finish
from foundry_lite.protocol.responses.bodies import Circumstances
from foundry_lite.protocol.responses.items import listed
from foundry_lite.protocol.responses.request import decode_response
from foundry_lite.protocol.responses.writer import ResponseWriter
from foundry_lite.server.openai.background_responses import Background, Run
from foundry_lite.server.openai.response_store import Record, ResponseStore
from tests.support import served

CALL = decode_response(b'{"model": "mine", "input": "hi", "background": true, "stream": true}')


def writer() -> ResponseWriter:
    return ResponseWriter(CALL, Circumstances(served("mine:cpu-int4"), 1.0, 1.0, is_kept=True))


def record(text: str = "x") -> Record:
    one = writer()
    return Record(one.whole([Delta(text, finish=Finish.STOP)]), listed(CALL.items, one.id), CALL.continuing())


def store(root: Path, responses: int = 10, size: int = 10**6) -> ResponseStore:
    return ResponseStore(root / "responses", responses, size)


def test_what_was_written_is_read_again_by_another_store(tmp_path: Path) -> None:
    one = record("ü")
    asyncio.run(store(tmp_path).write(one))
    assert asyncio.run(store(tmp_path).read(one.response.id)) == one


def test_only_the_owner_may_read_it_and_nothing_else_is_left(tmp_path: Path) -> None:
    one = record()
    asyncio.run(store(tmp_path).write(one))
    [path] = (tmp_path / "responses").iterdir()
    assert path.name == f"{one.response.id}.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_what_a_daemon_was_writing_when_it_was_killed_does_not_stay(tmp_path: Path) -> None:
    folder = tmp_path / "responses"
    folder.mkdir()
    (folder / f".resp_{'0' * 48}.4711").write_text("what somebody said")
    asyncio.run(store(tmp_path).write(record()))
    assert [path.name[0] for path in folder.iterdir()] == ["r"]


def test_the_oldest_make_room_for_the_newest_also_after_a_restart(tmp_path: Path) -> None:
    records = [record() for _ in range(4)]

    async def fill() -> None:
        for number, one in enumerate(records[:3]):
            await store(tmp_path, 2 if number else 10).write(one)
            path = tmp_path / "responses" / f"{one.response.id}.json"
            os.utime(path, (number, number))

    asyncio.run(fill())
    asyncio.run(store(tmp_path, 2).write(records[3]))
    left = {path.stem for path in (tmp_path / "responses").iterdir()}
    assert left == {records[2].response.id, records[3].response.id}


def test_their_bytes_are_bounded_too_and_a_change_does_not_count_twice(tmp_path: Path) -> None:
    one, two = record("x" * 1000), record("y" * 1000)

    async def fill(kept: ResponseStore) -> None:
        for _ in range(5):
            await kept.write(one)
        assert (await kept.read(one.response.id)) == one
        await kept.write(two)

    asyncio.run(fill(store(tmp_path, size=3500)))
    assert [path.stem for path in (tmp_path / "responses").iterdir()] == [two.response.id]


def test_what_is_deleted_is_gone(tmp_path: Path) -> None:
    one, kept = record(), store(tmp_path)

    async def delete() -> None:
        await kept.write(one)
        await kept.delete(one.response.id)
        for again in (kept.read, kept.delete):
            with pytest.raises(ResponseNotFound):
                await again(one.response.id)

    asyncio.run(delete())


@pytest.mark.parametrize("identity", ["", "resp_1", "../secret", f"resp_{'g' * 48}", f"resp_{'a' * 48}\n", "x" * 10000])
def test_an_id_that_is_none_of_ours_is_not_looked_for(tmp_path: Path, identity: str) -> None:
    (tmp_path / "secret.json").write_text("{}")
    kept = store(tmp_path)

    async def look() -> None:
        for ask in (kept.read, kept.delete):
            with pytest.raises(ResponseNotFound) as caught:
                await ask(identity)
            assert len(caught.value.message) < 200

    asyncio.run(look())


def test_a_damaged_file_is_no_response(tmp_path: Path) -> None:
    one = record()
    asyncio.run(store(tmp_path).write(one))
    (tmp_path / "responses" / f"{one.response.id}.json").write_bytes(b'{"response":')
    with pytest.raises(ResponseNotFound):
        asyncio.run(store(tmp_path).read(one.response.id))


def test_one_that_is_switched_off_says_so(tmp_path: Path) -> None:
    assert not store(tmp_path, responses=0).is_on
    assert not store(tmp_path, size=0).is_on
    with pytest.raises(ResponseNotFound, match="keeps no responses"):
        asyncio.run(store(tmp_path, responses=0).read(f"resp_{'a' * 48}"))


def test_a_folder_that_cannot_be_written_is_a_full_storage_and_costs_only_the_copy(tmp_path: Path) -> None:
    (tmp_path / "responses").write_text("in the way")
    one, response = writer(), record()
    with pytest.raises(StorageFull):
        asyncio.run(store(tmp_path).write(response))
    asyncio.run(Background(store(tmp_path)).keeping(one, response)(response.response))
    assert one.so_far("in_progress").store is False


def test_a_run_is_followed_by_several_and_from_any_event_on(tmp_path: Path) -> None:
    async def follow() -> None:
        background, one = Background(store(tmp_path)), writer()
        run = Run(one, record(), has_log=True)
        goes_on = asyncio.Event()

        async def events() -> AsyncIterator[bytes]:
            yield one.opening()
            yield b": a comment\n\n"
            await goes_on.wait()
            yield one.write([Delta("a", finish=Finish.STOP)]) + one.closing()

        await background.begin(run, events(), lambda: None)
        assert background.find(one.id) is run
        early = asyncio.create_task(collect(run, -1))
        await asyncio.sleep(0.01)
        late = asyncio.create_task(collect(run, 4))
        goes_on.set()
        everything = await early
        assert [f'"sequence_number":{n},'.encode() in event for n, event in enumerate(everything)] == [True] * 9
        assert await late == everything[5:]
        assert background.find(one.id) is run
        assert await collect(run, 4) == everything[5:]

    async def collect(run: Run, after: int) -> list[bytes]:
        return [event async for event in run.follow(after)]

    asyncio.run(follow())


@pytest.mark.parametrize(("length", "remembered"), [(1, 8), (2**20, 7)])
def test_the_events_of_the_last_runs_are_remembered(tmp_path: Path, length: int, remembered: int) -> None:
    """As many as eight, and no more than 8 MiB of them."""

    async def remember() -> None:
        background, names = Background(store(tmp_path)), []
        for _ in range(10):
            one = writer()
            run = Run(one, Record(one.so_far("in_progress"), [], ()), has_log=True)

            async def events() -> AsyncIterator[bytes]:
                yield b"event: e\ndata: " + b"x" * length + b"\n\n"

            await background.begin(run, events(), lambda: None)
            while not run.is_over:
                await asyncio.sleep(0)
            names.append(one.id)
        found = [name for name in names if background.find(name) is not None]
        assert found == names[-remembered:]
        await background.delete(found[0])
        assert background.find(found[0]) is None

    asyncio.run(remember())


def test_a_run_is_stopped_by_a_cancel_and_by_the_end_of_the_daemon(tmp_path: Path) -> None:
    async def stop() -> None:
        background = Background(store(tmp_path))
        ended: list[str] = []

        async def begin() -> Run:
            one = writer()

            async def events() -> AsyncIterator[bytes]:
                yield one.opening()
                yield one.write([Delta("so far")])
                await asyncio.Event().wait()

            run = Run(one, Record(one.so_far("in_progress"), [], ()), has_log=True)
            await background.begin(run, events(), lambda: ended.append(one.id))
            await asyncio.sleep(0.01)
            return run

        first, second = await begin(), await begin()
        assert (await background.read(first.writer.id)).response.status == "in_progress"
        for _ in range(2):
            response = await background.cancel(first.writer.id)
            assert response.status == "cancelled"
        assert b"so far" in (tmp_path / "responses" / f"{first.writer.id}.json").read_bytes()
        assert first.is_over
        await background.close()
        response = (await background.read(second.writer.id)).response
        assert response.status == "failed"
        assert response.error is not None
        assert "daemon ended" in response.error.message
        assert ended == [first.writer.id, second.writer.id]

    asyncio.run(stop())


@pytest.mark.parametrize("first", ["cancel", "delete"])
def test_a_run_that_several_stop_at_once_is_stored_once_and_stays_deleted(tmp_path: Path, first: str) -> None:
    class Counting(ResponseStore):
        written = 0

        async def write(self, record: Record) -> None:
            self.written += 1
            await super().write(record)

    async def stop() -> None:
        kept = Counting(tmp_path / "responses", 10, 10**6)
        background, one = Background(kept), writer()

        async def events() -> AsyncIterator[bytes]:
            yield one.opening()
            await asyncio.Event().wait()

        run = Run(one, Record(one.so_far("in_progress"), [], ()), has_log=True)
        await background.begin(run, events(), lambda: None)
        await asyncio.sleep(0.01)
        ways = [background.cancel, background.delete] if first == "cancel" else [background.delete, background.cancel]
        await asyncio.gather(*(way(one.id) for way in ways * 3), return_exceptions=True)
        assert kept.written == 2  # as being made, and as cancelled
        with pytest.raises(ResponseNotFound):
            await background.read(one.id)

    asyncio.run(stop())


def test_a_run_that_a_crash_cut_off_has_failed(tmp_path: Path) -> None:
    one = writer()
    left = Record(one.so_far("in_progress"), [], ())
    asyncio.run(store(tmp_path).write(left))
    response = asyncio.run(Background(store(tmp_path)).cancel(one.id))
    assert response.status == "failed"
    assert response.error is not None


def test_only_a_response_of_the_background_can_be_cancelled(tmp_path: Path) -> None:
    call = decode_response(b'{"model": "mine", "input": "hi"}')
    one = ResponseWriter(call, Circumstances(served("mine:cpu-int4"), 1.0, 1.0, is_kept=True))
    made = Record(one.whole([Delta("x", finish=Finish.STOP)]), [], ())
    asyncio.run(store(tmp_path).write(made))
    with pytest.raises(InvalidRequest, match="not made in the background"):
        asyncio.run(Background(store(tmp_path)).cancel(one.id))
