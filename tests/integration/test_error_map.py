"""Each way to be refused, met by OpenAI's own client: its exception, and the four fields of the error object.

docs/api-errors.md has the table.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import openai
import pytest

from tests import tiny_model
from tests.support import Daemon, eventually

HI: Any = [{"role": "user", "content": "hi"}]


def error_of(caught: openai.APIStatusError) -> dict[str, Any]:
    """Return the error object, after looking at its shape."""
    body = json.loads(caught.response.content)
    assert list(body) == ["error"]
    error: dict[str, Any] = body["error"]
    assert list(error) == ["message", "type", "param", "code"]
    assert error["message"]
    assert caught.response.headers["content-type"] == "application/json"
    return error


def chat(daemon: Daemon, *, headers: dict[str, str] | None = None, **fields: Any) -> None:
    given = {"model": "alphabet", "messages": HI, **fields}
    daemon.client().chat.completions.create(**given, extra_headers=headers)


def jobs(daemon: Daemon, home: Path, body: dict[str, Any], *, has_token: bool = True) -> None:
    token = (home / "admin-token").read_text().strip() if has_token else "none"
    client = daemon.client().with_options(base_url=daemon.url, api_key=token)
    client.post("/api/jobs", body=body, cast_to=object)


# what is asked, the client's exception, status, type, param, code
CASES: list[tuple[Callable[[Daemon, Path], object], type[openai.APIStatusError], int, str, str | None, str | None]] = [
    (
        lambda daemon, _: chat(daemon, n=0),
        *(openai.BadRequestError, 400, "invalid_request_error", "n", "invalid_value"),
    ),
    (
        lambda daemon, _: chat(daemon, messages=[{"role": "user", "content": "x" * 3000}]),
        *(openai.BadRequestError, 400, "invalid_request_error", "messages", "context_length_exceeded"),
    ),
    (
        lambda daemon, home: jobs(daemon, home, {"model": "alphabet"}, has_token=False),
        *(openai.AuthenticationError, 401, "authentication_error", None, "not_allowed"),
    ),
    (
        lambda daemon, _: chat(daemon, headers={"origin": "https://example.com"}),
        *(openai.PermissionDeniedError, 403, "invalid_request_error", None, None),
    ),
    (
        lambda daemon, _: chat(daemon, headers={"host": "example.com"}),
        *(openai.PermissionDeniedError, 403, "invalid_request_error", None, None),
    ),
    (
        lambda daemon, _: chat(daemon, model="nobody"),
        *(openai.NotFoundError, 404, "invalid_request_error", "model", "model_not_found"),
    ),
    (
        lambda daemon, _: chat(daemon, model="meta-llama/Llama-3.1-8B-Instruct"),
        *(openai.NotFoundError, 404, "invalid_request_error", "model", "model_not_found"),
    ),
    (
        lambda daemon, _: daemon.client().models.retrieve("GPT 5!"),
        *(openai.NotFoundError, 404, "invalid_request_error", "model", "model_not_found"),
    ),
    (
        lambda daemon, _: daemon.client().post("/nowhere", body={}, cast_to=object),
        *(openai.NotFoundError, 404, "invalid_request_error", None, "not_found"),
    ),
    (
        lambda daemon, _: daemon.client().put("/chat/completions", body={}, cast_to=object),
        *(openai.APIStatusError, 405, "invalid_request_error", None, "method_not_allowed"),
    ),
    (
        lambda daemon, _: chat(daemon, messages=[{"role": "user", "content": "x" * (17 << 20)}]),
        *(openai.APIStatusError, 413, "invalid_request_error", None, "request_too_large"),
    ),
    (
        lambda daemon, _: chat(daemon, headers={"content-type": "text/plain"}),
        *(openai.APIStatusError, 415, "invalid_request_error", None, None),
    ),
    (
        lambda daemon, _: chat(daemon, headers={"content-encoding": "gzip"}),
        *(openai.APIStatusError, 415, "invalid_request_error", None, None),
    ),
    (
        lambda daemon, home: jobs(daemon, home, {"model": str(home), "name": "thing"}),
        *(openai.UnprocessableEntityError, 422, "invalid_request_error", None, "not_a_model"),
    ),
    (
        lambda daemon, _: chat(daemon, headers={f"x-{number}": "1" for number in range(1000)}),
        *(openai.APIStatusError, 431, "invalid_request_error", None, None),
    ),
    (
        lambda daemon, _: chat(daemon, model="broken"),
        *(openai.InternalServerError, 500, "server_error", None, "load_failed"),
    ),
]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with *alphabet*, *slow*, and *broken*, whose graph is none."""
    home = tmp_path_factory.mktemp("errors")
    tiny_model.install(home, "alphabet")
    tiny_model.install(home, "slow", endless=True, context=4096, work=1000)
    broken = tiny_model.install(home, "broken") / "model.onnx"
    broken.write_bytes(b"\0" * broken.stat().st_size)
    return home


