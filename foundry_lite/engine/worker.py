"""The process that runs one model: commands in on stdin, replies out on stdout.

Two threads. The *intake* reads commands, renders and tokenises prompts, and refuses what cannot be run, so that a long
prompt does not hold up the streams. The *main* thread owns the scheduler and the runner; the inference library lets
go of the interpreter lock while it computes. When stdin ends, because the daemon closed it or died, the process ends.
"""

from __future__ import annotations

import os
import queue
import signal
import threading
import time
import traceback
from pathlib import Path
from typing import BinaryIO

from foundry_lite.engine import messages
from foundry_lite.engine.messages import Admitted, Begin, Cancel, Command, Load, Loaded, Produced, Reply
from foundry_lite.engine.ort_runner import OrtRunner
from foundry_lite.engine.sampler import Chooser
from foundry_lite.engine.scheduler import Scheduler
from foundry_lite.engine.text import TextModel
from foundry_lite.engine.turn import Answer, Turn
from foundry_lite.errors import ContextExceeded, EngineBusy, FoundryError, InternalFault, InvalidRequest, LoadFailed
from foundry_lite.generation import Chat, Delta, GenerationRequest

_PATIENCE = 0.004  # seconds that a token may wait to be told with others


class Outbox:
    """Replies to the daemon; both threads write."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._lock = threading.Lock()

    def send(self, reply: Reply) -> None:
        with self._lock:
            messages.write_frame(self._stream, reply)


class Preparer:
    """Requests to turns: renders, tokenises, checks lengths, fills in the model's defaults."""

    def __init__(self, load: Load, text: TextModel, runner: OrtRunner) -> None:
        self._load = load
        self._text = text
        self._context_length = runner.context_length
        self._vocabulary = runner.vocabulary

    def prepare(self, number: int, request: GenerationRequest) -> Turn:
        """Make the turn. Raises `InvalidRequest`."""
        prompt = request.prompt
        tokens = self._text.encode_chat(prompt) if isinstance(prompt, Chat) else list(prompt.ids)
        room = self._context_length - len(tokens)
        if room < 1:
            raise ContextExceeded(len(tokens), self._context_length)
        if not tokens:
            raise InvalidRequest("the prompt is empty", "messages")
        if not 0 <= min(tokens) <= max(tokens) < self._vocabulary:
            raise InvalidRequest(f"the prompt has token ids outside 0 to {self._vocabulary - 1}", "prompt")
        parses_tools = isinstance(prompt, Chat) and bool(prompt.tools)
        return Turn(
            number=number,
            prompt=tokens,
            chooser=self._chooser(request),
            answer=Answer(self._text.detokenizer(), request.stop, parses_tools=parses_tools),
            eos_ids=frozenset() if request.ignore_eos else self._text.eos_ids,
            max_new_tokens=min(request.max_new_tokens or room, room),
        )

    def _chooser(self, request: GenerationRequest) -> Chooser:
        ours, load = request.sampling, self._load
        return Chooser(
            temperature=load.temperature if ours.temperature is None else ours.temperature,
            top_p=load.top_p if ours.top_p is None else ours.top_p,
            top_k=load.top_k if ours.top_k is None else ours.top_k,
            seed=ours.seed,
        )


class Gathering:
    """Deltas of several quick steps become one message: a step of a tiny model takes less time than telling of it.

    A lone turn is told each token as it is made. Among several, a turn's first token and its end are told at once and
    everything else within ``_PATIENCE``, which leaves the cores to the model. Steps that take longer than that, as
    those of models beyond some 100 million parameters do, are always told one by one. docs/decisions/0007.
    """

    def __init__(self) -> None:
        self._deltas: dict[int, Delta] = {}
        self._known: set[int] = set()  # turns whose first token has been told
        self._told = 0.0
        self._is_urgent = False

    def add(self, deltas: list[tuple[int, Delta]]) -> int:
        """Gather the deltas of one step; return how many turns ended."""
        finished = 0
        for number, delta in deltas:
            before = self._deltas.get(number)
            self._deltas[number] = delta if before is None else _join(before, delta)
            if number not in self._known:
                self._known.add(number)
                self._is_urgent = True
            if delta.finish is not None:
                self._known.discard(number)
                self._is_urgent = True
                finished += 1
        return finished

    @property
    def is_due(self) -> bool:
        is_ripe = len(self._known) < 2 or time.monotonic() - self._told > _PATIENCE
        return self._is_urgent or (bool(self._deltas) and is_ripe)

    def take(self) -> list[tuple[int, Delta]]:
        """Return what was gathered, one delta a turn."""
        taken = list(self._deltas.items())
        self._deltas.clear()
        self._is_urgent = False
        self._told = time.monotonic()
        return taken

    def forget(self, number: int) -> None:
        """Drop what was gathered for a cancelled turn."""
        self._deltas.pop(number, None)
        self._known.discard(number)


