"""Foundry Local's bodies and queries as we read and write them, and the command ``foundry`` while nothing answers."""

from __future__ import annotations

import json
import time
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest
from filelock import FileLock

from foundry_lite.cli.foundry import main, service
from foundry_lite.errors import InvalidRequest, ModelNotFound
from foundry_lite.protocol.foundry_local import (
    CatalogEntry,
    OldStatus,
    Runtime,
    read_download,
    read_load,
    read_nothing,
    read_unload,
)
from foundry_lite.settings import Settings

# What `FoundryListResponseModel` of the SDK 0.5.1 requires.
REQUIRED = {
    "name", "displayName", "modelType", "providerType", "uri", "version", "promptTemplate", "publisher", "task",
    "runtime", "fileSizeMb", "modelSettings", "alias", "supportsToolCalling", "license", "licenseDescription",
    "parentModelUri", "maxOutputTokens",
}  # fmt: skip


def test_an_entry_has_all_that_the_sdk_requires() -> None:
    entry = CatalogEntry(
        name="a:cpu-int4", display_name="a", alias="a", version="cpu-int4", uri="local://a", task="chat-completion",
        runtime=Runtime("CPU", "CPUExecutionProvider"), file_size_mb=4, supports_tool_calling=True, license="MIT",
        max_output_tokens=0,
    )  # fmt: skip
    written = json.loads(msgspec.json.encode(entry))
    assert None not in written.values()  # C#, Rust and Python up to 0.3.1 take none
    assert written["promptTemplate"] == {}
    assert written.keys() == REQUIRED | {"minFLVersion"}
    assert written["runtime"] == {"deviceType": "CPU", "executionProvider": "CPUExecutionProvider"}
    assert json.loads(msgspec.json.encode(OldStatus(["u"], "/m"))).keys() == {"endpoints", "modelDirPath", "pipeName"}


@pytest.mark.parametrize(
    ("query", "keep_alive"),
    [
        ({}, None),
        ({"ttl": "", "ep": ""}, None),
        ({"ttl": "0"}, None),
        ({"ttl": "0", "unload": "false"}, timedelta.max),
        ({"ttl": "600"}, timedelta(seconds=600)),
        ({"unload": "True"}, None),
        ({"unload": "false"}, timedelta.max),
        ({"unload": "false", "ttl": "5"}, timedelta(seconds=5)),
    ],
)
def test_ttl_says_how_long_a_model_stays_and_overrides_unload(
    query: dict[str, str], keep_alive: timedelta | None
) -> None:
    assert read_load(query).keep_alive == keep_alive


@pytest.mark.parametrize("text", ["00", "-5", "1.5", "٣", "1000000001", "9" * 5000, "x"])
def test_a_ttl_that_is_no_number_of_seconds_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read_load({"ttl": text})
    assert caught.value.param == "ttl"


def test_the_patience_of_the_sdk_for_csharp_is_read_as_dotnet_writes_it() -> None:
    assert [read_load({"timeout": one}).timeout for one in ("600", "0.5", "")] == [600.0, 0.5, None]
    for text in ("0", "0.0", "-1", "1e3", "nan", "٣", "1,5", "9" * 5000):
        with pytest.raises(InvalidRequest) as caught:
            read_load({"timeout": text})
        assert caught.value.param == "timeout"


def test_the_provider_is_read_in_any_case() -> None:
    assert read_load({"ep": "CUDA"}).ep == "cuda"


def test_an_unload_is_forced_only_when_it_says_so() -> None:
    assert [read_unload(one) for one in ({}, {"force": "False"}, {"force": "true"})] == [False, False, True]


def test_a_query_where_none_is_known_is_refused() -> None:
    with pytest.raises(InvalidRequest) as caught:
        read_nothing({"ttl": "5"})
    assert caught.value.param == "ttl"


@pytest.mark.parametrize(
    "body", ['{"model": {"Name": "a:b"}}', '{"MODEL": {"name": "a:b", "URI": ""}, "token": null, "Force": true}']
)
def test_a_download_is_read_with_names_in_any_case(body: str) -> None:
    assert read_download(body.encode()) == "a:b"


