"""The process that runs one encoder: texts of many requests in on stdin, vectors or scores out on stdout.

Three threads. The *intake* reads requests. The *tokeniser* takes pieces of them in turn, so that no request waits until
a huge one is tokenised. The *main* thread encodes batches of what waits, whosever it is; onnxruntime and the tokenizers
let go of the interpreter lock while they work. When stdin ends, because the daemon closed it or died, the process ends.
"""

from __future__ import annotations

import os
import threading
import time
import traceback
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np

from foundry_lite.catalog.encoder import read_encoder
from foundry_lite.embedding import Encoded, EncodeRequest, EncodeTimings
from foundry_lite.engine.encoder import fingerprint
from foundry_lite.engine.encoder.batching import Row, Waiting
from foundry_lite.engine.encoder.pooling import Floats, shorten
from foundry_lite.engine.encoder.session import EncoderSession
from foundry_lite.engine.encoder.tokenizer import EncoderText, TextTokens
from foundry_lite.engine.ipc import encoder_messages, messages
from foundry_lite.engine.ipc.encoder_messages import (
    Cancel,
    Command,
    Detokenize,
    Detokenized,
    Done,
    Encode,
    EncoderLoaded,
    LoadEncoder,
    Tokenize,
    Tokenized,
)
from foundry_lite.engine.ipc.worker_pipe import Outbox, serve_pipe
from foundry_lite.errors import FoundryError, InternalFault, LoadFailed
from foundry_lite.machine import find_kernels


@dataclass(slots=True, eq=False)
class _Job:
    """A request and how far it is. Times are in seconds of the monotonic clock."""

    number: int
    request: EncodeRequest
    values: Floats
    left: int
    arrived: float = field(default_factory=time.monotonic)
    tokenized: int = 0  # texts
    tokens: int = 0
    tokenize: float = 0.0
    encode: float = 0.0


