"""The process that runs one model: commands in on stdin, replies out on stdout.

Three threads. The *intake* reads commands, renders and tokenises prompts, and refuses what cannot be run, so that a
long prompt does not hold up the streams. Grammars that are new are compiled beside it, in the *compiling* queue, so
that one that takes long does not hold up the prompts. The *main* thread owns the scheduler and the runner; the
libraries let go of the interpreter lock while they compute. When stdin ends, because the daemon closed it or died,
the process ends.
"""

from __future__ import annotations

import os
import queue
import threading
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import BinaryIO, TypeAlias

from foundry_lite import machine
from foundry_lite.catalog.recipe import Provider
from foundry_lite.engine.ipc import messages
from foundry_lite.engine.ipc.messages import (
    AdapterReady,
    Admitted,
    Begin,
    Cancel,
    Command,
    Decode,
    Decoded,
    Encode,
    Encoded,
    Inspect,
    Inspected,
    Load,
    LoadAdapter,
    Loaded,
    Produced,
    UnloadAdapter,
)
from foundry_lite.engine.ipc.worker_pipe import Outbox, serve_pipe
from foundry_lite.engine.runners import fingerprint
from foundry_lite.engine.runners.base import Runner
from foundry_lite.engine.runners.model_folder import own_context_length
from foundry_lite.engine.runners.ort import start_runtime
from foundry_lite.engine.runners.select import open_runner, runner_name
from foundry_lite.engine.scheduling import batch_invariance
from foundry_lite.engine.scheduling.scheduler import Scheduler, Told
from foundry_lite.engine.text.tokenizer import TextModel
from foundry_lite.engine.worker.compile_queue import CompilingLine, Job
from foundry_lite.engine.worker.delta_batcher import DeltaBatcher
from foundry_lite.engine.worker.input_processor import Draft, InputProcessor, Limits
from foundry_lite.engine.worker.sequence import Turn
from foundry_lite.errors import FoundryError, InternalFault, LoadFailed, QueueFull
from foundry_lite.generation import Delta, GenerationRequest

_Order: TypeAlias = list[Turn] | Cancel | LoadAdapter | UnloadAdapter | Inspect