@pytest.mark.parametrize(
    ("ask", "kind", "status", "name", "param", "code"), CASES, ids=[f"{row[2]}-{row[5]}" for row in CASES]
)
def test_a_refusal_is_the_exception_that_its_status_stands_for(
    daemon: Daemon,
    home: Path,
    ask: Callable[[Daemon, Path], object],
    kind: type[openai.APIStatusError],
    status: int,
    name: str,
    param: str | None,
    code: str | None,
) -> None:
    with pytest.raises(kind) as caught:
        ask(daemon, home)
    assert caught.value.status_code == status
    error = error_of(caught.value)
    assert (error["type"], error["param"], error["code"]) == (name, param, code)
    assert "retry-after" not in caught.value.response.headers


def test_a_client_whose_base_url_has_no_version_is_told_so(daemon: Daemon) -> None:
    with pytest.raises(openai.NotFoundError, match="there is /v1/chat/completions: the base URL") as caught:
        daemon.client().with_options(base_url=daemon.url).chat.completions.create(model="alphabet", messages=HI)
    assert error_of(caught.value)["code"] == "not_found"


@pytest.fixture(scope="module")
def narrow(home: Path) -> Iterator[Daemon]:
    """A daemon for one model and one request at a time, which is being served."""
    daemon = Daemon(home, FOUNDRY_LITE_SLOTS="1", FOUNDRY_LITE_QUEUE="0", FOUNDRY_LITE_MAX_LOADED="1")
    stream = daemon.client().chat.completions.create(model="slow", messages=HI, stream=True)
    next(stream)
    next(stream)
    yield daemon
    stream.close()
    daemon.stop()


def test_a_full_queue_is_a_rate_limit_that_says_when_to_come_back(narrow: Daemon) -> None:
    with pytest.raises(openai.RateLimitError) as caught:
        chat(narrow, model="slow")
    assert caught.value.response.headers["retry-after"] == "1"
    error = error_of(caught.value)
    assert (error["type"], error["code"]) == ("rate_limit_error", "rate_limit_exceeded")


def test_no_room_for_another_model_is_a_503_that_says_when_to_come_back(narrow: Daemon) -> None:
    with pytest.raises(openai.InternalServerError) as caught:
        chat(narrow, model="alphabet")
    assert caught.value.status_code == 503
    assert caught.value.response.headers["retry-after"] == "1"
    error = error_of(caught.value)
    assert (error["type"], error["code"]) == ("server_error", "engine_busy")


def test_a_model_in_use_is_a_conflict(narrow: Daemon) -> None:
    with pytest.raises(openai.ConflictError) as caught:
        narrow.client().with_options(base_url=narrow.url).get("/openai/unload/slow", cast_to=object)
    assert error_of(caught.value)["code"] == "model_in_use"


def test_an_error_in_mid_stream_is_an_event_that_the_client_raises(daemon: Daemon) -> None:
    stream = daemon.client().chat.completions.create(model="slow", messages=HI, stream=True)
    for chunk in stream:
        if chunk.choices[0].delta.content:
            break
    worker = daemon.worker("slow")
    assert worker is not None
    os.kill(worker["pid"], signal.SIGKILL)
    with pytest.raises(openai.APIError) as caught:
        list(stream)
    assert caught.value.code == "engine_died"
    assert isinstance(caught.value.body, dict)
    assert list(caught.value.body) == ["message", "type", "param", "code"]


def ask(
    daemon: Daemon, method: str, path: str, body: bytes | None = None
) -> tuple[int, http.client.HTTPMessage, bytes]:
    """Ask without a client that means well."""
    with closing(http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=30)) as connection:
        connection.request(method, path, body, {"content-type": "application/json"} if body is not None else {})
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PATCH", "/v1/chat/completions", "POST"),
        ("OPTIONS", "/v1/models", "GET, HEAD"),
        ("PUT", "/api/jobs", "GET, HEAD, POST"),  # two routes
        ("POST", "/health", "GET, HEAD"),
    ],
)
def test_a_wrong_method_is_told_the_right_ones(daemon: Daemon, method: str, path: str, allowed: str) -> None:
    status, headers, body = ask(daemon, method, path)
    assert (status, headers["allow"]) == (405, allowed)
    assert json.loads(body)["error"]["code"] == "method_not_allowed"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/responses/compact"),
        ("PUT", "/v1/responses/resp_" + 48 * "0"),
        ("POST", "/v1/models/nobody"),
        ("DELETE", "/v1/models/nobody"),
        ("GET", "/v1/chat/completions/chatcmpl-1"),
        ("POST", "/v1/chat/completions/chatcmpl-1/messages"),
        ("POST", "/v1/images/generations"),
        ("GET", "/v1/files"),
    ],
)
def test_a_path_that_is_not_there_is_no_matter_of_its_method(daemon: Daemon, method: str, path: str) -> None:
    status, _, body = ask(daemon, method, path, b"{}")
    assert status == 404
    assert json.loads(body)["error"]["code"] == "not_found"