class Worker:
    """The two loops, and the queue between them."""

    def __init__(self, load: Load, inbox: BinaryIO, outbox: Outbox) -> None:
        folder = Path(load.folder)
        self._inbox = inbox
        self._outbox = outbox
        runner = OrtRunner(folder, threads=load.threads, slots=load.slots, context_length=load.context_length)
        self._preparer = Preparer(load, TextModel(folder), runner)
        self._scheduler = Scheduler(runner)
        self._gathering = Gathering()
        self._commands: queue.SimpleQueue[Turn | int] = queue.SimpleQueue()  # a turn to begin, a number to cancel
        self._capacity = load.slots + load.queue
        self._open = 0  # turns admitted and not ended: raised by the intake, lowered by the main loop
        self._count = threading.Lock()
        outbox.send(Loaded(runner.context_length, runner.vocabulary))

    def run(self) -> None:
        """Serve until the process is ended by the intake."""
        threading.Thread(target=self._intake, name="intake", daemon=True).start()
        while True:
            self._obey(waits=self._scheduler.is_idle)
            if self._scheduler.is_idle:
                continue
            finished = self._gathering.add(self._scheduler.step())
            if finished:
                self._close(finished)
            if self._gathering.is_due:
                self._outbox.send(Produced(self._gathering.take()))

    def _obey(self, *, waits: bool) -> None:
        """Take what the intake has prepared; wait for it when there is nothing to run."""
        while waits or not self._commands.empty():
            command = self._commands.get()
            waits = False
            if isinstance(command, Turn):
                self._scheduler.begin(command)
            elif self._scheduler.cancel(command):
                self._gathering.forget(command)
                self._close(1)

    def _close(self, turns: int) -> None:
        with self._count:
            self._open -= turns

    def _intake(self) -> None:
        while (frame := messages.read_frame(self._inbox)) is not None:
            self._take(messages.decode_command(frame))
        os._exit(0)  # the daemon is gone: nobody waits for what still runs

    def _take(self, command: Command) -> None:
        match command:
            case Begin(turn=number, request=request):
                try:
                    self._admit(number, request)
                except FoundryError as error:
                    self._outbox.send(messages.failure(number, error))
                except Exception as error:  # noqa: BLE001 - one request that we fail on must not cost the others
                    traceback.print_exc()
                    self._outbox.send(messages.failure(number, InternalFault(f"{type(error).__name__}: {error}")))
            case Cancel(turn=number):
                self._commands.put(number)

    def _admit(self, number: int, request: GenerationRequest) -> None:
        with self._count:
            if self._open >= self._capacity:
                raise EngineBusy(f"{self._open} requests are running or waiting already", hint="Try again in a moment.")
            self._open += 1
        try:
            turn = self._preparer.prepare(number, request)
        except BaseException:
            self._close(1)
            raise
        self._outbox.send(Admitted(number, len(turn.prompt)))
        self._commands.put(turn)


def _join(first: Delta, then: Delta) -> Delta:
    return Delta(
        text=first.text + then.text,
        tool_calls=first.tool_calls + then.tool_calls,
        tokens=first.tokens + then.tokens,
        finish=then.finish,
        usage=then.usage,
        timings=then.timings,
    )


def main() -> None:
    """Run a worker on this process's stdin and stdout."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the daemon's to handle; it closes our stdin
    inbox = os.fdopen(os.dup(0), "rb")
    outbox = Outbox(os.fdopen(os.dup(1), "wb"))
    os.dup2(2, 1)  # whatever a native library prints must not land between our frames
    frame = messages.read_frame(inbox)
    if frame is None:
        return
    load = messages.decode_command(frame)
    if not isinstance(load, Load):
        raise TypeError(f"the first command must be Load, not {type(load).__name__}")
    try:
        worker = Worker(load, inbox, outbox)
    except FoundryError as error:
        outbox.send(messages.failure(None, error))
        return
    except MemoryError as error:
        outbox.send(messages.failure(None, LoadFailed(f"not enough memory to load this model: {error}")))
        return
    worker.run()


if __name__ == "__main__":
    main()
