"""Errors of a command: a message on stderr, and an exit code.

All errors of a command come here: our own, those of the system (a full disk, no more files, bytes that are not
UTF-8), and our mistakes. Only the latter have a traceback, with ``FOUNDRY_LITE_LOG_LEVEL=debug``.
"""

from __future__ import annotations

import errno
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from foundry_lite import errors
from foundry_lite.cli import streams
from foundry_lite.errors import BadSetting, FoundryError, InternalFault, InvalidRequest, StorageFull
from foundry_lite.settings import read_settings

# docs/cli.md lists them. The first class that an error is an instance of decides.
EXIT_CODES: tuple[tuple[type[FoundryError], int], ...] = (
    (errors.BadReference, 2),
    (errors.BadSetting, 2),
    (errors.InvalidRequest, 2),
    (errors.ModelNotFound, 3),
    (errors.JobNotFound, 3),
    (errors.NameTaken, 4),
    (errors.SourceRejected, 5),
    (errors.BuildFailed, 6),
    (errors.DamagedArtifact, 7),
    (errors.LoadFailed, 7),
    (errors.EngineDied, 7),
    (errors.EngineBusy, 7),
    (errors.DaemonUnreachable, 8),
    (FoundryError, 1),
)
INTERRUPTED = 130
_HINTS = {
    errno.ENOSPC: "Make room on the disk.",
    errno.EDQUOT: "Make room: a quota of the disk is used up.",
    errno.EFBIG: "The system limits the size of files ('ulimit -f').",
    errno.EMFILE: "The system limits how many files may be open: raise that ('ulimit -n').",
    errno.EAGAIN: "The system limits processes and threads ('ulimit -u').",
    errno.ENOMEM: "Free some memory, or raise the limit ('ulimit -v').",
    errno.EROFS: "Set FOUNDRY_LITE_HOME to a folder that can be written.",
    errno.EACCES: "Set FOUNDRY_LITE_HOME to a folder that can be written, or change who owns it.",
}


def exit_code(error: FoundryError) -> int:
    """Return the exit code for an error."""
    return next(code for kind, code in EXIT_CODES if isinstance(error, kind))


def code_of(
    command: Callable[[], object],
    say: Callable[[FoundryError], None],
    codes: Callable[[FoundryError], int] = exit_code,
) -> int:
    """Run a command, print the error it fails with, and return its exit code."""
    sys.unraisablehook = lambda _raised: None  # such as that of an event loop which found no descriptor
    streams.open_all()
    try:
        return _end(command)
    except BrokenPipeError:  # such as "foundry-lite list | head -1"
        return 0
    except KeyboardInterrupt:
        _try(lambda: sys.stderr.write("interrupted\n"))
        return INTERRUPTED
    except Exception as error:  # noqa: BLE001 - any error becomes a message
        told = in_words(error)
        _try(partial(_trace, error, told))
        _try(partial(say, told))
        return codes(told)
    finally:
        streams.drop_output()


def _end(command: Callable[[], object]) -> int:
    """Run a command; what it has written is out when this returns."""
    code: object = 0
    try:
        command()
    except SystemExit as end:
        code = end.code
    sys.stdout.flush()
    return code if isinstance(code, int) else int(code is not None)


def _try(work: Callable[[], object]) -> None:
    with suppress(OSError, ValueError):  # stderr cannot be written
        work()


def _trace(error: Exception, told: FoundryError) -> None:
    with suppress(BadSetting):
        if isinstance(told, InternalFault) and read_settings().log_level == "debug":
            traceback.print_exception(error)


def tell(error: FoundryError) -> None:
    """Print the message and the hint of an error."""
    from foundry_lite.cli.output import Output

    Output().error(error.message, error.hint)


def in_words(error: Exception) -> FoundryError:
    """Return an error as one of ours, which has a sentence and perhaps a hint."""
    match error:
        case FoundryError():
            return error
        case OSError():
            return _of_system(error)
        case UnicodeError():
            return InvalidRequest(f"what was given is no text of UTF-8: {error}")
        case MemoryError():
            return FoundryError("there is not enough memory", _HINTS[errno.ENOMEM])
    hint = "This is a mistake of foundry-lite. FOUNDRY_LITE_LOG_LEVEL=debug shows where it was made."
    return InternalFault(f"{type(error).__name__}: {error}", hint)


def _of_system(error: OSError) -> FoundryError:
    number = error.errno or 0
    reason = error.strerror or str(error) or type(error).__name__
    hint = _HINTS.get(number, "")
    if error.filename == streams.STDOUT:
        return FoundryError(f"stdout cannot be written: {reason}", hint)
    kind = StorageFull if number in (errno.ENOSPC, errno.EDQUOT) else FoundryError
    return kind(reason if error.filename is None else f"{error.filename}: {reason}", hint)