class Worker:
    """The two loops, and the queue between them."""

    def __init__(self, load: Load, inbox: BinaryIO, outbox: Outbox) -> None:
        start_runtime(load.threads)
        runtime_bytes = machine.resident_memory_bytes(os.getpid())
        folder = Path(load.folder)
        self._inbox = inbox
        self._outbox = outbox
        # Twice the slots: what ended sequences computed stays in the other half, for as long as its memory lasts.
        runner = open_runner(
            folder,
            threads=load.threads,
            slots=2 * load.slots,
            context_length=load.context_length,
            provider=load.provider,
        )
        self._runner = runner
        is_cpu = load.provider is Provider.CPU  # others are compared with the CPU (`provider_parity`)
        had_companion = runner.uses_companion
        note = fingerprint.settle(runner, folder, machine.find_kernels()) if is_cpu else ""
        is_reduced = had_companion and not runner.uses_companion
        kv_tokens = _kv_tokens(runner, load.kv_bytes)
        text = TextModel(folder)
        self._capacity = load.slots + load.queue
        context_length = min(runner.context_length, kv_tokens)
        limits = Limits(
            context_length, runner.vocabulary, self._capacity, _settle(runner, load), _remedy(runner, kv_tokens, folder)
        )
        self._preparer = InputProcessor(load, text, limits)
        self._compiling = CompilingLine()
        self._scheduler = Scheduler(runner, most=load.slots, kv_tokens=kv_tokens, is_reproducible=load.reproducible)
        self._gathering = DeltaBatcher()
        self._orders: queue.SimpleQueue[_Order] = queue.SimpleQueue()
        self._open = 0  # sequences admitted and not ended: raised by the intake, lowered by the main loop
        self._count = threading.Lock()
        self._leaving: set[str] = set()  # adapters to forget once no sequence uses them
        kv_bytes = min(kv_tokens, runner.slots * context_length) * runner.kv_bytes_per_token
        name, provider = runner_name(runner), load.provider
        outbox.send(
            Loaded(context_length, runner.vocabulary, kv_bytes, name, provider, runtime_bytes, note, is_reduced)
        )

    def run(self) -> None:
        """Serve until the process is ended by the intake."""
        threading.Thread(target=self._intake, name="intake", daemon=True).start()
        while True:
            self._obey(waits=self._scheduler.is_idle)
            if not self._scheduler.is_idle:
                self._tell(self._scheduler.step())

    def _tell(self, told: Told) -> None:
        deltas: list[tuple[int, Delta]] = []
        for number, one in told:
            if isinstance(one, Delta):
                deltas.append((number, one))
            else:  # one choice failed: the request has failed
                self._gathering.forget(number)
                self._close(1 + self._scheduler.cancel(number))
                self._outbox.send(messages.failure(number, one))
        self._close(self._gathering.add(deltas))
        if self._gathering.is_due:
            self._outbox.send(Produced(self._gathering.take()))

    def _obey(self, *, waits: bool) -> None:
        """Take what the intake has prepared; wait for it when there is nothing to run."""
        while waits or not self._orders.empty():
            self._follow(self._orders.get())
            waits = False
        for name in [name for name in self._leaving if not self._scheduler.uses(name)]:
            self._leaving.discard(name)
            self._scheduler.forget(name)

    def _follow(self, order: _Order) -> None:
        match order:
            case list():
                for turn in order:
                    self._scheduler.begin(turn)
            case Cancel(turn=number):
                self._close(self._scheduler.cancel(number))
                self._gathering.forget(number)
            case LoadAdapter(name=name, path=path):
                self._load_adapter(name, Path(path))
            case UnloadAdapter(name=name):
                self._leaving.add(name)
            case Inspect():
                self._outbox.send(self._inspect())

    def _inspect(self) -> Inspected:
        scheduler, token_bytes = self._scheduler, self._runner.kv_bytes_per_token
        return Inspected(
            scheduler.active,
            scheduler.waiting + len(self._compiling),
            scheduler.promised_tokens * token_bytes,
            scheduler.kept_tokens * token_bytes,
        )

    def _load_adapter(self, name: str, path: Path) -> None:
        error = None
        try:
            self._runner.load_adapter(name, path)
        except FoundryError as refused:
            error = refused.message
        self._leaving.discard(name)
        self._outbox.send(AdapterReady(name, error))

    def _close(self, turns: int) -> None:
        if turns:
            with self._count:
                self._open -= turns

    def _intake(self) -> None:
        while (frame := messages.read_frame(self._inbox)) is not None:
            self._take(messages.decode_command(frame))
        os._exit(0)  # the daemon is gone: nobody waits for what still runs

    def _take(self, command: Command) -> None:
        match command:
            case Begin(turn=number) | Encode(turn=number) | Decode(turn=number):
                try:
                    self._serve(command)
                except Exception as error:  # noqa: BLE001 - one request that we fail on must not cost the others
                    self._refuse(number, error)
            case Load():
                pass  # the first command, and obeyed before this loop began
            case Cancel(turn=number) if choices := self._compiling.cancel(number):
                self._close(choices)
            case order:
                self._orders.put(order)

    def _refuse(self, number: int, error: Exception) -> None:
        if not isinstance(error, FoundryError):
            traceback.print_exception(error)
            error = InternalFault(f"{type(error).__name__}: {error}")
        self._outbox.send(messages.failure(number, error))

    def _serve(self, command: Begin | Encode | Decode) -> None:
        match command:
            case Begin(turn=number, request=request):
                self._admit(number, request)
            case Encode(turn=number, prompt=prompt, with_pieces=with_pieces):
                tokens = self._preparer.encode(prompt)
                pieces = self._preparer.pieces(tokens) if with_pieces else ()
                self._outbox.send(Encoded(number, tuple(tokens), tuple(pieces)))
            case Decode(turn=number, tokens=ids):
                self._outbox.send(Decoded(number, self._preparer.decode(ids)))

    def _admit(self, number: int, request: GenerationRequest) -> None:
        with self._count:
            if self._open and self._open + request.choices > self._capacity:
                raise QueueFull(f"{self._open} requests are running or waiting already", hint="Try again in a moment.")
            self._open += request.choices
        try:
            draft = self._preparer.draft(number, request)
            turns = self._preparer.begin(draft)
        except BaseException:
            self._close(request.choices)
            raise
        if turns is not None:
            self._begin(number, turns)
        else:
            self._compile(draft)

    def _compile(self, draft: Draft) -> None:
        """Queue a request whose grammar must be compiled first."""
        number, choices = draft.number, draft.request.choices

        def work(waited: float) -> Callable[[], None]:
            return partial(self._begin, number, self._preparer.compile(draft, waited))

        def refuse(error: Exception) -> None:
            self._close(choices)
            self._refuse(number, error)

        self._compiling.add(Job(number, choices, work, refuse))

    def _begin(self, number: int, turns: list[Turn]) -> None:
        clock = turns[0].clock
        self._outbox.send(Admitted(number, len(turns[0].prompt), clock.template, clock.tokenize, clock.grammar))
        self._orders.put(turns)


def _kv_tokens(runner: Runner, kv_bytes: int) -> int:
    """Return how many tokens may be held in ``kv_bytes`` bytes. Raises `LoadFailed` when it is hardly any."""
    tokens = kv_bytes // runner.kv_bytes_per_token // runner.kv_granule * runner.kv_granule
    if tokens < 2:
        raise LoadFailed(
            f"{kv_bytes} bytes for keys and values hold no conversation: a token of this model takes "
            f"{runner.kv_bytes_per_token} bytes, and memory comes in pieces of {runner.kv_granule} tokens",
            hint="Raise FOUNDRY_LITE_KV_MEMORY.",
        )
    return int(tokens)


def _remedy(runner: Runner, kv_tokens: int, folder: Path) -> str:
    """Return a sentence on how a sequence could be longer; nothing where the model itself can hold no more."""
    if kv_tokens < runner.context_length:
        return "Raise FOUNDRY_LITE_KV_MEMORY to allow more."
    own = own_context_length(folder)
    if runner.context_length < own:
        return f"The model itself could hold {own}: set FOUNDRY_LITE_CONTEXT_LENGTH to allow more."
    return ""


def _settle(runner: Runner, load: Load) -> int:
    """Make the runner reproducible if asked to; return how many tokens may be guessed at once."""
    guesses = load.speculation if runner.can_verify else 0
    if not load.reproducible:
        return guesses
    batch_invariance.settle(runner, load.slots)
    return guesses if guesses and batch_invariance.speculates_alike(runner) else 0


def _load(frame: bytes, inbox: BinaryIO, outbox: Outbox) -> Worker:
    load = messages.decode_command(frame)
    if not isinstance(load, Load):
        raise TypeError(f"the first command must be Load, not {type(load).__name__}")
    return Worker(load, inbox, outbox)


def main() -> None:
    """Run a worker on this process's stdin and stdout."""
    serve_pipe(_load, messages.frame)


if __name__ == "__main__":
    main()
