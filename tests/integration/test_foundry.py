"""Foundry Local's clients against our daemon: its real SDK 0.5.1 by way of our ``foundry``, and the routes."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import openai
import pytest

from foundry_lite.catalog.recipe import Precision, recipe_for
from foundry_lite.cli.foundry import main
from foundry_lite.errors import BadSetting
from foundry_lite.settings import read_settings
from tests import tiny_encoder, tiny_model
from tests.support import Daemon, environment, eventually, process_is_gone

FOUNDRY = Path(sys.executable).with_name("foundry")
# What the documentation of SDK 0.5.1 and the course's samples do with it, in a process of its own as a user's is.
BY_SDK = """
import json, sys
import openai
from foundry_local import FoundryLocalManager
from foundry_local.models import DeviceType

alias, other = "alphabet", "letters:cpu-int8"
told = {}
manager = FoundryLocalManager(bootstrap=False)
told["before"] = manager.is_service_running()
manager = FoundryLocalManager(alias)  # starts the service, downloads, loads
told["running"] = manager.is_service_running()
told["endpoint"], told["api_key"] = manager.endpoint, manager.api_key
told["catalog"] = [json.loads(one.model_dump_json()) for one in manager.list_catalog_models()]
told["by_alias"] = manager.get_model_info("letters").id
told["by_id"] = manager.get_model_info(other).id
told["by_device"] = manager.get_model_info(alias, device=DeviceType.CPU).id
told["on_gpu"] = manager.get_model_info(alias, device=DeviceType.GPU)
told["unknown"] = manager.get_model_info("phi-4-mini")
told["cached"] = [one.id for one in manager.list_cached_models()]
told["location"] = manager.get_cache_location()
told["loaded"] = [one.id for one in manager.list_loaded_models()]
told["upgradeable"] = manager.is_model_upgradeable(alias)
told["downloaded"] = manager.download_model(alias, force=True).id
told["upgraded"] = manager.upgrade_model(alias).id
told["second"] = manager.load_model(other, ttl=60).id
manager.load_model("vectors")
told["all"] = [one.id for one in manager.list_loaded_models()]
with openai.OpenAI(base_url=manager.endpoint, api_key=manager.api_key) as client:
    stream = client.chat.completions.create(
        model=manager.get_model_info(alias).id,
        messages=[{"role": "user", "content": "Say hello."}],
        max_tokens=200,
        stream=True,
    )
    told["answer"] = "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)
manager.unload_model(alias)
manager.unload_model(alias)
manager.unload_model(other, force=True)
manager.unload_model("vectors")
told["left"] = manager.list_loaded_models()
manager.refresh_catalog()
try:
    FoundryLocalManager("phi-4-mini")
except ValueError as error:
    told["not_here"] = str(error)
sys.stdout.write(json.dumps(told))
"""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of a user with *alphabet* two variants of *letters*, and the encoder *vectors*."""
    home = tmp_path_factory.mktemp("foundry")
    tiny_model.install(home, "alphabet")
    for precision in (Precision.INT8, Precision.FP32):
        tiny_model.install(home, "letters", recipe=recipe_for(precision))
    tiny_encoder.install(home, "vectors")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    path = f"{FOUNDRY.parent}{os.pathsep}{os.environ['PATH']}"
    user = environment(home, FOUNDRY_LITE_PORT=str(port), PATH=path)
    user.pop("OPENAI_API_KEY", None)
    yield user
    assert _foundry(user, "service", "stop").returncode == 0
    assert "Traceback" not in (home / "logs" / "service.log").read_text()


@pytest.fixture(scope="module")
def told(service: dict[str, str]) -> dict[str, Any]:
    """What `BY_SDK` saw."""
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", BY_SDK], env=service, capture_output=True, text=True, timeout=100
    )
    assert ended.returncode == 0, ended.stderr
    value: dict[str, Any] = json.loads(ended.stdout[ended.stdout.index('{"before"') :])
    return value


