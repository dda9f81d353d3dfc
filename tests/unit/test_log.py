"""The log must not hold up who writes it."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time

from foundry_lite.server.http.log import LogHandler
from tests.support import eventually


def record(text: str) -> logging.LogRecord:
    return logging.LogRecord("test", logging.INFO, "", 0, text, None, None)


def test_lines_are_written_in_their_order_and_all_of_them_at_the_end() -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading) as reader, os.fdopen(writing, "w") as stream:
        handler = LogHandler(stream)
        for number in range(100):
            handler.emit(record(f"line {number}"))
        handler.close()
        stream.close()
        assert [line.split("line ")[1].strip() for line in reader] == [str(number) for number in range(100)]


def test_a_log_that_nobody_reads_holds_nobody_up() -> None:
    reading, writing = os.pipe()
    stream = os.fdopen(writing, "w")
    handler = LogHandler(stream)
    began = time.monotonic()
    for _ in range(2000):  # a pipe holds 64 KiB
        handler.emit(record("x" * 1000))
    assert time.monotonic() - began < 1
    os.close(reading)  # which ends the writing, as the reader's end does
    handler.close()
    with contextlib.suppress(BrokenPipeError):
        stream.close()


def test_lines_that_were_lost_are_counted() -> None:
    reading, writing = os.pipe()
    read: list[str] = []
    with os.fdopen(reading) as reader, os.fdopen(writing, "w") as stream:
        handler = LogHandler(stream)
        for _ in range(12_000):  # the pipe holds 64 KiB, and ten thousand lines wait
            handler.emit(record("x" * 100))
        reads = threading.Thread(target=lambda: read.extend(reader))
        reads.start()
        eventually(lambda: handler._lines.empty())
        handler.emit(record("the last"))
        handler.close()
        stream.close()
        reads.join()
    lost = [
        int(line.split()[0]) for line in read if line.endswith("lines before this one were lost: nobody read them\n")
    ]
    assert read[-1].endswith("the last\n")
    assert lost and sum(lost) == 12_001 - (len(read) - len(lost))