def test_what_is_there_has_other_methods(daemon: Daemon) -> None:
    for path in ("/v1/models/alphabet", "/v1/models/alphabet:cpu-fp32"):
        status, headers, _ = ask(daemon, "DELETE", path)
        assert (status, headers["allow"]) == (405, "GET, HEAD")
    made = daemon.client().responses.create(model="alphabet", input="hi")
    status, headers, _ = ask(daemon, "POST", f"/v1/responses/{made.id}", b"{}")
    assert (status, headers["allow"]) == (405, "DELETE, GET, HEAD")


def test_a_prompt_that_is_too_long_is_told_what_would_allow_more(tmp_path: Path) -> None:
    """In the words of OpenAI, which LiteLLM and others look for."""
    tiny_model.install(tmp_path, "long", context=512)
    words = "This model's maximum context length is 64 tokens. However, your messages resulted in"
    for setting, remedy in (
        ("FOUNDRY_LITE_CONTEXT_LENGTH=64", "could hold 512: set FOUNDRY_LITE_CONTEXT_LENGTH"),
        ("FOUNDRY_LITE_KV_MEMORY=16384", "Raise FOUNDRY_LITE_KV_MEMORY"),
        ("FOUNDRY_LITE_QUEUE=9", ""),
    ):
        name, _, value = setting.partition("=")
        daemon = Daemon(tmp_path, **{name: value})
        with pytest.raises(openai.BadRequestError) as refused:
            daemon.client().chat.completions.create(
                model="long", messages=[{"role": "user", "content": "x" * (500 if not remedy else 80)}]
            )
        daemon.stop()
        error = error_of(refused.value)
        assert words.replace("64", "64" if remedy else "512") in error["message"]
        assert error["code"] == "context_length_exceeded"
        assert remedy in error["message"]
        assert ("FOUNDRY_LITE" in error["message"]) == bool(remedy)


def test_head_answers_with_the_headers_of_get_alone(daemon: Daemon) -> None:
    assert ask(daemon, "HEAD", "/v1/models")[::2] == (200, b"")
    assert ask(daemon, "HEAD", "/v1/models/nobody")[::2] == (404, b"")
    assert ask(daemon, "HEAD", "/nowhere")[::2] == (404, b"")


@pytest.mark.parametrize("header", ["host", "origin"])
@pytest.mark.parametrize("value", ["[", "http://[", "::::", "null", "localhost@example.com", "\xff", "%00", " "])
def test_an_odd_host_or_origin_is_a_403(daemon: Daemon, header: str, value: str) -> None:
    with closing(http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=30)) as connection:
        connection.putrequest("GET", "/v1/models", skip_host=header == "host")
        connection.putheader(header, value.encode("latin-1"))
        connection.endheaders()
        answer = connection.getresponse()
        assert answer.status == 403
        assert json.loads(answer.read())["error"]["type"] == "invalid_request_error"


def test_a_post_without_a_body_needs_no_content_type_and_is_no_json(daemon: Daemon) -> None:
    status, _, body = ask(daemon, "POST", "/v1/chat/completions")
    assert (status, json.loads(body)["error"]["code"]) == (400, "invalid_json")


def test_a_client_that_leaves_within_its_body_costs_nothing(daemon: Daemon) -> None:
    with socket.create_connection(("127.0.0.1", daemon.port)) as connection:
        head = "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        connection.sendall(f"{head}content-length: 1000\r\n\r\n{{".encode())
    assert daemon.get("/health")["status"] == "ok"  # and the fixture looks for tracebacks in the log


def test_leaving_while_a_model_loads_is_no_error(daemon: Daemon) -> None:
    def leave() -> None:
        with suppress(openai.APITimeoutError):
            client = daemon.client().with_options(timeout=0.05)
            client.chat.completions.create(model="slow", messages=HI, max_tokens=5)

    threads = [threading.Thread(target=leave) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    eventually(lambda: not (worker := daemon.worker("slow")) or worker["requests"] == 0)
