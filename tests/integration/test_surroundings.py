"""Commands in hostile surroundings: a sentence and an exit code, never a traceback, and no answer lost in silence."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import pty
import resource
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from foundry_lite.errors import BadSetting
from foundry_lite.settings import Settings, read_settings
from tests import tiny_model
from tests.support import COMMAND, Daemon, environment, eventually
from tests.tiny_model import ALPHABET

FOUNDRY = (sys.executable, "-c", "from foundry_lite.cli.foundry.main import main; main()")
LOCALE_C = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
LIGHT = "licht für die küche"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("surroundings")
    tiny_model.install(home, "alphabet")
    return home


def start(
    home: Path | str, *arguments: str | bytes, command: tuple[str, ...] = COMMAND, variables: Any = (), **options: Any
) -> subprocess.CompletedProcess[bytes]:
    """Run a command to its end, whatever its arguments; ``options`` are those of `subprocess.run`."""
    given: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    surroundings = {**environment(Path(home), **dict(variables)), "FOUNDRY_LITE_HOME": str(home)}
    result = subprocess.run([*command, *arguments], env=surroundings, timeout=120, check=False, **given | options)
    assert b"Traceback" not in (result.stderr or b"") + (result.stdout or b""), result.stderr.decode()
    return result


# Bytes that are no text


@pytest.mark.parametrize(
    ("arguments", "stdin", "named"),
    [
        ((b"hi \xff\xfe",), b"", "the prompt is no text of UTF-8: byte 3 is 0xff"),
        ((b"hi", b"--system", b"\xc3("), b"", "--system is no text of UTF-8: byte 0 is 0xc3"),
        ((), b"hi \xff", "stdin is no text of UTF-8: byte 3 is 0xff"),
    ],
)
def test_bytes_that_are_no_text_are_refused(
    store: Path, arguments: tuple[bytes, ...], stdin: bytes, named: str
) -> None:
    given: dict[str, Any] = {"stdin": None, "input": stdin} if stdin else {}
    result = start(store, "run", "alphabet", *arguments, **given)
    assert (result.returncode, result.stdout) == (2, b"")
    assert named in result.stderr.decode()


def test_text_of_utf8_is_read_in_the_locale_c(store: Path) -> None:
    """A token of this model is a byte, so the usage says how many bytes of a text it was given."""

    def tokens(*words: str, **given: Any) -> int:
        answer = json.loads(start(store, "run", "alphabet", *words, "--json", variables=LOCALE_C, **given).stdout)
        return int(answer["usage"]["prompt_tokens"])

    empty = tokens("x") - 1
    assert tokens(LIGHT) == empty + len(LIGHT.encode())
    assert tokens(stdin=None, input=LIGHT.encode()) == empty + len(LIGHT.encode())


def test_letters_beyond_ascii_are_said_in_the_locale_c(store: Path) -> None:
    shown = start(store, "show", "ü€", variables=LOCALE_C)
    assert shown.returncode == 2
    assert b"is no model reference" in shown.stderr


def test_every_command_takes_a_name_that_is_no_text(store: Path) -> None:
    for command in ("show", "bench", "card", "build"):
        result = start(store, command, b"\xff\xfe")
        assert result.returncode in (2, 3, 5, 6), command
        assert result.stderr


def test_a_choice_that_could_not_be_written_is_not_measured_for(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.write_text("in the way")
    result = start(home, "tune", "home-assistant", "--no-build", "--threads", "1")
    assert result.returncode == 6
    assert b"cannot write to" in result.stderr
    assert b"FOUNDRY_LITE_HOME" in result.stderr
    assert b"round" not in result.stderr


# Streams that take nothing


_SAYS_SOMETHING = [("list",), ("list", "--json"), ("run", "alphabet", "hi"), ("--help",)]


@pytest.mark.parametrize("arguments", _SAYS_SOMETHING, ids=" ".join)
def test_an_answer_that_a_full_disk_does_not_take_is_an_error(store: Path, arguments: tuple[str, ...]) -> None:
    with Path("/dev/full").open("wb") as full:
        result = start(store, *arguments, stdout=full)
        assert result.returncode == 1
        assert "stdout cannot be written: No space left on device" in result.stderr.decode()


def test_what_stderr_does_not_take_costs_no_answer(store: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        assert b"machine" in start(store, "devices", stderr=full).stdout


def test_an_error_that_cannot_be_said_keeps_its_exit_code(store: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        assert start(store, "show", "nothing", stderr=full).returncode == 3
        assert start(store, "shwo", "nothing", stderr=full).returncode == 2
        assert start(store, "model", "list", command=FOUNDRY, stdout=full).returncode == 1


def _close(*numbers: int) -> Callable[[], None]:
    def close() -> None:
        for number in numbers:
            os.close(number)

    return close


@pytest.mark.parametrize("numbers", [(0,), (1,), (0, 1, 2)], ids=str)
def test_streams_that_are_closed_are_no_fault(store: Path, numbers: tuple[int, ...]) -> None:
    result = start(store, "run", "alphabet", "hi", preexec_fn=_close(*numbers))
    assert result.returncode == 0
    assert result.stdout.decode() == ("" if 1 in numbers else ALPHABET + "\n")
    assert start(store, "run", "alphabet", preexec_fn=_close(*numbers)).returncode == 2  # there is no prompt


def test_a_reader_that_leaves_is_no_fault(store: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    for arguments in (("list", "--json"), ("run", "alphabet", "hi")):
        result = start(store, *arguments, stdout=writing)
        assert result.stderr == b"", result.stderr
    os.close(writing)


def test_a_line_of_a_conversation_that_is_no_text_is_said_again(store: Path) -> None:
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [*COMMAND, "run", "alphabet"], env=environment(store), stdin=theirs, stdout=theirs, stderr=theirs
    ) as process:
        os.close(theirs)
        seen = b""
        for said, expected in ((b"hi \xff\n", b"no text of UTF-8"), (b"hi\n", ALPHABET.encode()), (b"/bye\n", b"")):
            while b">>> " not in seen:
                seen += os.read(ours, 4096)
            seen = b""
            os.write(ours, said)
            while expected not in seen:
                seen += os.read(ours, 4096)
            assert b"Traceback" not in seen
            seen = seen.rpartition(expected)[2] if expected else seen
        assert process.wait(30) == 0
    os.close(ours)


# A home that cannot be written


_NEEDS_NO_HOME: tuple[tuple[str, ...], ...] = (("list",), ("show", "home-assistant"), ("run", "home-assistant", "hi"))
_WRITES: tuple[tuple[str, ...], ...] = (
    ("import", "{model}", "--name", "mine"),
    ("build", "home-assistant", "--variant", "cpu-int4"),
    ("rm", "home-assistant", "--yes"),
    ("jobs", "clean"),
)


def test_commands_without_a_home_that_can_be_written_say_so(tmp_path: Path, store: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    home, model = tmp_path / "file" / "below", str(store / "models" / "alphabet" / "cpu-fp32")
    for arguments in _NEEDS_NO_HOME:
        assert start(home, *arguments).returncode == 0
    for arguments in _WRITES:
        result = start(home, *(one.format(model=model) for one in arguments))
        assert result.returncode in (0, 1, 2, 3, 5, 6), arguments
        assert result.returncode == 0 or result.stderr, arguments
    for odd in ("/proc/none", str(tmp_path / "file")):
        assert start(odd, "list").returncode == 0
        refused = start(odd, *(one.format(model=model) for one in _WRITES[0]))
        assert refused.returncode == 6
        assert odd in refused.stderr.decode()
        assert b"FOUNDRY_LITE_HOME" in refused.stderr
    started = start(home, "service", "start", command=FOUNDRY)
    assert started.returncode == 1
    assert str(home) in (started.stdout + started.stderr).decode()


def test_the_embedded_model_is_served_from_a_home_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    daemon = Daemon(tmp_path / "file" / "home")
    client = daemon.client()
    hi: Any = [{"role": "user", "content": "hi"}]
    assert client.chat.completions.create(model="home-assistant", messages=hi).choices[0].message.content
    made = client.responses.create(model="home-assistant", input="hi")
    assert made.output_text
    for path, status in (("/api/jobs", 500), (f"/v1/responses/{made.id}", 404)):
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(daemon.url + path, timeout=30)
        assert refused.value.code == status
        assert b"Not a directory" in refused.value.read()
    with pytest.raises(Exception, match="keeps no responses: .*Not a directory"):
        client.responses.create(model="home-assistant", input="hi", store=True)
    log = daemon.stop()
    assert daemon.process.returncode == 0
    assert "Traceback" not in log
    assert "responses are not stored" in log
    assert "no builds over HTTP" in log


def test_a_token_that_is_none_is_refused_before_anything_is_served(tmp_path: Path) -> None:
    for content in (b"short\n", b"\xff" * 40):
        (tmp_path / "admin-token").write_bytes(content)
        result = start(tmp_path, "serve", "--port", "0")
        assert (result.returncode, result.stdout) == (2, b"")
        assert b"holds no token" in result.stderr


# Limits of the system


def _limit(kind: int, most: int) -> Callable[[], None]:
    return lambda: resource.setrlimit(kind, (most, most))


@pytest.mark.parametrize("most", [7, 10, 14])
def test_few_descriptors_are_an_error_that_says_so(store: Path, most: int) -> None:
    result = start(store, "run", "alphabet", "hi", preexec_fn=_limit(resource.RLIMIT_NOFILE, most))
    if result.returncode:
        assert b"error: " in result.stderr
    else:
        assert result.stdout.decode() == ALPHABET + "\n"


def test_a_file_that_may_not_grow_is_named(store: Path, tmp_path: Path) -> None:
    with (tmp_path / "answer").open("wb") as answer:
        result = start(store, "list", stdout=answer, preexec_fn=_limit(resource.RLIMIT_FSIZE, 0))
    assert result.returncode == 1
    assert b"stdout cannot be written: File too large" in result.stderr


def _connect(daemon: Daemon, count: int) -> list[socket.socket]:
    connections = [socket.create_connection(("127.0.0.1", daemon.port), timeout=10) for _ in range(count)]
    for one in connections:
        one.setblocking(False)
    return connections


def _is_refused(connection: socket.socket) -> bool:
    with contextlib.suppress(BlockingIOError, ConnectionError):
        return connection.recv(100).startswith(b"HTTP/1.1 503")
    return False


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no prlimit")
def test_the_limit_of_connections_follows_the_limit_of_descriptors(store: Path) -> None:
    daemon = Daemon(store)
    early = http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=60)
    early.connect()
    body = json.dumps({"model": "alphabet", "messages": [{"role": "user", "content": "hi"}]})
    resource.prlimit(daemon.process.pid, resource.RLIMIT_NOFILE, (128, 128))
    idle = _connect(daemon, 200)
    refused = 0

    def are_refused() -> bool:
        nonlocal refused
        refused += sum(map(_is_refused, idle))
        return refused >= 200 - 64

    eventually(are_refused)
    assert refused <= 200 - 64 + 1  # the early one is a connection too
    early.request("POST", "/v1/chat/completions", body, {"content-type": "application/json"})
    assert early.getresponse().status == 200  # there are descriptors to load a model with
    early.close()
    for one in idle:
        one.close()
    eventually(lambda: daemon.get("/health") is not None)
    resource.prlimit(daemon.process.pid, resource.RLIMIT_NOFILE, (20, 20))  # fewer than are open already
    idle = _connect(daemon, 100)
    time.sleep(0.5)
    for one in idle:
        one.close()
    log = daemon.stop()
    assert "Traceback" not in log
    assert log.count("a connection cannot be accepted now: Too many open files") <= 2


# Variables


_BAD = {
    "home": (),  # any folder may be made
    "host": ("a b", "127.0.0.1:80", "http://x", "a..b", "x" * 300),
    "port": ("-1", "65536", "http", "9" * 5000),
    "allowed_hosts": ("a.local,http://x/y", "a.local:8080"),
    "log_level": ("loud",),
    "keep_alive": ("-1", "nan", "inf", "5m"),
    "stream_keep_alive": ("-1", "1e400"),
    "max_loaded": ("0", "9" * 30),
    "slots": ("0", "many", "9" * 30),
    "queue": ("-1", "9" * 30),
    "context_length": ("0", "9" * 30, "9" * 5000),
    "threads": ("-2", "1.5", "9" * 9),
    "provider": ("abacus",),
    "kv_memory": ("lots", "9" * 400 + "GiB", "99999999999999GiB", "-1"),
    "reproducible": ("perhaps",),
    "speculation": ("-1", "9" * 30),
    "responses_kept": ("-1", "9" * 30),
    "responses_bytes": ("1e5", "x"),
    "wheels": (),  # a folder that may come later; one that is not there is named by what needs it
    "build_cache": ("x",),
}


def test_each_variable_with_a_bad_value_names_itself(store: Path) -> None:
    assert set(_BAD) == {one.name for one in fields(Settings)}
    for name, values in _BAD.items():
        for value in values:
            variable = f"FOUNDRY_LITE_{name.upper()}"
            with pytest.raises(BadSetting) as refused:
                read_settings({variable: value})
            assert refused.value.message.startswith(f"{variable}='{value[:20]}")
    result = start(store, "list", variables={"FOUNDRY_LITE_SLOTS": "9" * 30})
    assert result.returncode == 2
    assert b"FOUNDRY_LITE_SLOTS='99999" in result.stderr


def test_a_folder_of_wheels_that_is_not_there_names_its_variable(store: Path) -> None:
    result = start(store, "toolchain", "install", "optimum", variables={"FOUNDRY_LITE_WHEELS": "/nowhere"})
    assert result.returncode == 2
    assert b"FOUNDRY_LITE_WHEELS" in result.stderr


def test_an_address_that_is_not_ours_names_where_it_is_set(store: Path) -> None:
    result = start(store, "serve", "--port", "0", variables={"FOUNDRY_LITE_HOST": "192.0.2.1"})
    assert result.returncode == 2
    assert b"FOUNDRY_LITE_HOST" in result.stderr
    with socket.create_server(("127.0.0.1", 0)) as taken:
        result = start(store, "serve", "--port", str(taken.getsockname()[1]))
    assert result.returncode == 2
    assert b"Is a daemon running already?" in result.stderr


@pytest.mark.parametrize(
    "variables",
    [
        {"COLUMNS": "abc", "TERM": "nothing", "NO_COLOR": "1", "FORCE_COLOR": "1", "TMPDIR": "/nowhere"},
        {"COLUMNS": "-4", "HOME": "/nowhere", "XDG_DATA_HOME": "\udcff", "PYTHONIOENCODING": "latin-1"},
        {"TZ": "Nowhere/At_All", "LANG": "xx_YY.UTF-9"},
    ],
    ids=str,
)
def test_odd_variables_are_no_fault(store: Path, variables: dict[str, str]) -> None:
    assert start(store, "list", variables=variables).returncode == 0


def test_an_interrupt_at_any_time_is_no_traceback(store: Path) -> None:
    for delay in (0.15, 0.4):
        with subprocess.Popen(
            [*COMMAND, "bench", "home-assistant"],
            env=environment(store),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as process:
            time.sleep(delay)
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=60)
        assert process.returncode in (130, -signal.SIGINT, 0), said
        assert b"foundry_lite" not in said or b"Traceback" not in said, said.decode()


def test_a_home_whose_name_is_no_text_can_be_told(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path / "h\udcff")
    assert daemon.get("/status")["modelCachePath"].endswith("/h?/models")
    assert daemon.get("/openai/status")["modelDirPath"].endswith("/h?/models")
    assert "Traceback" not in daemon.stop()


def test_ctrl_c_before_anything_is_imported_ends_in_silence() -> None:
    early = """if True:
        import sys

        class Interrupt:
            def find_spec(self, name, *_):
                if name == "foundry_lite.cli.faults":
                    raise KeyboardInterrupt

        sys.meta_path.insert(0, Interrupt())
        from foundry_lite.cli.main import main
        main()
    """
    result = subprocess.run([sys.executable, "-c", early], capture_output=True, check=False)
    assert (result.returncode, result.stderr) == (130, b"")


@pytest.mark.parametrize("signals", [2, 3])
def test_another_ctrl_c_ends_what_a_daemon_is_answering(store: Path, signals: int) -> None:
    daemon = Daemon(store)
    body = {"model": "home-assistant", "prompt": "go on", "stream": True, "max_tokens": 4000, "ignore_eos": True}
    connection = http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=60)
    connection.request("POST", "/v1/completions", json.dumps(body), {"content-type": "application/json"})
    answer = connection.getresponse()
    assert answer.readline().startswith(b"data: ")
    for _ in range(signals):
        daemon.process.send_signal(signal.SIGINT)
        time.sleep(0.3)
    with contextlib.suppress(http.client.IncompleteRead, ConnectionError):
        assert b"was unloaded" in answer.read() or signals == 3
    assert daemon.process.wait(30) == 0
    assert "Traceback" not in daemon.stop()
    connection.close()
