"""OpenAI's error object, and the HTTP status of each of our errors."""

from __future__ import annotations

from dataclasses import dataclass

from msgspec import Struct

from foundry_lite import errors
from foundry_lite.errors import FoundryError, InvalidRequest

# The first class that an error is an instance of decides: subclasses stand before their parents.
_STATUSES: tuple[tuple[type[FoundryError], int, str], ...] = (
    (errors.ResponseNotFound, 404, "invalid_request_error"),
    (errors.InvalidRequest, 400, "invalid_request_error"),
    (errors.RequestTooLarge, 413, "invalid_request_error"),
    (errors.RequestStalled, 408, "invalid_request_error"),
    (errors.NotAllowed, 401, "authentication_error"),
    (errors.BadReference, 400, "invalid_request_error"),
    (errors.ModelNotFound, 404, "invalid_request_error"),
    (errors.JobNotFound, 404, "invalid_request_error"),
    (errors.ModelInUse, 409, "invalid_request_error"),
    (errors.NameTaken, 409, "invalid_request_error"),
    (errors.SourceRejected, 422, "invalid_request_error"),
    (errors.QueueFull, 429, "rate_limit_error"),
    (errors.EngineBusy, 503, "server_error"),
    (FoundryError, 500, "server_error"),
)

_LONGEST = 2000  # characters of a message or a field's path


class ErrorFields(Struct, frozen=True):
    """Fields of OpenAI's error object. ``param`` is the field as the caller wrote it, such as ``messages[2].role``."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(Struct, frozen=True):
    """The body of every answer that is no success, and of an error in mid-stream."""

    error: ErrorFields


@dataclass(frozen=True, slots=True)
class ErrorReply:
    """An error as the wire has it. ``retry_after`` is in seconds."""

    status: int
    message: str
    type: str
    param: str | None = None
    code: str | None = None
    retry_after: int | None = None

    @property
    def body(self) -> ErrorBody:
        return ErrorBody(ErrorFields(self.message, self.type, self.param, self.code))


def reply_for(error: FoundryError) -> ErrorReply:
    """Translate one of our errors."""
    status, kind = next((status, kind) for cls, status, kind in _STATUSES if isinstance(error, cls))
    message = _cut(f"{error.message}. {error.hint}" if error.hint else error.message)
    if isinstance(error, InvalidRequest):
        return ErrorReply(status, message, kind, error.param and _cut(error.param), error.code)
    if isinstance(error, errors.ModelNotFound | errors.BadReference):
        return ErrorReply(status, message, kind, "model", "model_not_found" if status == 404 else None)
    if isinstance(error, errors.EngineBusy):
        code = "rate_limit_exceeded" if status == 429 else _code(error)  # the former is OpenAI's word
        return ErrorReply(status, message, kind, code=code, retry_after=error.retry_after)
    return ErrorReply(status, message, kind, code=_code(error))


def _cut(text: str) -> str:
    """Return ``text``, or its beginning: a name of a million characters is not sent back."""
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def _code(error: FoundryError) -> str:
    name = type(error).__name__
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name).lstrip("_")
