"""The error tree: each leaf has a status, a code on the wire and an exit code, written out here once."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest

from foundry_lite import errors
from foundry_lite.cli.faults import exit_code
from foundry_lite.errors import ContextExceeded, EngineBusy, FoundryError, InvalidRequest, QueueFull
from foundry_lite.protocol.errors import reply_for
from tests.support import ROOT

REQUEST, SERVER = "invalid_request_error", "server_error"

# error, HTTP status, type, code, exit code
TABLE: list[tuple[FoundryError, int, str, str | None, int]] = [
    (ContextExceeded(600, 512), 400, REQUEST, "context_length_exceeded", 2),
    (errors.ResponseNotFound("m"), 404, REQUEST, None, 2),
    (errors.RequestTooLarge("m"), 413, REQUEST, "request_too_large", 1),
    (errors.RequestStalled("m"), 408, REQUEST, "request_stalled", 1),
    (errors.BadReference("m"), 400, REQUEST, None, 2),
    (errors.BadSetting("m"), 500, SERVER, "bad_setting", 2),
    (errors.ModelNotFound("m"), 404, REQUEST, "model_not_found", 3),
    (errors.JobNotFound("m"), 404, REQUEST, "job_not_found", 3),
    (errors.NotAllowed("m"), 401, "authentication_error", "not_allowed", 1),
    (errors.NameTaken("m"), 409, REQUEST, "name_taken", 4),
    (errors.ModelInUse("m"), 409, REQUEST, "model_in_use", 1),
    (errors.NotAModel("m"), 422, REQUEST, "not_a_model", 5),
    (errors.UnsupportedArchitecture("m"), 422, REQUEST, "unsupported_architecture", 5),
    (errors.WrongBase("m"), 422, REQUEST, "wrong_base", 5),
    (errors.UnsafeSource("m"), 422, REQUEST, "unsafe_source", 5),
    (errors.DamagedWeights("m"), 422, REQUEST, "damaged_weights", 5),
    (errors.PickledWeights("m"), 422, REQUEST, "pickled_weights", 5),
    (errors.RemoteCode("m"), 422, REQUEST, "remote_code", 5),
    (errors.ToolchainMissing("m"), 500, SERVER, "toolchain_missing", 6),
    (errors.CheckFailed("m"), 500, SERVER, "check_failed", 6),
    (errors.GateFailed("m"), 500, SERVER, "gate_failed", 6),
    (errors.MemoryShort("m"), 500, SERVER, "memory_short", 6),
    (errors.StorageFull("m"), 500, SERVER, "storage_full", 6),
    (errors.DamagedArtifact("m"), 500, SERVER, "damaged_artifact", 7),
    (EngineBusy("m"), 503, SERVER, "engine_busy", 7),
    (QueueFull("m"), 429, "rate_limit_error", "rate_limit_exceeded", 7),
    (errors.LoadFailed("m"), 500, SERVER, "load_failed", 7),
    (errors.EngineDied("m"), 500, SERVER, "engine_died", 7),
    (errors.InternalFault("m"), 500, SERVER, "internal_fault", 1),
    (errors.DaemonUnreachable("m"), 500, SERVER, "daemon_unreachable", 8),
]


def leaves(kind: type[FoundryError]) -> Iterator[type[FoundryError]]:
    below = [one for one in kind.__subclasses__() if one.__module__ == errors.__name__]
    if not below:
        yield kind
    for one in below:
        yield from leaves(one)


def test_the_table_has_every_leaf_of_the_tree() -> None:
    assert {type(row[0]) for row in TABLE} == {*leaves(FoundryError), EngineBusy}


@pytest.mark.parametrize(("error", "status", "kind", "code", "_exit"), TABLE, ids=lambda value: type(value).__name__)
def test_each_error_has_its_status_type_and_code(
    error: FoundryError, status: int, kind: str, code: str | None, _exit: int
) -> None:
    reply = reply_for(error)
    assert (reply.status, reply.type, reply.code) == (status, kind, code)


@pytest.mark.parametrize(("error", "_status", "_kind", "_code", "code"), TABLE, ids=lambda value: type(value).__name__)
def test_each_error_has_its_exit_code(error: FoundryError, _status: int, _kind: str, _code: str, code: int) -> None:
    assert exit_code(error) == code


def test_a_subclass_that_nobody_listed_is_a_server_error() -> None:
    assert reply_for(FoundryError("m")).status == 500
    assert exit_code(FoundryError("m")) == 1


@pytest.mark.parametrize("error", [row[0] for row in TABLE], ids=lambda error: type(error).__name__)
def test_a_body_has_the_four_fields_of_openai(error: FoundryError) -> None:
    body = msgspec.json.decode(msgspec.json.encode(reply_for(error).body))
    assert list(body) == ["error"]
    assert list(body["error"]) == ["message", "type", "param", "code"]
    assert body["error"]["message"].startswith(error.message)


def test_only_busy_says_when_to_come_back() -> None:
    assert {type(row[0]).__name__: reply_for(row[0]).retry_after for row in TABLE if reply_for(row[0]).retry_after} == {
        "EngineBusy": 1,
        "QueueFull": 1,
    }
    assert reply_for(EngineBusy("m", retry_after=7)).retry_after == 7


def test_every_status_and_every_code_of_a_refusal_is_in_the_documented_table() -> None:
    page = (ROOT / "docs" / "api-errors.md").read_text(encoding="utf-8")
    for error, status, kind, code, _ in TABLE:
        assert f"| {status} |" in page, status
        assert f"`{kind}`" in page, kind
        if status < 500 and not isinstance(error, errors.SourceRejected):
            assert code is None or f"`{code}`" in page, code


def test_an_invalid_request_carries_its_field_and_code() -> None:
    reply = reply_for(InvalidRequest("'n' is odd", "n", "invalid_value"))
    assert msgspec.to_builtins(reply.body) == {
        "error": {"message": "'n' is odd", "type": "invalid_request_error", "param": "n", "code": "invalid_value"}
    }


def test_errors_about_the_model_point_at_the_model_field() -> None:
    assert reply_for(errors.ModelNotFound("m")).param == "model"
    assert reply_for(errors.BadReference("m")).param == "model"


def test_a_message_and_a_field_of_any_length_are_sent_back_short() -> None:
    reply = reply_for(InvalidRequest("unknown field '" + "x" * 10**6, "x" * 10**6))
    assert len(reply.message) < 2500
    assert reply.param is not None and len(reply.param) < 2500


def test_the_hint_follows_the_message_as_a_sentence() -> None:
    assert reply_for(errors.LoadFailed("it broke", hint="Mend it.")).message == "it broke. Mend it."
    assert reply_for(errors.LoadFailed("it broke")).message == "it broke"


def test_a_prompt_that_is_too_long_is_told_both_lengths() -> None:
    error = ContextExceeded(600, 512)
    assert error.message == (
        "This model's maximum context length is 512 tokens. However, your messages resulted in 600 tokens"
    )
    assert "Please reduce the length of the messages" in error.hint
    assert ContextExceeded(600, 512, remedy="Do this.").hint.endswith(" Do this.")
    assert error.param == "messages"