@pytest.fixture
def quiet(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home", port=1)  # where nothing listens


def test_status_prints_no_url_and_makes_no_folder_while_no_daemon_answers(
    quiet: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.run(["service", "status"], quiet) == 0
    assert "http" not in capsys.readouterr().out
    assert not quiet.home.exists()


def test_status_waits_for_a_daemon_that_is_being_started_but_not_for_ever(
    quiet: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(service, "_STATUS_SECONDS", 0.3)
    quiet.home.mkdir()
    assert main.run(["service", "status"], quiet) == 0
    began = time.monotonic()
    with FileLock(quiet.home / "service.lock"):
        assert main.run(["service", "status"], quiet) == 0
    assert time.monotonic() - began >= 0.3
    assert "not running" in capsys.readouterr().out


@pytest.mark.parametrize(
    "command",
    [
        [],
        ["model"],
        ["model", "download"],
        ["service", "diag"],
        ["init"],
        ["cache", "cd", "/models"],
        ["server", "start", "--idle-timeout", "5"],
        ["server", "start", "--port", "65536"],
        ["model", "load", "a", "--ttl", "5"],
        ["transcribe", "a"],
    ],
)
def test_a_command_that_is_not_there_is_refused_with_those_that_are(
    command: list[str], quiet: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.run(command, quiet) == 2
    assert "foundry service|server status" in capsys.readouterr().err


def test_json_says_that_nothing_runs_as_programs_look_for_it(
    quiet: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.run(["server", "status", "-o", "json"], quiet) == 0
    assert json.loads(capsys.readouterr().out) == {"running": False, "state": "not_running", "webUrls": []}
    assert main.run(["status", "--output", "json"], quiet) == 0
    assert json.loads(capsys.readouterr().out)["service"]["ready"] is False


def test_the_last_lines_of_the_log_are_shown_and_where_models_lie(
    quiet: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.run(["server", "logs"], quiet) == 0
    assert "no daemon was started" in capsys.readouterr().out
    log = quiet.home / "logs" / "service.log"
    log.parent.mkdir(parents=True)
    log.write_text("one\ntwo\nthree\n")
    assert main.run(["server", "logs", "-n", "2"], quiet) == 0
    assert capsys.readouterr().out == "two\nthree\n"
    assert main.run(["server", "logs", "-n", "0"], quiet) == 2
    assert main.run(["cache", "location", "-o", "json"], quiet) == 0
    assert json.loads(capsys.readouterr().out) == {"path": str(quiet.home / "models"), "userSet": True}


def test_models_are_listed_and_filtered_while_no_daemon_answers(
    quiet: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.run(["model", "ls", "--output=json", "--cached"], quiet) == 0
    (entry,) = json.loads(capsys.readouterr().out)["models"]
    assert entry.items() >= {"alias": "home-assistant", "type": "Chat", "device": "CPU", "loaded": False}.items()
    for arguments in (["--device", "cpu"], ["--filter", "alias=HOME*"], ["--search", "assist"], ["--variants"]):
        assert main.run(["model", "list", *arguments], quiet) == 0
        assert "home-assistant:cpu-int4" in capsys.readouterr().out
    for arguments in (["--device", "gpu"], ["--type", "embedding"], ["--loaded"]):
        assert main.run(["model", "list", *arguments], quiet) == 0
        assert "home-assistant" not in capsys.readouterr().out
    with pytest.raises(InvalidRequest, match="colour"):
        main.run(["model", "list", "--filter", "colour=red"], quiet)


def test_a_model_is_there_or_the_command_says_how_to_import_it(
    quiet: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.run(["model", "download", "home-assistant", "-o", "json"], quiet) == 0
    assert json.loads(capsys.readouterr().out) == {"model": "home-assistant:cpu-int4", "status": "cached"}
    assert main.run(["model", "info", "home-assistant", "-o", "json"], quiet) == 0
    assert json.loads(capsys.readouterr().out)["model"]["id"] == "home-assistant:cpu-int4"
    assert main.run(["model", "unload", "home-assistant"], quiet) == 0
    for command in ("download", "info", "load", "unload"):
        with pytest.raises(ModelNotFound) as caught:
            main.run(["model", command, "phi-4-mini"], quiet)
        assert "foundry-lite import FOLDER --name phi-4-mini" in caught.value.hint
    with pytest.raises(InvalidRequest, match="not on the GPU"):
        main.run(["model", "load", "home-assistant", "--device", "gpu"], quiet)


def test_the_version_says_whose_foundry_it_is(quiet: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["--version"], quiet) == 0
    assert "not Microsoft's" in capsys.readouterr().out


def test_what_listens_everywhere_is_found_on_this_machine() -> None:
    assert service.url_of(service.reachable(Settings(host="0.0.0.0", port=80))) == "http://127.0.0.1:80"
    assert service.url_of(service.reachable(Settings(host="::", port=80))) == "http://[::1]:80"