def _foundry(user: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([FOUNDRY, *arguments], env=user, capture_output=True, text=True, timeout=100)


def test_the_sdk_starts_the_daemon_and_finds_it(told: dict[str, Any], service: dict[str, str]) -> None:
    assert told["before"] is False
    assert told["running"] is True
    assert told["endpoint"] == f"http://127.0.0.1:{service['FOUNDRY_LITE_PORT']}/v1"
    assert told["api_key"] == "OPENAI_API_KEY"


def test_the_sdk_reads_the_catalog_with_the_usual_variant_of_each_name_first(told: dict[str, Any]) -> None:
    ids = [one["id"] for one in told["catalog"] if one["alias"] != "home-assistant"]
    assert sorted(ids) == ["alphabet:cpu-fp32", "letters:cpu-fp32", "letters:cpu-int8", "vectors:cpu-fp32"]
    assert next(one["task"] for one in told["catalog"] if one["alias"] == "vectors") == "embeddings"
    first = next(one for one in told["catalog"] if one["alias"] == "letters")
    assert told["by_alias"] == first["id"]
    alphabet = next(one for one in told["catalog"] if one["alias"] == "alphabet")
    assert alphabet | {"file_size_mb": 0} == {
        "alias": "alphabet",
        "id": "alphabet:cpu-fp32",
        "version": "cpu-fp32",
        "execution_provider": "CPUExecutionProvider",
        "device_type": "CPU",
        "uri": "local://alphabet:cpu-fp32",
        "file_size_mb": 0,
        "supports_tool_calling": True,
        "prompt_template": {},
        "provider": "Local",
        "publisher": "",
        "license": "unknown",
        "task": "chat-completion",
        "ep_override": None,
    }
    assert alphabet["file_size_mb"] == 1


def test_the_sdk_finds_a_model_by_alias_id_and_device_and_no_other(told: dict[str, Any]) -> None:
    assert told["by_id"] == "letters:cpu-int8"
    assert told["by_device"] == "alphabet:cpu-fp32"
    assert told["on_gpu"] is None
    assert told["unknown"] is None
    assert told["not_here"] == "Model phi-4-mini not found in the catalog."


def test_to_the_sdk_what_is_installed_is_downloaded_and_never_outdated(told: dict[str, Any]) -> None:
    assert sorted(told["cached"]) == sorted(one["id"] for one in told["catalog"])
    assert told["upgradeable"] is False
    assert told["downloaded"] == told["upgraded"] == "alphabet:cpu-fp32"


def test_the_sdk_loads_and_unloads(told: dict[str, Any], service: dict[str, str]) -> None:
    assert told["loaded"] == ["alphabet:cpu-fp32"]
    assert told["second"] == "letters:cpu-int8"
    assert sorted(told["all"]) == ["alphabet:cpu-fp32", "letters:cpu-int8", "vectors:cpu-fp32"]
    assert told["left"] == []
    assert told["location"] == f"{service['FOUNDRY_LITE_HOME']}/models"


def test_the_courses_way_to_a_streamed_answer_works(told: dict[str, Any]) -> None:
    assert told["answer"] == tiny_model.ALPHABET


def test_programs_for_the_current_command_find_load_and_unload_as_they_do_there(
    told: dict[str, Any], service: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    def ask(*arguments: str) -> Any:
        assert main.run([*arguments, "-o", "json"], read_settings(service)) == 0
        return json.loads(capsys.readouterr().out)

    url = f"http://127.0.0.1:{service['FOUNDRY_LITE_PORT']}"
    status = ask("server", "status")
    assert status.items() >= {"running": True, "state": "ready", "webUrls": [url]}.items()
    assert datetime.now(UTC) - datetime.fromisoformat(status["startedAt"]) < timedelta(minutes=10)
    text = _foundry(service, "server", "status").stdout
    found = re.search(r"Web URLs\s+(https?://\S+)", text)
    assert found is not None
    assert found[1] == url
    assert re.findall(r"is running on (http://.*)\s+", text) == [f"{url}/openai/status"]  # what the SDK for C# reads
    assert ask("model", "load", "letters")["status"] == "loaded"
    (loaded,) = ask("model", "list", "--loaded")["models"]
    assert (loaded["alias"], loaded["loaded"]) == ("letters", True)
    assert ask("model", "unload", loaded["id"]) == {"model": loaded["id"], "status": "unloaded"}
    assert ask("model", "unload", loaded["id"])["status"] == "not_loaded"


def test_the_shim_starts_one_daemon_however_often_it_is_asked_and_stops_it(service: dict[str, str]) -> None:
    url = f"http://127.0.0.1:{service['FOUNDRY_LITE_PORT']}"
    starts = [
        subprocess.Popen([FOUNDRY, "service", "start"], env=service, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    said = [one.communicate(timeout=100)[0] for one in starts]
    assert all(re.search(r"http://(?:[a-zA-Z0-9.-]+):\d+", one) for one in said), said
    pid = httpx.get(f"{url}/status").json()["pid"]
    assert f"running on {url}/openai/status" in _foundry(service, "service", "status").stdout
    assert _foundry(service, "service", "stop").returncode == 0
    eventually(lambda: process_is_gone(pid))
    status = _foundry(service, "service", "status")
    assert (status.returncode, "http" in status.stdout) == (0, False)
    assert "not running" in status.stdout


def test_a_daemon_that_was_started_on_another_port_is_found_there(
    service: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    started = _foundry(service, "server", "start", "--port", "0", "--idle-timeout", "0", "-o", "json")
    port = json.loads(started.stdout)["port"]
    assert str(port) != service["FOUNDRY_LITE_PORT"]
    assert main.run(["service", "status"], read_settings(service)) == 0
    assert f":{port}/openai/status" in capsys.readouterr().out
    with pytest.raises(BadSetting) as refused:
        main.run(["server", "start", "--port", "1"], read_settings(service))
    assert "restart --port 1" in refused.value.hint
    restarted = _foundry(service, "server", "restart", "-o", "json")
    assert json.loads(restarted.stdout)["port"] == port, "it moves only when it is told to"
    (tmp_path / "service.port").write_text(str(port))
    assert main.run(["service", "status"], read_settings({**service, "FOUNDRY_LITE_HOME": str(tmp_path)})) == 0
    assert "not running" in capsys.readouterr().out
    assert main.run(["server", "stop"], read_settings(service)) == 0


def test_the_shim_takes_no_other_server_for_the_daemon(
    service: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        user = service | {"FOUNDRY_LITE_PORT": str(other.server_port), "FOUNDRY_LITE_HOME": str(tmp_path / "home")}
        assert main.run(["service", "status"], read_settings(user)) == 0
        assert "http" not in capsys.readouterr().out
        start = _foundry(user, "service", "start")
        other.shutdown()
    assert start.returncode == 1
    assert "cannot listen" in start.stderr


@pytest.fixture(scope="module")
def http(daemon: Daemon) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=daemon.url, timeout=30) as client:
        yield client


def test_external_url_of_the_sdk_1_x_works(http: httpx.Client) -> None:
    """What the SDK does with it: three GETs, the id quoted, 10 s of patience (1.0.0, Python)."""

    def ask(path: str, model: str = "") -> Any:
        return http.get(f"/models/{path}{quote(model)}", timeout=10).raise_for_status().json()

    assert ask("loaded") == []
    assert ask("load/", "alphabet:cpu-fp32") == {"status": "loaded"}
    assert ask("load/", "alphabet") == {"status": "already_loaded"}
    assert ask("loaded") == ["alphabet:cpu-fp32"]
    assert ask("unload/", "alphabet:cpu-fp32") == {"status": "unloaded"}
    assert ask("unload/", "alphabet:cpu-fp32") == {"status": "not_loaded"}
    with pytest.raises(httpx.HTTPStatusError, match="404"):
        ask("load/", "phi-4-mini-instruct-generic-cpu:5")


def test_status_says_where_the_daemon_and_its_models_are(daemon: Daemon, home: Path) -> None:
    pid = daemon.process.pid
    assert daemon.get("/status") == {"modelCachePath": str(home / "models"), "endpoints": [daemon.url], "pid": pid}
    old = {"endpoints": [daemon.url], "modelDirPath": str(home / "models"), "pipeName": None}
    assert daemon.get("/openai/status") == old


def _unload_in(daemon: Daemon) -> float | None:
    worker = daemon.worker("alphabet")
    assert worker is not None
    seconds: float | None = worker["unload_in_seconds"]
    return seconds


def test_a_model_is_kept_as_long_as_its_ttl_says(daemon: Daemon, http: httpx.Client) -> None:
    assert http.get("/openai/load/alphabet?ttl=60&ep=").content == b""
    assert 50 < (_unload_in(daemon) or 0) <= 60
    assert http.get("/openai/load/alphabet?unload=false&ep=CPU").status_code == 200
    assert _unload_in(daemon) is None
    assert http.get("/openai/unload/alphabet").content == b""
    assert daemon.get("/openai/loadedmodels") == []


def test_who_waits_no_longer_is_told_that_the_load_goes_on(daemon: Daemon, http: httpx.Client) -> None:
    refusal = http.get("/openai/load/alphabet?timeout=0.000001")
    assert refusal.status_code == 503
    assert "the load goes on" in refusal.json()["error"]["message"]
    eventually(lambda: daemon.get("/openai/loadedmodels") == ["alphabet:cpu-fp32"])
    assert http.get("/openai/load/alphabet?timeout=600").status_code == 200  # as the SDK for C# asks
    http.get("/openai/unload/alphabet")


def test_the_model_list_names_the_alias_where_clients_of_the_current_service_look_for_it(http: httpx.Client) -> None:
    parents = {one["id"]: one["parent"] for one in http.get("/v1/models").json()["data"]}
    assert parents["alphabet:cpu-fp32"] == "alphabet"


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("ttl=-1", "ttl"),
        ("ttl=1e3", "ttl"),
        ("ttl=99999999999", "ttl"),
        ("ep=cuda", "ep"),
        ("unload=maybe", "unload"),
        ("TTL=5", "TTL"),
    ],
)
def test_what_cannot_be_obeyed_of_a_load_is_refused_by_name(query: str, param: str, http: httpx.Client) -> None:
    refusal = http.get(f"/openai/load/alphabet?{query}")
    assert refusal.status_code == 400
    assert refusal.json()["error"]["param"] == param
    assert http.get("/openai/loadedmodels").json() == []


def test_a_chat_completion_takes_foundry_locals_own_fields(daemon: Daemon, http: httpx.Client) -> None:
    def ask(**fields: Any) -> httpx.Response:
        asked = {"model": "alphabet", "messages": [{"role": "user", "content": "a"}], "max_tokens": 2, **fields}
        return http.post("/v1/chat/completions", json=asked)

    everything = {"top_k": 5, "random_seed": 3, "ep": "CPU", "ttl": 60, "functions": [], "function_call": None}
    assert ask(**everything).status_code == 200
    assert 50 < (_unload_in(daemon) or 0) <= 60
    assert ask(ep="cuda").json()["error"]["param"] == "ep"
    http.get("/openai/unload/alphabet")


def test_the_count_of_a_completions_tokens_obeys_what_is_no_part_of_the_prompt_too(
    daemon: Daemon, http: httpx.Client
) -> None:
    def ask(**fields: Any) -> httpx.Response:
        asked = {"model": "alphabet", "messages": [{"role": "user", "content": "a"}], **fields}
        return http.post("/v1/chat/completions/tokenizer/encode/count", json=asked)

    assert ask(keep_alive=60).json() == {"tokenCount": 20}
    assert 50 < (_unload_in(daemon) or 0) <= 60
    assert ask(ep="cuda").json()["error"]["param"] == "ep"
    http.get("/openai/unload/alphabet")


def test_what_serves_requests_is_unloaded_only_by_force(
    daemon: Daemon, client: openai.OpenAI, http: httpx.Client
) -> None:
    stream = client.chat.completions.create(model="slow", messages=[{"role": "user", "content": "a"}], stream=True)
    next(iter(stream))
    http.get("/openai/load/alphabet")
    refusal = http.get("/openai/unloadall")
    assert refusal.status_code == 409
    assert "slow:cpu-fp32" in refusal.json()["error"]["message"]
    assert http.get("/openai/loadedmodels").json() == ["slow:cpu-fp32"]
    assert http.get("/models/unload/slow").status_code == 409
    assert http.get("/openai/unload/slow?force=true").status_code == 200
    assert http.get("/openai/loadedmodels").json() == []
    with pytest.raises(openai.APIError):
        list(stream)
    assert http.get("/openai/unloadall").content == b""


@pytest.mark.parametrize(
    "path", ["/openai/load/alphabet", "/openai/unload/a", "/openai/unloadall", "/models/load/alphabet"]
)
@pytest.mark.parametrize(
    "headers",
    [
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site", "sec-fetch-mode": "no-cors"},
        {"origin": "http://localhost:3000"},
    ],
)
def test_no_page_in_a_browser_can_load_or_unload(path: str, headers: dict[str, str], http: httpx.Client) -> None:
    refusal = http.get(path, headers=headers)
    assert (refusal.status_code, refusal.json()["error"]["code"]) == (403, "browser_refused")
    assert http.get("/models/loaded").json() == []


def test_head_reads_and_changes_nothing(http: httpx.Client) -> None:
    refusal = http.head("/openai/load/alphabet")
    assert (refusal.status_code, refusal.headers["allow"]) == (405, "GET")
    assert http.head("/models/unload/alphabet").status_code == 405
    assert http.get("/openai/loadedmodels").json() == []
    for path in ("/v1/models", "/v1/models/alphabet", "/foundry/list", "/openai/status"):
        whole = http.get(path)
        head = http.head(path)
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["content-length"] == whole.headers["content-length"]


def test_a_download_of_what_is_here_succeeds_and_of_anything_else_says_why_not(http: httpx.Client) -> None:
    wanted = {
        "Name": "alphabet:cpu-fp32",
        "Uri": "u",
        "ProviderType": "AzureFoundryLocal",
        "Publisher": "",
        "Path": None,
    }
    body = {"model": wanted, "token": None, "IgnorePipeReport": True}
    assert http.post("/openai/download", json=body).json() == {"success": True, "errorMessage": None}
    missing = http.post("/openai/download", json={"model": {"name": "phi-4-mini:4"}})
    assert missing.status_code == 404
    assert missing.json()["success"] is False
    assert "foundry-lite import" in missing.json()["errorMessage"]
    assert missing.json()["error"]["message"] == missing.json()["errorMessage"]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"model": {"Name": "alphabet"}, "customDirPath": "/tmp"}, "customDirPath"),
        ({"model": {"Name": "alphabet", "Sha": "1"}}, "model.Sha"),
        ({"model": {}}, "model.Name"),
        ({}, "model"),
    ],
)
def test_a_download_that_is_not_understood_is_refused_by_name(body: Any, param: str, http: httpx.Client) -> None:
    refusal = http.post("/openai/download", json=body)
    assert refusal.status_code == 400
    assert (refusal.json()["success"], refusal.json()["error"]["param"]) == (False, param)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/audio/transcriptions"),
        ("GET", "/openai/getgpudevice"),
        ("GET", "/openai/setgpudevice/0"),
        ("POST", "/openai/register"),
    ],
)
def test_what_is_not_offered_says_what_to_do_instead(method: str, path: str, http: httpx.Client) -> None:
    answer = http.request(method, path, json={} if method == "POST" else None)
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_offered")
    assert ":" in answer.json()["error"]["message"]


def test_only_the_administrator_ends_the_daemon(http: httpx.Client) -> None:
    for headers in ({}, {"authorization": "Bearer of bad news"}):
        refusal = http.post("/shutdown", headers=headers)
        assert (refusal.status_code, refusal.json()["error"]["type"]) == (401, "authentication_error")
    assert http.get("/health").json()["status"] == "ok"
