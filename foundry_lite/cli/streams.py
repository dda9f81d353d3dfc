"""Stdin, stdout and stderr, whatever a command was started with: closed, full, or in an ASCII locale."""

from __future__ import annotations

import io
import os
import sys
from contextlib import suppress
from typing import Any, TextIO

from foundry_lite.errors import InvalidRequest

STDOUT = "stdout"  # the file name of errors of it
_ASCII = ("ascii", "us-ascii", "ansi_x3.4-1968", "646")  # what the locale C is called


def open_all() -> None:
    """Make all three usable.

    A closed one becomes the null device: else the next file that is opened would get its descriptor. Characters that
    stdout's encoding lacks are escaped with backslashes; where that is ASCII, it is replaced by UTF-8.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest that is free, which is this one
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "r" if number == 0 else "w", encoding="utf-8", closefd=False))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            is_ascii = stream.encoding.lower() in _ASCII
            stream.reconfigure(encoding="utf-8" if is_ascii else stream.encoding, errors="backslashreplace")
    sys.stdout = _over(_Raw, sys.stdout, line_buffering=sys.stdout.isatty())
    sys.stderr = _over(_Heedless, sys.stderr, line_buffering=True)


class _Raw(io.FileIO):
    """A file descriptor whose errors have a name."""

    def write(self, data: Any) -> int:  # whatever has bytes
        try:
            return super().write(data)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise OSError(error.errno, error.strerror, STDOUT) from None


class _Heedless(io.FileIO):
    """A file descriptor that ignores write errors: an unwritable stderr changes no exit code."""

    def write(self, data: Any) -> int:  # whatever has bytes
        try:
            return super().write(data)
        except OSError:
            return len(data)


def _over(kind: type[io.FileIO], stream: TextIO, *, line_buffering: bool) -> TextIO:
    """Return a stream like another, over a descriptor of that kind."""
    raw = io.BufferedWriter(kind(stream.fileno(), "w", closefd=False))
    return io.TextIOWrapper(raw, stream.encoding, stream.errors, line_buffering=line_buffering)


def drop_output() -> None:
    """Have nowhere take what stdout could not, so that nothing complains of it at the end."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def text_of(given: str, what: str) -> str:
    """Return an argument as the UTF-8 that it was typed in, be the locale another. Raises `InvalidRequest`."""
    return given if given.isascii() else decoded(os.fsencode(given), what) if _has_bytes(given) else given


def decoded(given: bytes, what: str) -> str:
    """Return bytes as text. Raises `InvalidRequest`."""
    try:
        return given.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidRequest(
            f"{what} is no text of UTF-8: byte {error.start} is 0x{given[error.start]:02x}",
            what,
            hint="Convert it first, as 'iconv -f latin1 -t utf-8' does.",
        ) from error


def read_stdin() -> str:
    """Read all of stdin as text. Raises `InvalidRequest`."""
    return decoded(sys.stdin.buffer.read(), "stdin")


def _has_bytes(text: str) -> bool:
    return any("\udc80" <= letter <= "\udcff" for letter in text)