class Worker:
    """The three loops, and what they share."""

    def __init__(self, load: LoadEncoder, inbox: BinaryIO, outbox: Outbox) -> None:
        folder = Path(load.folder)
        self._inbox = inbox
        self._outbox = outbox
        self._encoder = read_encoder(folder)
        self._text = EncoderText(folder, self._encoder)
        self._session = EncoderSession(folder, self._encoder, load.threads)
        self._changed = threading.Condition()  # guards all that follows
        self._jobs: dict[int, _Job] = {}
        self._fresh: deque[_Job | Tokenize | Detokenize] = deque()  # with texts that are not tokenised yet
        self._waiting = Waiting()
        note = fingerprint.settle(self._session, self._text.vocabulary, folder, find_kernels())
        outbox.send(EncoderLoaded(self._encoder.max_length, self._text.vocabulary, self._encoder.dimensions, note))

    def run(self) -> None:
        """Serve until the process is ended by the intake."""
        for loop in (self._intake, self._tokenize_forever):
            threading.Thread(target=loop, name=loop.__name__, daemon=True).start()
        while True:
            with self._changed:
                self._changed.wait_for(lambda: len(self._waiting))
                batch = self._waiting.take()
            try:
                self._encode(batch)
            except Exception as error:  # noqa: BLE001 - texts that we fail on must not cost the others
                traceback.print_exc()
                for number in {row.request for row in batch}:
                    self._fail(number, InternalFault(f"{type(error).__name__}: {error}"))

    def _intake(self) -> None:
        while (frame := messages.read_frame(self._inbox)) is not None:
            self._take(encoder_messages.decode_command(frame))
        os._exit(0)  # the daemon is gone: nobody waits for what still runs

    def _take(self, command: Command) -> None:
        match command:
            case Encode(number=number, request=request):
                width = self._encoder.dimensions if request.dimensions is None else request.dimensions
                with self._changed:
                    job = _Job(number, request, np.empty((0, width), np.float32), len(request))
                    self._jobs[number] = job
                    self._fresh.append(job)
                    self._changed.notify_all()
            case Tokenize() | Detokenize():
                with self._changed:
                    self._fresh.append(command)
                    self._changed.notify_all()
            case Cancel(number=number):
                self._forget(number)
            case LoadEncoder():
                pass  # the first command, and obeyed before this loop began

    def _tokenize_forever(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._fresh)
                work = self._fresh.popleft()
            is_job = isinstance(work, _Job)
            try:
                self._tokenize(work) if isinstance(work, _Job) else self._outbox.send(self._reply(work))
            except FoundryError as error:
                self._fail(work.number, error, is_job=is_job)
            except Exception as error:  # noqa: BLE001 - one request that we fail on must not cost the others
                traceback.print_exc()
                self._fail(work.number, InternalFault(f"{type(error).__name__}: {error}"), is_job=is_job)

    def _reply(self, question: Tokenize | Detokenize) -> Tokenized | Detokenized:
        """Answer with the tokens of a text, or the text of tokens, which needs no run of the model."""
        if isinstance(question, Detokenize):
            return Detokenized(question.number, self._text.decode(question.tokens))
        tokens = self._text.encode(question.text, as_input=question.as_input)
        return Tokenized(question.number, tuple(tokens), self._text.spell(tokens) if question.with_pieces else ())

    def _tokenize(self, job: _Job) -> None:
        """Tokenise the next texts of a request; it goes to the end of the line when it has more of them."""
        began, start = time.monotonic(), job.tokenized
        if start == 0:
            self._text.check(job.request)
            job.values = np.empty((len(job.request), job.values.shape[1]), np.float32)
        end = self._text.chunk(job.request, start)
        rows = _rows(job.number, start, self._text.tokenize(job.request, start, end))
        with self._changed:
            if job.number not in self._jobs:
                return  # cancelled meanwhile
            job.tokenized, job.tokens = end, job.tokens + sum(len(row.ids) for row in rows)
            job.tokenize += time.monotonic() - began
            self._waiting.add(rows)
            if end < len(job.request):
                self._fresh.append(job)
            self._changed.notify_all()

    def _encode(self, batch: Sequence[Row]) -> None:
        began = time.monotonic()
        made = self._session.run(batch)
        with self._changed:
            jobs = [self._jobs.get(row.request) for row in batch]
        took, tokens = time.monotonic() - began, sum(len(row.ids) for row in batch)
        for row, values, job in zip(batch, made, jobs, strict=True):
            if job is not None:
                self._note(job, row, values, took * len(row.ids) / tokens)

    def _note(self, job: _Job, row: Row, values: Floats, seconds: float) -> None:
        """Keep what came of one text; answer when it was the request's last."""
        if not np.isfinite(values).all():
            self._fail(job.number, InternalFault(f"the model gives no numbers for '{job.request.name(row.place)}'"))
            return
        width = job.values.shape[1]
        is_cut = width < len(values)
        job.values[row.place] = shorten(values, width, keeps_length=self._encoder.normalise) if is_cut else values
        job.encode += seconds
        job.left -= 1
        if not job.left and self._forget(job.number):
            waited = time.monotonic() - job.arrived - job.tokenize - job.encode
            timings = EncodeTimings(max(0.0, waited), job.tokenize, job.encode)
            encoded = Encoded(job.values.astype("<f4", copy=False).tobytes(), width, job.tokens, timings)
            self._outbox.send(Done(job.number, encoded))

    def _fail(self, number: int, error: FoundryError, *, is_job: bool = True) -> None:
        if not is_job or self._forget(number):
            self._outbox.send(messages.failure(number, error))

    def _forget(self, number: int) -> bool:
        """Drop what waits of a request; return whether it was there."""
        with self._changed:
            job = self._jobs.pop(number, None)
            if job is not None and job in self._fresh:
                self._fresh.remove(job)
            self._waiting.drop(number)
        return job is not None


def _rows(number: int, start: int, tokenized: Sequence[TextTokens]) -> list[Row]:
    return [Row(number, start + index, ids, kinds) for index, (ids, kinds) in enumerate(tokenized)]


def _load(frame: bytes, inbox: BinaryIO, outbox: Outbox) -> Worker:
    load = encoder_messages.decode_command(frame)
    if not isinstance(load, LoadEncoder):
        raise TypeError(f"the first command must be LoadEncoder, not {type(load).__name__}")
    try:
        return Worker(load, inbox, outbox)
    except FoundryError as error:
        raise LoadFailed(error.message, hint=error.hint) from error


def main() -> None:
    """Run a worker on this process's stdin and stdout."""
    serve_pipe(_load, encoder_messages.frame)


if __name__ == "__main__":
    main()
