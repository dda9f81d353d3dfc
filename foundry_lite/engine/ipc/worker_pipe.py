"""A worker's end of the pipes: what every worker process does first, and how it answers from several threads."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from typing import Any, BinaryIO, Protocol

from foundry_lite.engine.ipc import messages
from foundry_lite.errors import FoundryError, LoadFailed


class Outbox:
    """Replies to the daemon, which any thread may send; ``frame`` makes bytes of one."""

    def __init__(self, stream: BinaryIO, frame: Callable[[Any], bytes]) -> None:
        self._stream = stream
        self._frame = frame
        self._lock = threading.Lock()

    def send(self, reply: Any) -> None:
        frame = self._frame(reply)
        with self._lock:
            self._stream.write(frame)
            self._stream.flush()


class Work(Protocol):
    """A worker that has loaded its model and can serve requests."""

    def run(self) -> None:
        """Serve until the process is ended."""


def serve_pipe(load: Callable[[bytes, BinaryIO, Outbox], Work], frame: Callable[[Any], bytes]) -> None:
    """Serve on this process's stdin and stdout: ``load`` is given the first frame, and raises when it fails."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the daemon's to handle; it closes our stdin
    inbox = os.fdopen(os.dup(0), "rb")
    outbox = Outbox(os.fdopen(os.dup(1), "wb"), frame)
    os.dup2(2, 1)  # whatever a native library prints must not land between our frames
    first = messages.read_frame(inbox)
    if first is None:
        return
    try:
        work = load(first, inbox, outbox)
    except FoundryError as error:
        outbox.send(messages.failure(None, error))
    except MemoryError as error:
        hint = "Lower FOUNDRY_LITE_SLOTS or FOUNDRY_LITE_CONTEXT_LENGTH, or free some memory."
        outbox.send(messages.failure(None, LoadFailed(f"not enough memory to load this model: {error}", hint)))
    else:
        work.run()
